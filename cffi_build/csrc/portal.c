// SPDX-License-Identifier: MIT
#include <stdbool.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "portal.h"

/* CPUID leaf 7, ECX. */
#define MOVDIR64B_BIT (1u << 28)

bool iommufd_portal_has_movdir64b(void)
{
#if defined(__x86_64__)
	unsigned int eax, ebx, ecx, edx;

	return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ecx & MOVDIR64B_BIT);
#else
	return false;
#endif
}

void iommufd_portal_submit(void *portal, const void *descriptor)
{
#if defined(__x86_64__)
	/* MOVDIR64B is not ordered with earlier stores, which the device may have to see. */
	asm volatile("sfence\n\tmovdir64b (%1), %0" : : "r"(portal), "r"(descriptor) : "memory");
#else
	(void)portal;
	(void)descriptor;
#endif
}
