/* SPDX-License-Identifier: MIT */
/* The one way into the kernel. A variadic ioctl() in a cdef would go through libffi at twice the cost. */

/* Returns ioctl()'s result, or -errno. */
int iommufd_uapi_ioctl(int fd, unsigned long request, void *arg);

/*
 * The two ioctls that programs issue in a loop. C fills in the structure: cffi takes longer to fill one than the kernel
 * to map a page. Both return 0 or -errno. A success writes the IOVA, or the bytes unmapped, to *answer. Python may raise
 * a signal's exception before it stores a return value, and *answer still tells that the kernel did its work.
 */
int iommufd_uapi_ioas_map(int fd, uint32_t flags, uint32_t ioas_id, uint64_t user_va, uint64_t length, uint64_t iova,
			  uint64_t *answer);
int iommufd_uapi_ioas_unmap(int fd, uint32_t ioas_id, uint64_t iova, uint64_t length, uint64_t *answer);

/* The same for an operation that tests issue ten thousand times: an in-kernel user reads or writes by IOVA. */
int iommufd_uapi_access_rw(int fd, uint32_t access_id, uint64_t iova, void *data, uint64_t length, uint32_t flags);

/* Whether CAP_IPC_LOCK of this thread is in effect, or -errno. */
int iommufd_uapi_ipc_lock(void);

/*
 * Puts CAP_IPC_LOCK of this thread into effect or out of it; without it, pinned pages count against RLIMIT_MEMLOCK.
 * Returns 0 or -errno.
 */
int iommufd_uapi_set_ipc_lock(_Bool effective);

/* Binds memory that is not yet present to one NUMA node. Returns 0 or -errno. */
int iommufd_uapi_memory_on_node(void *start, uint64_t length, uint32_t node);
