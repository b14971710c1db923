/* SPDX-License-Identifier: MIT */
/* The calls into the kernel. A variadic ioctl() in a cdef would use libffi and take twice the time. */

/* Returns ioctl()'s result, or -errno. */
int iommufd_uapi_ioctl(int fd, unsigned long request, void *arg);

/*
 * The two ioctls that programs issue in a loop. C fills in the structure, because cffi takes longer for that than the
 * kernel takes to map a page. Both return 0 or -errno. On success they write the IOVA, or the number of unmapped bytes,
 * to *answer. If Python raises a signal's exception before it stores the return value, *answer still has the result.
 */
int iommufd_uapi_ioas_map(int fd, uint32_t flags, uint32_t ioas_id, uint64_t user_va, uint64_t length, uint64_t iova,
			  uint64_t *answer);
int iommufd_uapi_ioas_unmap(int fd, uint32_t ioas_id, uint64_t iova, uint64_t length, uint64_t *answer);

/* An in-kernel user reads or writes by IOVA. Tests issue this operation ten thousand times, so C fills it in too. */
int iommufd_uapi_access_rw(int fd, uint32_t access_id, uint64_t iova, void *data, uint64_t length, uint32_t flags);

/* Returns 1 if CAP_IPC_LOCK of this thread is in effect, 0 if not, or -errno. */
int iommufd_uapi_ipc_lock(void);

/*
 * Puts CAP_IPC_LOCK of this thread into effect or out of it; without it, pinned pages count against RLIMIT_MEMLOCK.
 * Returns 0 or -errno.
 */
int iommufd_uapi_set_ipc_lock(_Bool effective);

/* Binds the pages of a range that are not present yet to one NUMA node. Returns 0 or -errno. */
int iommufd_uapi_memory_on_node(void *start, uint64_t length, uint32_t node);
