/* SPDX-License-Identifier: MIT */
/* The CPU's caches, as user space can act on them. */

/* An instruction for one cache line. */
enum iommufd_cache_op {
	IOMMUFD_CACHE_CLFLUSH, /* write it back if it is dirty, and drop it */
	IOMMUFD_CACHE_CLFLUSHOPT, /* the same, in any order */
	IOMMUFD_CACHE_CLWB, /* write it back if it is dirty */
};

/* Whether this machine has the instruction, for user space. */
_Bool iommufd_cache_has(enum iommufd_cache_op op);

/* Execute it for every line that holds a byte of the range, which must be mapped, between two fences. */
void iommufd_cache_execute(enum iommufd_cache_op op, void *start, uint64_t length);
