# SPDX-License-Identifier: MIT
"""The lab: build real kernels, and run commands on them under QEMU with an emulated VT-d, or as User-Mode Linux.

* Data and text: ``machine`` (the machines), ``guest`` (the script of a guest), ``config`` (the kernel's
  configuration), ``kernellog`` (panics and warnings in a log), ``tap`` (reports of selftests).
* The host: ``paths``, ``host``, ``process`` (child processes and locks), ``confine`` (write protection for children),
  ``progress``.
* From a package or a tree to an image: ``apt``, ``source``, ``build``, ``cache``; ``kernel`` calls them.
* From an image to a result: ``qemu`` and ``vm`` for the machine with VT-d, ``native`` for User-Mode Linux, ``runs`` for
  the parts of both; ``selftest`` and ``tables`` use them.
* ``doctor``: everything that is missing, and the command that fixes it.
"""
