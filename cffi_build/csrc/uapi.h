/* SPDX-License-Identifier: MIT */
/* The one way into the kernel. A variadic ioctl() in a cdef would go through libffi at twice the cost. */

/* Returns ioctl()'s result, or -errno. */
int iommufd_uapi_ioctl(int fd, unsigned long request, void *arg);

/*
 * Puts CAP_IPC_LOCK of this thread into effect or out of it; without it, pinned pages count against RLIMIT_MEMLOCK.
 * Returns 0 or -errno.
 */
int iommufd_uapi_set_ipc_lock(_Bool effective);
