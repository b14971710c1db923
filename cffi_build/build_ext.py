# SPDX-License-Identifier: MIT
"""Let setuptools compile a cffi build script named as an extension's source.

cffi has no key in pyproject.toml. This module does the work of its keyword in setup.py.
"""

import runpy
from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext as setuptools_build_ext


class build_ext(setuptools_build_ext):
    """`build_ext` that replaces a `.py` source by the C file that its `ffibuilder` emits."""

    def build_extension(self, ext: Extension) -> None:
        """Emit the C for *ext* below the build directory, then compile it."""
        script = Path(ext.sources[0])
        ffibuilder = runpy.run_path(str(script))["ffibuilder"]
        generated = Path(self.build_temp) / f"{ext.name}.c"
        generated.parent.mkdir(parents=True, exist_ok=True)
        ffibuilder.emit_c_code(str(generated))
        csrc = script.parent.resolve() / "csrc"
        ext.sources = [
            str(generated),
            *(str(csrc / name) for name in ("uapi.c", "bench.c", "clock.c", "cache.c", "fail_nth.c", "portal.c")),
        ]
        ext.include_dirs = [str(script.parent.resolve() / "abi"), str(csrc)]
        # The flags come from the build of Python. A debug build has -O0, which the timed loops must not have.
        ext.extra_compile_args = ["-std=gnu11", "-O2", "-Wall", "-Wextra"]
        super().build_extension(ext)
