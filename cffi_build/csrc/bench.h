/* SPDX-License-Identifier: MIT */
/*
 * Timed loops: read the clock, issue ioctls, read the clock. No Python runs between two clock reads.
 *
 * Every operation of the benchmark is a round of steps: map and unmap, a HWPT made and destroyed, and so on. A step's
 * structure comes from the caller, so this code does not depend on any ioctl.
 */

/* The preparation of every cache line of the buffer before each step, outside the timed part. */
enum iommufd_bench_cache {
	IOMMUFD_BENCH_UNTOUCHED,
	IOMMUFD_BENCH_DIRTY, /* written */
	IOMMUFD_BENCH_CLEAN, /* flushed, then read */
	IOMMUFD_BENCH_EVICTED, /* flushed */
};

/* The disturbances of a sample, as bits. */
enum {
	IOMMUFD_BENCH_SWITCHED = 1, /* the thread lost the CPU */
	IOMMUFD_BENCH_FAULTED = 2, /* the thread took a page fault */
};

/* A 64-bit field of a step's structure that changes. */
struct iommufd_bench_move {
	uint64_t offset; /* in bytes; 0 for no field, because every structure starts with its size */
	uint64_t per_call; /* added from one call of a sample to the next */
	uint64_t per_round; /* added from one round to the next, until the fields start again */
};

/* One sample of a step is the time of `calls` consecutive ioctls. */
struct iommufd_bench_step {
	uint64_t request;
	const void *argument; /* argument of the first call of the first round; the loop issues a copy */
	void *issued; /* room for that copy; or the argument itself, a number, */
	uint64_t argument_bytes; /* if this is 0 */
	const uint32_t *id_from; /* an object id from the result of an earlier step, or NULL */
	uint64_t id_offset; /* its offset in the argument of this step */
	struct iommufd_bench_move moves[2];
	uint64_t *ns; /* room for `count` samples */
	uint8_t *disturbances; /* disturbances of each sample */
	uint64_t fastest; /* the fastest sample so far, 0 before the first one */
	uint32_t calls;
	int32_t fd;
};

struct iommufd_bench_loop {
	struct iommufd_bench_step *steps;
	void *buffer;
	uint64_t buffer_bytes;
	uint64_t places; /* number of rounds after which the moving fields start again */
	uint32_t *gate; /* threads still to arrive before all start, or NULL */
	uint64_t patience_ns; /* how long to wait at the gate for the other threads */
	uint32_t step_count;
	enum iommufd_bench_cache cache;
	uint64_t rounds; /* number of rounds so far, over all calls */
	uint64_t switches, faults; /* counts of the thread at the last check */
	uint32_t failed_step; /* out */
};

/*
 * Run `count` rounds of the steps. Returns 0, or the -errno of the first failed ioctl, whose place is `rounds` and
 * `failed_step` of the loop. If another thread does not arrive at the gate, returns -ETIMEDOUT and `failed_step` is
 * `step_count`.
 */
int iommufd_bench_run(struct iommufd_bench_loop *loop, uint32_t count);

/* Measures the floor of all samples: the time between two consecutive clock reads. */
void iommufd_bench_clock(uint64_t *ns, uint32_t count);

/*
 * Measures the time to flush every cache line of a buffer. Before each flush, outside the timed part, the lines get the
 * state `cache`. This needs CLFLUSHOPT, like IOMMUFD_BENCH_CLEAN and _EVICTED.
 */
void iommufd_bench_flush(void *buffer, uint64_t length, enum iommufd_bench_cache cache, uint64_t *ns, uint32_t count);
