# SPDX-License-Identifier: MIT
"""The lab: a real kernel, built here, booted under QEMU behind an emulated VT-d.

Modules, each standing on those before it:

* ``machine``: the virtual machine as data.
* ``kernellog``: finds panics, oopses and warnings in a kernel log.
* ``paths`` and ``host``: where things are kept; what this host can do.
* ``source``, ``config``, ``build``, ``kernel``: from an apt package or a tree to a cached, bootable image.
* ``guest`` and ``vm``: boot that image and run a command in it.
* ``doctor``: what is missing, and the command that mends it.
"""
