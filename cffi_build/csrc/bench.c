// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>

#include "bench.h"
#include "clock.h"
#include "clock_read.h"
#include "lines.h"

/* Size of the part of the buffer that is prepared last. Disturbances of its preparation count for the sample. */
#define LAST_PREPARED_BYTES (4 << 20)

void iommufd_bench_clock(uint64_t *ns, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint64_t start = clock_ns();

		ns[i] = clock_ns() - start;
	}
}

/* --- the buffer's cache lines ----------------------------------------------------------------------------------- */

static void write_lines(volatile unsigned char *start, uint64_t length)
{
	for (uint64_t offset = 0; offset < length; offset += CACHE_LINE)
		start[offset]++;
}

static void read_lines(const volatile unsigned char *start, uint64_t length)
{
	for (uint64_t offset = 0; offset < length; offset += CACHE_LINE)
		(void)start[offset];
}

static void prepare_lines(void *buffer, uint64_t length, enum iommufd_bench_cache cache)
{
	switch (cache) {
	case IOMMUFD_BENCH_UNTOUCHED:
		break;
	case IOMMUFD_BENCH_DIRTY:
		write_lines(buffer, length);
		break;
	case IOMMUFD_BENCH_CLEAN:
		flush_lines(buffer, length);
		read_lines(buffer, length);
		break;
	case IOMMUFD_BENCH_EVICTED:
		flush_lines(buffer, length);
		break;
	}
}

void iommufd_bench_flush(void *buffer, uint64_t length, enum iommufd_bench_cache cache, uint64_t *ns, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint64_t start;

		prepare_lines(buffer, length, cache);
		start = clock_ns();
		flush_lines(buffer, length);
		ns[i] = clock_ns() - start;
	}
}

/* --- the loop --------------------------------------------------------------------------------------------------- */

static uint64_t *field(const struct iommufd_bench_step *step, const struct iommufd_bench_move *move)
{
	return (uint64_t *)((char *)step->issued + move->offset);
}

static void prepare_argument(const struct iommufd_bench_step *step, uint64_t place)
{
	if (step->argument_bytes)
		memcpy(step->issued, step->argument, step->argument_bytes);
	if (step->id_from)
		memcpy((char *)step->issued + step->id_offset, step->id_from, sizeof(*step->id_from));
	for (int i = 0; i < 2; i++)
		if (step->moves[i].offset)
			*field(step, &step->moves[i]) += place * step->moves[i].per_round;
}

static int issue_all(const struct iommufd_bench_step *step)
{
	for (uint32_t call = 1;; call++) {
		if (ioctl(step->fd, step->request, step->issued) < 0)
			return -errno;
		if (call == step->calls)
			return 0;
		for (int i = 0; i < 2; i++)
			if (step->moves[i].offset)
				*field(step, &step->moves[i]) += step->moves[i].per_call;
	}
}

/* The disturbances of this thread since the last call. */
static uint8_t new_disturbances(struct iommufd_bench_loop *loop)
{
	struct rusage usage;
	uint64_t switches, faults;
	uint8_t flags = 0;

	getrusage(RUSAGE_THREAD, &usage);
	switches = usage.ru_nvcsw + usage.ru_nivcsw;
	faults = usage.ru_minflt + usage.ru_majflt;
	if (switches != loop->switches)
		flags |= IOMMUFD_BENCH_SWITCHED;
	if (faults != loop->faults)
		flags |= IOMMUFD_BENCH_FAULTED;
	loop->switches = switches;
	loop->faults = faults;
	return flags;
}

/*
 * Prepare the buffer's lines, and forget the disturbances of the preparation, which do not belong to the sample.
 * new_disturbances() makes a system call, which leaves the kernel's code in the caches: the next ioctl would be some
 * percent faster. So the last lines are prepared again after the call. The preparation of a small buffer is short, and
 * the call is made before its first sample only.
 */
static void prepare_buffer(struct iommufd_bench_loop *loop, const struct iommufd_bench_step *step)
{
	uint64_t last = loop->buffer_bytes < LAST_PREPARED_BYTES ? loop->buffer_bytes : LAST_PREPARED_BYTES;
	bool is_long = loop->cache != IOMMUFD_BENCH_UNTOUCHED && loop->buffer_bytes > last;

	if (is_long || !step->fastest) {
		prepare_lines(loop->buffer, loop->buffer_bytes, loop->cache);
		new_disturbances(loop);
	}
	prepare_lines((char *)loop->buffer + loop->buffer_bytes - last, last, loop->cache);
}

/*
 * Return the disturbances of a sample. A context switch or a page fault takes at least a microsecond. A sample within a
 * microsecond of the fastest one therefore had neither, and this function asks the kernel only about the other samples,
 * and about the first sample of a step.
 */
static uint8_t disturbances_of(struct iommufd_bench_loop *loop, struct iommufd_bench_step *step, uint64_t ns)
{
	bool first = !step->fastest;

	if (first || ns < step->fastest)
		step->fastest = ns;
	return !first && ns < step->fastest + 1000 ? 0 : new_disturbances(loop);
}

/*
 * Threads that start together find the lock contended from the first sample on. A thread that died before it came here
 * must not keep the others spinning: they give up at the deadline.
 */
static bool pass_gate(uint32_t *gate, uint64_t patience_ns)
{
	uint64_t deadline = clock_ns() + patience_ns;

	__atomic_sub_fetch(gate, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(gate, __ATOMIC_ACQUIRE)) {
		if (clock_ns() > deadline)
			return false;
		sched_yield();
	}
	return true;
}

int iommufd_bench_run(struct iommufd_bench_loop *loop, uint32_t count)
{
	if (loop->gate && !pass_gate(loop->gate, loop->patience_ns)) {
		loop->failed_step = loop->step_count;
		return -ETIMEDOUT;
	}
	new_disturbances(loop);
	for (uint32_t i = 0; i < count; i++, loop->rounds++) {
		for (uint32_t s = 0; s < loop->step_count; s++) {
			struct iommufd_bench_step *step = &loop->steps[s];
			uint64_t start;
			int ret;

			prepare_argument(step, loop->rounds % loop->places);
			prepare_buffer(loop, step);

			start = clock_ns();
			ret = issue_all(step);
			step->ns[i] = clock_ns() - start;

			step->disturbances[i] = disturbances_of(loop, step, step->ns[i]);
			if (ret) {
				loop->failed_step = s;
				return ret;
			}
		}
	}
	return 0;
}
