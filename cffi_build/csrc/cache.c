// SPDX-License-Identifier: MIT
#include <stdbool.h>
#include <stdint.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "cache.h"
#include "lines.h"

bool iommufd_cache_has(enum iommufd_cache_op op)
{
#if defined(__x86_64__)
	unsigned int eax, ebx, ecx, edx;

	/* CLFLUSH belongs to SSE2, which every x86-64 CPU has. */
	if (op == IOMMUFD_CACHE_CLFLUSH)
		return true;
	return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
	       (ebx & (op == IOMMUFD_CACHE_CLWB ? bit_CLWB : bit_CLFLUSHOPT));
#else
	(void)op;
	return false;
#endif
}

void iommufd_cache_execute(enum iommufd_cache_op op, void *start, uint64_t length)
{
	uint64_t before = (uintptr_t)start % CACHE_LINE;
	volatile unsigned char *first = (unsigned char *)start - before;

	if (!length)
		return;
	length += before;
	switch (op) {
	case IOMMUFD_CACHE_CLFLUSH:
		ON_LINES("clflush", first, length);
		break;
	case IOMMUFD_CACHE_CLFLUSHOPT:
		ON_LINES("clflushopt", first, length);
		break;
	case IOMMUFD_CACHE_CLWB:
		ON_LINES("clwb", first, length);
		break;
	}
}
