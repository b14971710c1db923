/* SPDX-License-Identifier: MIT */
/* Submit descriptors to a device whose portal takes them as one write of 64 bytes. */

/* Returns whether user space of this machine has the instruction MOVDIR64B. */
_Bool iommufd_portal_has_movdir64b(void);

/* Writes 64 bytes to the portal, which must be aligned to 64 bytes, after all earlier stores of this CPU. */
void iommufd_portal_submit(void *portal, const void *descriptor);
