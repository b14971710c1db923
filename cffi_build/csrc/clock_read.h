/* SPDX-License-Identifier: MIT */
/*
 * Read the clock of clock.h. The functions are static, so that timed code inlines them: a call through the PLT is 2 % of
 * a small map on an emulated CPU.
 */

extern __attribute__((visibility("hidden"))) struct iommufd_clock iommufd_clock_state;

static inline uint64_t kernel_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return (uint64_t)now.tv_sec * 1000000000u + now.tv_nsec;
}

/* The time stamp counter, after all earlier instructions and before all later ones. */
static inline uint64_t read_ticks(void)
{
#if defined(__x86_64__)
	uint32_t low, high;

	asm volatile("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
#else
	return 0;
#endif
}

static inline uint64_t clock_ns(void)
{
	const struct iommufd_clock *clock = &iommufd_clock_state;

	if (!clock->ns_per_tick)
		return kernel_clock_ns();
	return clock->start_ns +
	       (uint64_t)((unsigned __int128)(read_ticks() - clock->start_ticks) * clock->ns_per_tick >> 32);
}
