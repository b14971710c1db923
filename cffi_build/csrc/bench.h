/* SPDX-License-Identifier: MIT */
/* Timed loops: clock, ioctl, clock, with nothing of Python between two clock reads. */

/* Monotonic time in nanoseconds, not slewed by NTP: the clock of all samples. */
uint64_t iommufd_bench_clock_ns(void);

/*
 * Map [user_va, user_va + length) at iova and unmap it again, count times, and store how long each of
 * the two ioctls took. Before each map one byte of every cache line of the buffer is written, outside
 * the timed part, so that the lines are dirty as far as the caches hold them.
 * Returns 0, or the -errno of the first ioctl that failed, with *done the number of whole rounds.
 */
int iommufd_bench_map_unmap(int fd, uint32_t ioas_id, void *user_va, uint64_t length, uint64_t iova, uint32_t count,
			    uint64_t *map_ns, uint64_t *unmap_ns, uint32_t *done, _Bool *in_unmap);

/* The floor: count times an ioctl that does nothing but read an option of the IOAS. Returns 0 or -errno. */
int iommufd_bench_empty_ioctl(int fd, uint32_t ioas_id, uint32_t count, uint64_t *ns);
