/* SPDX-License-Identifier: MIT */
/* The clock of all samples. */

/* The state of the clock. Only clock.c writes it. */
struct iommufd_clock {
	uint64_t ns_per_tick; /* of the time stamp counter, times 2^32; 0 if the clock is CLOCK_MONOTONIC_RAW */
	uint64_t start_ticks, start_ns; /* one moment, by the counter and by CLOCK_MONOTONIC_RAW */
};

/*
 * Chooses the clock; call it once, before the first read, while no other thread reads the clock. The kernel's clock is
 * CLOCK_MONOTONIC_RAW. Without a vDSO, as in a User-Mode Linux guest, each read of it is a system call that takes longer
 * than most ioctls. There the clock is the CPU's time stamp counter, if its rate is constant: the counter is compared
 * with CLOCK_MONOTONIC_RAW for 50 ms. Returns whether the clock is the counter.
 */
_Bool iommufd_clock_choose(void);

/* Monotonic time in nanoseconds, not slewed by NTP. */
uint64_t iommufd_clock_ns(void);
