/* SPDX-License-Identifier: MIT */
/*
 * Included before the first line of every selftest that is built for a debug kernel. The harness gives a case 30 s,
 * which is enough on a CPU of silicon: KASAN on an emulated one takes 28 s for the longest. A macro counts as it is
 * defined where it is used, so this one holds for all cases, and the sources stay as they are.
 */
#include "kselftest_harness.h"
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 600
