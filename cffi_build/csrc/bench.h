/* SPDX-License-Identifier: MIT */
/*
 * Timed loops: clock, ioctls, clock, with nothing of Python between two clock reads.
 *
 * Every operation of the benchmark is a round of steps: map and unmap, a HWPT made and destroyed, and so on. A step's
 * structure comes from the caller, so this code does not depend on any ioctl.
 */

/* What is done to every cache line of the buffer before each step, outside the timed part. */
enum iommufd_bench_cache {
	IOMMUFD_BENCH_UNTOUCHED,
	IOMMUFD_BENCH_DIRTY, /* written */
	IOMMUFD_BENCH_CLEAN, /* flushed, then read */
	IOMMUFD_BENCH_EVICTED, /* flushed */
};

/* The disturbances of a sample, as bits. */
enum {
	IOMMUFD_BENCH_SWITCHED = 1, /* the thread was switched away from */
	IOMMUFD_BENCH_FAULTED = 2, /* it took a page fault */
};

/* A 64-bit field of a step's structure that does not stay the same. */
struct iommufd_bench_move {
	uint64_t offset; /* in bytes; 0, where every structure has its size, for none */
	uint64_t per_call; /* added from one call of a sample to the next */
	uint64_t per_round; /* added from one round to the next, until the first place comes round again */
};

/* One sample of a step is the time of `calls` ioctls, one behind the other. */
struct iommufd_bench_step {
	uint64_t request;
	const void *argument; /* as the first call of the first round has it; a copy is issued */
	void *issued; /* room for that copy; or the argument itself, */
	uint64_t argument_bytes; /* if this is 0: a number, not a pointer */
	const uint32_t *id_from; /* an object id that an earlier step brought back, or NULL */
	uint64_t id_offset; /* where this step wants it */
	struct iommufd_bench_move moves[2];
	uint64_t *ns; /* room for `count` samples */
	uint8_t *disturbances; /* and for the disturbances of each */
	uint64_t fastest; /* sample so far, 0 before the first */
	uint32_t calls;
	int32_t fd;
};

struct iommufd_bench_loop {
	struct iommufd_bench_step *steps;
	void *buffer;
	uint64_t buffer_bytes;
	uint64_t places; /* rounds after which moving fields are back at their first place */
	uint32_t *gate; /* threads still to arrive before all start, or NULL */
	uint64_t patience_ns; /* how long to wait there for the other threads */
	uint32_t step_count;
	enum iommufd_bench_cache cache;
	uint64_t rounds; /* done so far, over all calls */
	uint64_t switches, faults; /* of the thread when it was last looked at */
	uint32_t failed_step; /* out */
};

/* Monotonic time in nanoseconds, not slewed by NTP: the clock of all samples. */
uint64_t iommufd_bench_clock_ns(void);

/*
 * Go `count` rounds through the steps. Returns 0, or the -errno of the first ioctl that failed; the loop tells in which
 * step of which round. If another thread does not arrive at the gate, returns -ETIMEDOUT and `failed_step` is
 * `step_count`.
 */
int iommufd_bench_run(struct iommufd_bench_loop *loop, uint32_t count);

/* Floor: the time between two clock reads with nothing between them. */
void iommufd_bench_clock(uint64_t *ns, uint32_t count);

/*
 * Floor: flush every cache line of a buffer, brought into the state `cache` before, outside the timed part. It takes
 * CLFLUSHOPT, as IOMMUFD_BENCH_CLEAN and _EVICTED do.
 */
void iommufd_bench_flush(void *buffer, uint64_t length, enum iommufd_bench_cache cache, uint64_t *ns, uint32_t count);
