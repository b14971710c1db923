/* SPDX-License-Identifier: MIT */
/* Cache lines of memory, one by one. Static, for who times them; cdef does not read this header. */

#define CACHE_LINE 64

#if defined(__x86_64__)
/* Execute an instruction for every line from `start`, the address of one, on. CLFLUSHOPT and CLWB need the fences. */
#define ON_LINES(instruction, start, length)                                                          \
	do {                                                                                          \
		asm volatile("mfence" ::: "memory");                                                  \
		for (uint64_t offset = 0; offset < (length); offset += CACHE_LINE)                    \
			asm volatile(instruction " %0" : "+m"((start)[offset]));                      \
		asm volatile("mfence" ::: "memory");                                                  \
	} while (0)
#else
#define ON_LINES(instruction, start, length) \
	do {                                 \
		(void)(start);               \
		(void)(length);              \
	} while (0)
#endif

/* As the kernel's clflush_cache_range(): CLFLUSHOPT is ordered by fences only. */
static inline void flush_lines(volatile unsigned char *start, uint64_t length)
{
	ON_LINES("clflushopt", start, length);
}
