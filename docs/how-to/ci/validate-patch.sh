#!/bin/sh
# SPDX-License-Identifier: MIT
# Judge a kernel tree: validate-patch.sh TREE [BASELINE.json]
set -eu
tree=$1 baseline=${2:-}

image=$(iommufd lab kernel build --source "$tree")

# The three flush rules, page by page, in the order in which the kernel does things.
iommufd lab run --kernel "$image" -- iommufd validate --junit >rules.xml

# DMA of an emulated NVMe controller lands where its IOVA says, and nowhere else.
iommufd lab run --kernel "$image" -- iommufd dma check --device 0000:00:12.0 --bind

# What a device and the CPU read where DMA does not snoop the CPU caches. The first run builds the emulator.
iommufd lab run --incoherent --kernel "$image" -- iommufd dma coherency --device 0000:00:10.0 --bind

# Time of map and unmap; with a baseline of the same machine, a regression over 10 % fails.
iommufd lab run --kernel "$image" -- \
    iommufd bench run --device 0000:00:10.0 --bind --size 4K,2M --output run.json
if [ -n "$baseline" ]; then
    iommufd bench compare --threshold 10 "$baseline" run.json
fi
