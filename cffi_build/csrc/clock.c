// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "clock.h"
#include "clock_read.h"

#define SLOW_READ_NS 1000 /* a read through a vDSO takes less than 100 ns */
#define COMPARISON_NS 50000000
#define TRIES 10

struct iommufd_clock iommufd_clock_state;

uint64_t iommufd_clock_ns(void)
{
	return clock_ns();
}

/* Whether the time stamp counter has one rate in all states of power and frequency. */
static bool has_constant_ticks(void)
{
#if defined(__x86_64__)
	unsigned int eax, ebx, ecx, edx;

	return __get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) && edx & 1 << 8; /* InvariantTSC */
#else
	return false;
#endif
}

static uint64_t fastest_read_ns(void)
{
	uint64_t fastest = UINT64_MAX;

	for (int i = 0; i < TRIES; i++) {
		uint64_t start = kernel_clock_ns(), ns = kernel_clock_ns() - start;

		if (ns < fastest)
			fastest = ns;
	}
	return fastest;
}

/* Read both clocks at the same moment, as far as possible: the fastest of some tries was disturbed least. */
static void read_both(uint64_t *ticks, uint64_t *ns)
{
	uint64_t fastest = UINT64_MAX;

	for (int i = 0; i < TRIES; i++) {
		uint64_t before = read_ticks(), now = kernel_clock_ns(), taken = read_ticks() - before;

		if (taken < fastest) {
			fastest = taken;
			*ticks = before + taken / 2;
			*ns = now;
		}
	}
}

bool iommufd_clock_choose(void)
{
	struct iommufd_clock *clock = &iommufd_clock_state;
	const struct timespec pause = { .tv_nsec = COMPARISON_NS };
	uint64_t end_ticks, end_ns;

	clock->ns_per_tick = 0;
	if (fastest_read_ns() < SLOW_READ_NS || !has_constant_ticks())
		return false;
	read_both(&clock->start_ticks, &clock->start_ns);
	nanosleep(&pause, NULL);
	read_both(&end_ticks, &end_ns);
	clock->ns_per_tick =
		(uint64_t)(((unsigned __int128)(end_ns - clock->start_ns) << 32) / (end_ticks - clock->start_ticks));
	return true;
}
