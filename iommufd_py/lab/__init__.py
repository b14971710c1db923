# SPDX-License-Identifier: MIT
"""The lab: build real kernels, and run commands on them under QEMU with an emulated VT-d, or as User-Mode Linux.

* Data and text: ``machine`` (the machines), ``guest`` (the script of a guest), ``config`` (the kernel's
  configuration), ``tap`` (reports of selftests), ``mutation`` (small changes of a kernel series), ``errors``.
* The host: ``paths``, ``kvm``, ``process`` (child processes and locks), ``confine`` (write protection for children),
  ``progress``, ``records`` (JSON files of the cache), ``space`` (disk space).
* From a package or a tree to an image: ``apt``, ``source``, ``build``, ``cache``; ``kernel`` calls them. ``emulators``
  builds the emulator with CPU caches.
* From an image to a result: ``qemu`` and ``vm`` for the machine with VT-d, ``native`` for User-Mode Linux, ``runs`` for
  the parts of both. ``warm`` keeps a guest up for several commands, and ``together`` runs several guests at the same
  time. ``selftest``, ``tables`` and ``bisect`` use them.
* ``doctor``: everything that is missing, and the command that fixes it.
"""
