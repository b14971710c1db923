# SPDX-License-Identifier: MIT
"""The lab: a real kernel, built here, booted under QEMU behind an emulated VT-d.

* Data and text: ``machine`` (the virtual machine), ``guest`` (the script it runs), ``config`` (the kernel's
  configuration), ``kernellog`` (panics and warnings in a log), ``tap`` (reports of selftests).
* The host: ``paths``, ``host``, ``process`` (children that do not outlive us, locks), ``progress``.
* From a package or a tree to an image: ``apt``, ``source``, ``build``, ``cache``, and ``kernel`` in front of them.
* From an image to a result: ``qemu``, ``runs``, and ``vm`` in front of them; ``selftest`` on top.
* ``doctor``: what is missing, and the command that mends it.
"""
