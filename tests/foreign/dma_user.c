/* SPDX-License-Identifier: MIT */
/*
 * A foreign program: it maps memory for DMA like a VMM, and uses only the kernel's ioctls.
 *
 * dma_user mock|DEVICE STEP...: DEVICE is a cdev as /dev/vfio/devices/vfio0. Steps:
 *   map:MIB      map new anonymous memory that nobody has touched
 *   touched:MIB  the same, after each page was touched
 *   file:MIB     map a new memfd by IOMMU_IOAS_MAP_FILE
 *   unmap        unmap the last map, and free its memory
 *   sleep        do nothing for 50 ms
 *   wait         print a line, and read one: the two sides take turns
 *   again:N      repeat the steps before, N times in all
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "iommufd.h"
#include "iommufd_test.h"
#include "vfio.h"

#define MIB (1ul << 20)
#define FIRST_IOVA (1ul << 28)

static int iommufd;
static uint32_t ioas;
static uint64_t iova = FIRST_IOVA, last_length;
static void *last_memory;

static void check(int result, const char *what)
{
	if (result < 0)
		err(1, "%s", what);
}

static void attach_mock(void)
{
	struct iommu_test_cmd mock = { .size = sizeof(mock), .op = IOMMU_TEST_OP_MOCK_DOMAIN, .id = ioas };

	check(ioctl(iommufd, IOMMU_TEST_CMD, &mock), "IOMMU_TEST_CMD");
}

static void attach_device(const char *path)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = iommufd };
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach), .pt_id = ioas };
	int device = open(path, O_RDWR);

	check(device, path);
	check(ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind), "VFIO_DEVICE_BIND_IOMMUFD");
	check(ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach), "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
}

static void map_memory(uint64_t length, int touch)
{
	char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = ioas,
		.user_va = (uintptr_t)memory,
		.length = length,
		.iova = iova,
	};

	if (memory == MAP_FAILED)
		err(1, "mmap");
	madvise(memory, length, MADV_NOHUGEPAGE);
	for (uint64_t at = 0; touch && at < length; at += 4096)
		memory[at] = 1;
	check(ioctl(iommufd, IOMMU_IOAS_MAP, &map), "IOMMU_IOAS_MAP");
	last_memory = memory;
}

static void map_file(uint64_t length)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = ioas,
		.fd = memfd_create("guest", 0),
		.length = length,
		.iova = iova,
	};

	check(map.fd, "memfd_create");
	check(ftruncate(map.fd, length), "ftruncate");
	check(ioctl(iommufd, IOMMU_IOAS_MAP_FILE, &map), "IOMMU_IOAS_MAP_FILE");
	close(map.fd);
	last_memory = NULL;
}

static void unmap(void)
{
	struct iommu_ioas_unmap unmap = { .size = sizeof(unmap), .ioas_id = ioas, .length = last_length };

	iova -= last_length;
	unmap.iova = iova;
	check(ioctl(iommufd, IOMMU_IOAS_UNMAP, &unmap), "IOMMU_IOAS_UNMAP");
	if (last_memory)
		munmap(last_memory, last_length);
}

static void step(const char *name)
{
	const char *number = strchr(name, ':');
	uint64_t length = number ? strtoul(number + 1, NULL, 0) * MIB : 0;

	if (!strcmp(name, "unmap")) {
		unmap();
	} else if (!strcmp(name, "sleep")) {
		usleep(50000);
	} else if (!strcmp(name, "wait")) {
		puts("waiting");
		fflush(stdout);
		if (getchar() == EOF)
			exit(0);
	} else if (length) {
		if (!strncmp(name, "file:", 5))
			map_file(length);
		else
			map_memory(length, !strncmp(name, "touched:", 8));
		last_length = length;
		iova += length;
	} else {
		errx(2, "unknown step %s", name);
	}
}

int main(int argc, char **argv)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	long times = 1;

	if (argc < 2)
		errx(2, "give mock or a device, and steps");
	if (argc > 2 && !strncmp(argv[argc - 1], "again:", 6))
		times = atol(argv[--argc] + 6);
	iommufd = open("/dev/iommu", O_RDWR);
	check(iommufd, "/dev/iommu");
	check(ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc), "IOMMU_IOAS_ALLOC");
	ioas = alloc.out_ioas_id;
	if (!strcmp(argv[1], "mock"))
		attach_mock();
	else
		attach_device(argv[1]);
	while (times--)
		for (int at = 2; at < argc; at++)
			step(argv[at]);
	return 0;
}
