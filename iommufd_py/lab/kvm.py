# SPDX-License-Identifier: MIT
"""Decide whether guests can use KVM on this machine."""

import os
from pathlib import Path

from iommufd_py.base.sysfs import cpuinfo_field


def kvm_problem() -> str | None:
    """Return why guests run on an emulated CPU here, or None if KVM can be used.

    An openable /dev/kvm is not enough. Inside some virtual machines KVM opens and makes a virtual CPU, and the guest
    dies on its first instruction. Such hosts do not show the CPU flag.
    """
    flags = cpuinfo_field(Path("/proc/cpuinfo").read_text("utf-8", "replace"), "flags")
    if not {"vmx", "svm"} & set(flags.split()):
        return "the CPU shows neither vmx nor svm in /proc/cpuinfo"
    if not os.path.exists("/dev/kvm"):
        return "there is no /dev/kvm; load kvm_intel or kvm_amd"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "there is no permission to open /dev/kvm; add yourself to the group kvm"
    return None
