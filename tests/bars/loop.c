// SPDX-License-Identifier: MIT
/* The benchmark's loop as anyone would write it who has never seen ours. Built and loaded by test_bench_bars.py. */
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "iommufd.h"

static void dirty(volatile char *memory, size_t size)
{
	for (size_t offset = 0; offset < size; offset += 64)
		memory[offset]++;
}

/* `now` is the clock of the benchmark, which is not compared here. */
int loop(uint64_t (*now)(void), int fd, uint32_t ioas, char *memory, size_t size, uint64_t iova, size_t rounds,
	 uint64_t *map_ns, uint64_t *unmap_ns)
{
	for (size_t i = 0; i < rounds; i++) {
		struct iommu_ioas_map map = {
			.size = sizeof(map),
			.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE,
			.ioas_id = ioas,
			.user_va = (uintptr_t)memory,
			.length = size,
			.iova = iova,
		};
		struct iommu_ioas_unmap unmap = { .size = sizeof(unmap), .ioas_id = ioas, .iova = iova, .length = size };
		uint64_t start;

		dirty(memory, size);
		start = now();
		if (ioctl(fd, IOMMU_IOAS_MAP, &map))
			return 1;
		map_ns[i] = now() - start;
		dirty(memory, size);
		start = now();
		if (ioctl(fd, IOMMU_IOAS_UNMAP, &unmap))
			return 1;
		unmap_ns[i] = now() - start;
	}
	return 0;
}
