/* SPDX-License-Identifier: MIT */
/* Execute an instruction for each cache line. The functions are static, so that timed code inlines them. */

#define CACHE_LINE 64

#if defined(__x86_64__)
/* `start` is the address of the first line. CLFLUSHOPT and CLWB need the fences. */
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

/* Like the kernel's clflush_cache_range(): only fences order CLFLUSHOPT. */
static inline void flush_lines(volatile unsigned char *start, uint64_t length)
{
	ON_LINES("clflushopt", start, length);
}
