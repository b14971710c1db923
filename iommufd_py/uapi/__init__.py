# SPDX-License-Identifier: MIT
"""One function per ioctl: fills ``size``/``argsz``, returns the out-fields, raises errors by meaning. No policy.

The modules mirror the headers in cffi_build/abi; arguments carry the names of the structures' fields.
"""
