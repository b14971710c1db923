#!/bin/sh
# SPDX-License-Identifier: MIT
# kselftest wrapper: the kernel that runs, on the mock driver. KTAP on stdout; 0 pass, 1 fail, 4 skip.
skip() {
    echo "TAP version 13"
    echo "1..0 # SKIP $1"
    exit 4
}

command -v iommufd >/dev/null || skip "iommufd-py is not installed"
status=0
results=$(iommufd validate --ktap) || status=$?
# Nothing can be seen on a kernel that neither has the probes nor counts its flushes; stderr says why.
[ -n "$results" ] || [ "$status" -ne 4 ] || skip "the flushes of this kernel cannot be observed"
echo "$results"
exit "$status"
