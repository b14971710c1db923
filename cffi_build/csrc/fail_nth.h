/* SPDX-License-Identifier: MIT */
/*
 * Run a prepared sequence of calls while the kernel fails one allocation in it. All that the sequence needs is there
 * before it starts, so that nothing but these calls is between arming the failure and disarming it.
 */

enum {
	IOMMUFD_STEP_IOCTL = 0, /* ioctl(*fd, request, arg) */
	IOMMUFD_STEP_OPEN = 1, /* *fd = open(arg, O_RDWR) */
	IOMMUFD_STEP_CLOSE = 2, /* close(*fd), then *fd = -1 */
};

/* What an earlier step gave out and a later one takes in. */
struct iommufd_copy {
	const void *from;
	void *to;
	unsigned long bytes;
};

struct iommufd_step {
	unsigned int kind; /* IOMMUFD_STEP_... */
	unsigned int copies; /* done before the call */
	const struct iommufd_copy *copy;
	int *fd;
	unsigned long request;
	void *arg;
	_Bool may_fail; /* the sequence goes on in any case */
};

/*
 * Run the steps in order until one fails. Before step number inject_from, and if nth is not 0, the nth allocation from
 * there on is told to fail, through nth_fd, an open /proc/thread-self/fail-nth of the calling thread.
 * Returns 0 or the -errno of the step that failed, with *done the number of steps before it and *injected telling
 * whether an allocation was made to fail.
 */
int iommufd_run_steps(const struct iommufd_step *steps, unsigned int count, unsigned int inject_from, int nth_fd,
		      unsigned int nth, unsigned int *done, _Bool *injected);
