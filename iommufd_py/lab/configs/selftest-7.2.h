/* SPDX-License-Identifier: MIT */
/*
 * Included before the first line of every selftest of 7.2. In Debian's 7.2.12 the vfio selftests call calloc_assert(),
 * which 7.3 defines and 7.2.12 does not.
 */
#define calloc_assert(count, size) ({			\
	void *_memory = calloc(count, size);		\
	VFIO_ASSERT_NOT_NULL(_memory, "calloc()");	\
	_memory;					\
})
