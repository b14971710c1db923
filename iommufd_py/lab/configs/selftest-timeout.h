/* SPDX-License-Identifier: MIT */
/*
 * Included before the first line of every selftest for a debug kernel. The harness stops a case after 30 s. On an
 * emulated CPU with KASAN the longest case takes 28 s, and more on a busy host. A macro is expanded where it is used, so
 * the definition below applies to all cases, and the sources stay unchanged.
 */
#include "kselftest_harness.h"
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 600
