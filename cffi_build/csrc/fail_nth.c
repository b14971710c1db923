// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fail_nth.h"

static int run_step(const struct iommufd_step *step)
{
	int ret = -1;

	for (unsigned int i = 0; i < step->copies; i++)
		memcpy(step->copy[i].to, step->copy[i].from, step->copy[i].bytes);

	switch (step->kind) {
	case IOMMUFD_STEP_IOCTL:
		ret = ioctl(*step->fd, step->request, step->arg);
		break;
	case IOMMUFD_STEP_OPEN:
		ret = *step->fd = open(step->arg, O_RDWR | O_CLOEXEC);
		break;
	case IOMMUFD_STEP_CLOSE:
		ret = close(*step->fd);
		/* Even a failed close() frees the descriptor, and another file may get its number. */
		*step->fd = -1;
		break;
	}
	return ret < 0 ? -errno : 0;
}

static int arm(int nth_fd, unsigned int nth)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%u", nth);

	return pwrite(nth_fd, text, length, 0) == length ? 0 : -errno;
}

/* Returns whether the failure has happened: the number in the file is then 0. */
static bool disarm(int nth_fd)
{
	char left[16];
	ssize_t length = pread(nth_fd, left, sizeof(left), 0);
	bool fired = length == 2 && left[0] == '0';

	/* If the failure is still armed, it can hit these accesses (EFAULT). Then no call of the sequence has failed. */
	while (pwrite(nth_fd, "0", 1, 0) < 0 && errno == EFAULT)
		fired = false;
	return fired;
}

int iommufd_run_steps(const struct iommufd_step *steps, unsigned int count, unsigned int inject_from, int nth_fd,
		      unsigned int nth, unsigned int *done, _Bool *injected)
{
	bool armed = false;
	int ret = 0;

	for (*done = 0; *done < count; ++*done) {
		if (nth && *done == inject_from) {
			ret = arm(nth_fd, nth);
			if (ret)
				return ret;
			armed = true;
		}
		ret = run_step(&steps[*done]);
		if (ret && !steps[*done].may_fail)
			break;
		ret = 0;
	}
	*injected = armed && disarm(nth_fd);
	return ret;
}
