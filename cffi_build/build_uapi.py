# SPDX-License-Identifier: MIT
"""The ffibuilder of `iommufd_py._uapi`: the kernel's ABI (abi/), and the code that must be in C (csrc/).

cdef and the C compiler read the same headers. cdef accepts no directives, so the headers declare constants as
enumerators, and this module defines the fixed-width types for cdef.
"""

import re
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
HEADERS = (
    "abi/iommufd.h",
    "abi/iommufd_test.h",
    "abi/vfio.h",
    "csrc/uapi.h",
    "csrc/clock.h",
    "csrc/bench.h",
    "csrc/cache.h",
    "csrc/fail_nth.h",
    "csrc/portal.h",
)

# The definitions of <linux/types.h> for architectures with 8-byte alignment of u64, such as x86-64 and arm64.
TYPES = """
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef signed int __s32;
typedef unsigned long long __u64;
typedef unsigned long long __aligned_u64;
typedef unsigned long long __aligned_le64;
"""

texts = [(HERE / header).read_text() for header in HEADERS]
declarations = re.sub(r"^#.*\n", "", "".join(texts), flags=re.MULTILINE)

# `}; /* N bytes */` after a structure becomes an assertion for the compiler.
sizes = re.findall(r"^struct (\w+) \{.*?^\}; /\* (\d+) bytes \*/$", declarations, flags=re.MULTILINE | re.DOTALL)
assertions = [f'_Static_assert(sizeof(struct {name}) == {size}, "struct {name}");' for name, size in sizes]
# Requests are numbers, which are right if _IO() is type << 8 | number. On alpha, mips, powerpc and sparc it is not.
assertions.append('_Static_assert(IOMMU_DESTROY == _IO(IOMMUFD_TYPE, IOMMUFD_CMD_DESTROY), "_IO");')

source = ["#include <linux/ioctl.h>", *(f'#include "{Path(header).name}"' for header in HEADERS), *assertions]

ffibuilder = FFI()
ffibuilder.cdef(TYPES + declarations)
ffibuilder.set_source("iommufd_py._uapi", "\n".join(source))
