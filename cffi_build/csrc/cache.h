/* SPDX-License-Identifier: MIT */
/* Flush the CPU's caches from user space. */

/* An instruction for one cache line. */
enum iommufd_cache_op {
	IOMMUFD_CACHE_CLFLUSH, /* write the line back if it is dirty, and drop it */
	IOMMUFD_CACHE_CLFLUSHOPT, /* the same, but not ordered with other flushes */
	IOMMUFD_CACHE_CLWB, /* write the line back if it is dirty, and keep it */
};

/* Returns whether user space of this machine has the instruction. */
_Bool iommufd_cache_has(enum iommufd_cache_op op);

/* Executes the instruction for every line of the range, between two fences. The range must be mapped. */
void iommufd_cache_execute(enum iommufd_cache_op op, void *start, uint64_t length);
