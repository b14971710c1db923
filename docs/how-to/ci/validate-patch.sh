#!/bin/sh
# SPDX-License-Identifier: MIT
# Check a kernel tree: validate-patch.sh TREE [BASELINE.json]
set -eu
tree=$1 baseline=${2:-}

image=$(iommufd lab kernel build --source "$tree")

# The three flush rules, page by page, and the order of flush, map, unmap and unpin.
iommufd lab run --kernel "$image" -- iommufd validate --junit >rules.xml

# DMA of an emulated NVMe controller reaches the memory of its IOVA, and no other memory.
iommufd lab run --kernel "$image" -- iommufd dma check --device 0000:00:12.0 --bind

# The bytes that a device and the CPU read if DMA does not snoop. The first run builds QEMU.
iommufd lab run --incoherent --kernel "$image" -- \
    iommufd dma coherency --device 0000:00:10.0 --bind

# Time of map and unmap. With a baseline of the same machine, a regression over 10 % fails.
iommufd lab run --kernel "$image" -- \
    iommufd bench run --device 0000:00:10.0 --bind --size 4K,2M --output run.json
if [ -n "$baseline" ]; then
    iommufd bench compare --threshold 10 "$baseline" run.json
fi
