#!/bin/sh
# SPDX-License-Identifier: MIT
# kselftest wrapper: the kernel that runs, on the mock driver. KTAP on stdout; 0 pass, 1 fail, 4 skip.
if ! command -v iommufd >/dev/null; then
    echo "1..0 # SKIP iommufd-py is not installed"
    exit 4
fi
exec iommufd validate --ktap
