/* SPDX-License-Identifier: MIT */
/*
 * Run a prepared sequence of calls while the kernel fails one allocation in it. All memory of the
 * sequence exists before it starts, so that only these calls run between arming the failure and disarming it.
 */

enum {
	IOMMUFD_STEP_IOCTL = 0, /* ioctl(*fd, request, arg) */
	IOMMUFD_STEP_OPEN = 1, /* *fd = open(arg, O_RDWR) */
	IOMMUFD_STEP_CLOSE = 2, /* close(*fd), then *fd = -1 */
};

/* A value to copy from the result of an earlier step to the argument of a later one. */
struct iommufd_copy {
	const void *from;
	void *to;
	unsigned long bytes;
};

struct iommufd_step {
	unsigned int kind; /* IOMMUFD_STEP_... */
	unsigned int copies; /* number of copies before the call */
	const struct iommufd_copy *copy;
	int *fd;
	unsigned long request;
	void *arg;
	_Bool may_fail; /* the sequence continues even if the call fails */
};

/*
 * Run the steps in order until one fails. If nth is not 0, step number inject_from and the later ones run with the nth
 * allocation failing. nth_fd is an open /proc/thread-self/fail-nth of the calling thread, which arms the failure.
 * Returns 0 or the -errno of the failed step. *done is the number of steps before it, and *injected is whether an
 * allocation was made to fail.
 */
int iommufd_run_steps(const struct iommufd_step *steps, unsigned int count, unsigned int inject_from, int nth_fd,
		      unsigned int nth, unsigned int *done, _Bool *injected);
