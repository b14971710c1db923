# SPDX-License-Identifier: MIT
"""Submit descriptors to a device whose portal takes them as one write of 64 bytes."""

from iommufd_py.uapi.ffi import ffi, lib

PORTAL_WRITE_BYTES = 64
"""Size of one write to a portal."""


def has_movdir64b() -> bool:
    """Return whether user space of this machine has MOVDIR64B, the instruction for such a write."""
    return bool(lib.iommufd_portal_has_movdir64b())


def submit_descriptor(user_va: int, descriptor: bytes) -> None:
    """Write a descriptor of 64 bytes to the portal that is mapped at *user_va*, by one MOVDIR64B.

    The processor raises SIGILL without that instruction, and SIGSEGV at an address that is no multiple of 64.
    """
    assert len(descriptor) == PORTAL_WRITE_BYTES
    lib.iommufd_portal_submit(ffi.cast("void *", user_va), ffi.from_buffer(descriptor))
