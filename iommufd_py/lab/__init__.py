# SPDX-License-Identifier: MIT
"""The lab: a real kernel, built here, booted under QEMU behind an emulated VT-d, or run as a process.

* Data and text: ``machine`` (the machines), ``guest`` (the script it runs), ``config`` (the kernel's
  configuration), ``kernellog`` (panics and warnings in a log), ``tap`` (reports of selftests).
* The host: ``paths``, ``host``, ``process`` (children that do not outlive us, locks), ``confine``
  (what they may write), ``progress``.
* From a package or a tree to an image: ``apt``, ``source``, ``build``, ``cache``, and ``kernel`` in front of them.
* From an image to a result: ``qemu`` and ``vm`` behind VT-d, ``native`` without one, ``runs`` for what both have;
  ``selftest`` on top.
* ``doctor``: what is missing, and the command that mends it.
"""
