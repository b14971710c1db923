#!/bin/sh
# SPDX-License-Identifier: MIT
# kselftest wrapper: validate the running kernel with the mock driver.
# KTAP on stdout; exit status 0 pass, 1 fail, 4 skip.
skip() {
    echo "TAP version 13"
    echo "1..0 # SKIP $1"
    exit 4
}

command -v iommufd >/dev/null || skip "iommufd-py is not installed"
status=0
results=$(iommufd validate --ktap) || status=$?
# A kernel without probes and without a count of its flushes gives no results; see stderr.
[ -n "$results" ] || [ "$status" -ne 4 ] ||
    skip "the flushes of this kernel cannot be observed"
echo "$results"
exit "$status"
