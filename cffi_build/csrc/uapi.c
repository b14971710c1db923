// SPDX-License-Identifier: MIT
#include <errno.h>
#include <sys/ioctl.h>

#include "uapi.h"

int iommufd_uapi_ioctl(int fd, unsigned long request, void *arg)
{
	int ret = ioctl(fd, request, arg);

	return ret < 0 ? -errno : ret;
}
