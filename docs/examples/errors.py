# SPDX-License-Identifier: MIT
"""Show the parts of an error: ioctl, arguments, errno, cause and remedy.

iommufd lab run --native -- python docs/examples/errors.py
"""

import errno

from iommufd_py import AlreadyMappedError, ClosedError, DmaBuffer, Iommufd, IommufdError

with Iommufd() as iommufd, DmaBuffer(4096) as buffer:
    ioas = iommufd.alloc_ioas()
    ioas.map(buffer, 0x10000)
    try:
        ioas.map(buffer, 0x10000)
    except AlreadyMappedError as error:  # a class for the meaning
        print(error)
        assert error.errno == errno.EEXIST
        print(error.ioctl, error.errno_name, error.arguments["iova"])
    try:
        ioas.unmap(0x20000, 4096)
    except IommufdError as error:  # the base of all of them, and an OSError
        print(error)
    ioas.close()
    try:
        ioas.map(buffer, 0x20000)
    except ClosedError as error:
        print(error)
