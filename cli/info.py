# SPDX-License-Identifier: MIT
"""`iommufd info`: the features of this machine and its kernel, and the coherency of its IOMMUs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import click

from iommufd_py import pci
from iommufd_py.amd import EFR, Features, TableFormat
from iommufd_py.base.environment import Environment
from iommufd_py.base.errors import ToolError
from iommufd_py.base.units import format_size
from iommufd_py.host import Iommu, KernelFeatures, Limits, environment, iommu_options, iommus, kernel_features, limits
from iommufd_py.vtd import CAP, ECAP, DmarUnit, Field, decode, reserved_bits
from iommufd_py.vtd.coherency import Flushes, IommuKind

from .commands import command
from .output import emit_facts, emit_json, emit_table, note
from .types import JSON_OPTION, refuse_ignored


@command()
@click.option(
    "--registers", is_flag=True, help="Print each field of CAP and ECAP, or of EFR, on a line, with its meaning."
)
@click.option(
    "--ask",
    is_flag=True,
    help="Ask the kernel about the coherency of a new HWPT for each device on vfio-pci. This opens and resets the "
    "devices.",
)
@JSON_OPTION
@click.pass_context
def info(context: click.Context, registers: bool, ask: bool, as_json: bool) -> None:
    """Show the features of this machine and its kernel, and the coherency of its IOMMUs.

    The command probes the features of the kernel and does not use its version. For each IOMMU it prints the devices
    behind it, the coherency of a HWPT there with its evidence, and the feature registers: CAP and ECAP of a VT-d unit,
    EFR of an AMD IOMMU. Their fields have the names of the specification. Two flushes of the CPU caches can be needed.
    The page tables of the IOMMU need one if the page walk does not snoop. The data pages need one if the domain cannot
    force DMA to snoop; the mainline kernel does not flush them.

    \b
    Examples:
      iommufd info
      iommufd info --registers
      iommufd info --json
    """
    refuse_ignored(context, "registers", as_json, "the JSON document always has every field")
    answers = _ask([one.bdf for one in pci.list_devices() if one.driver == "vfio-pci"]) if ask else {}
    if as_json:
        emit_json(info_document(answers))
        return
    machine, features, found, bounds = environment(), kernel_features(), iommus(), limits()
    emit_facts(
        [
            *_machine_facts(machine),
            *_kernel_facts(features),
            *_limit_facts(bounds),
            ("groups", _group_types() or "no IOMMU groups"),
        ]
    )
    real = [iommu for iommu in found if iommu.kind is not IommuKind.SELFTEST]
    if not real:
        click.echo(f"\nno IOMMU is in use: there is none, or it is off; {pci.iommu_remedy()}")
    for iommu in real:
        click.echo()
        _show_iommu(iommu, answers, registers)


def info_document(answers: Mapping[str, bool] = MappingProxyType({})) -> dict[str, Any]:
    """Return the document of `iommufd info --json`. *answers* has the answer to VFIO_DMA_CC_IOMMU for devices, by
    BDF."""
    return {
        "schema": "iommufd-info/1",
        "machine": asdict(environment()),
        "kernel": asdict(kernel_features()),
        "limits": asdict(limits()),
        "group_types": dict(pci.group_types()),
        "iommus": [_iommu_document(iommu, answers) for iommu in iommus()],
    }


def _ask(bdfs: Sequence[str]) -> dict[str, bool]:
    """Return the answer to VFIO_DMA_CC_IOMMU for a new HWPT of each device."""
    from iommufd_py import Iommufd, VfioDevice

    answers = {}
    for bdf in bdfs:
        try:
            with Iommufd() as iommufd:
                answers[bdf] = VfioDevice(iommufd, bdf).alloc_hwpt(iommufd.alloc_ioas()).evidence.dma_cc
        except (ToolError, OSError) as failure:
            note(f"the coherency of {bdf} cannot be asked: {failure}")
    return answers


def _machine_facts(machine: Environment) -> Iterator[tuple[str, str]]:
    variant = f" {machine.kernel_variant}" if machine.kernel_variant else ""
    yield "kernel", f"{machine.kernel_release}{variant}"
    yield "platform", ", ".join(filter(None, (machine.platform, machine.machine, machine.cpu)))
    yield "options", " ".join(iommu_options(machine.command_line)) or "none for IOMMUs on the kernel's command line"
    if machine.noncoherent_knob is not None:
        yield "test knob", f"iommufd.test_noncoherent_hwpt={'NY'[machine.noncoherent_knob]}"


def _kernel_facts(features: KernelFeatures) -> Iterator[tuple[str, str]]:
    if features.iommufd_problem:
        yield "iommufd", features.iommufd_problem
    else:
        absent = [name for name, there in features.ioctls.items() if not there]
        yield "iommufd", f"/dev/iommu with {len(features.ioctls) - len(absent)} of {len(features.ioctls)} known ioctls"
        if absent:
            yield "", f"absent: {', '.join(absent)}"
        if features.ioctls["IOMMU_TEST_CMD"]:
            yield "", "with the mock driver of CONFIG_IOMMUFD_TEST"
    interfaces = {
        "vfio-pci": features.vfio_pci,
        "cdevs (/dev/vfio/devices)": features.vfio_cdev,
        "groups (/dev/vfio/N)": features.vfio_group,
    }
    yield "VFIO", ", ".join(name for name, there in interfaces.items() if there) or "not there, or not loaded"
    if features.container is not None:
        extensions = [name for name, there in features.container.extensions.items() if there]
        yield "container", f"/dev/vfio/vfio by {features.container.served_by}: {', '.join(extensions) or 'nothing'}"
    if features.noiommu is not None:
        yield "no-IOMMU", "allowed (unsafe)" if features.noiommu else "possible, not allowed"


def _limit_facts(bounds: Limits) -> Iterator[tuple[str, str]]:
    limit = "unlimited" if bounds.memlock_bytes is None else format_size(bounds.memlock_bytes)
    yield "memlock", f"{limit}{', lifted by CAP_IPC_LOCK' if bounds.memlock_ignored else ''}"
    pools = [f"{pool.free} of {pool.total} free at {format_size(pool.page_bytes)}" for pool in bounds.huge_pages]
    yield "huge pages", ", ".join([*pools, f"transparent: {bounds.thp or 'none'}"])
    if bounds.dma_entry_limit is not None:
        yield "type1", f"{bounds.dma_entry_limit} mappings a container (dma_entry_limit)"


def _group_types() -> str:
    return ", ".join(f"{count} of type {kind}" for kind, count in sorted(pci.group_types().items()))


def _show_iommu(iommu: Iommu, answers: dict[str, bool], registers: bool) -> None:
    facts = [("IOMMU", f"{iommu.name}, {iommu.kind}")]
    facts += _unit_facts(iommu.unit) if iommu.unit else list(iommu.registers.items())
    if iommu.amd_table is not None:
        facts.append(("tables", f"{iommu.amd_table} for DMA without PASID"))
    if iommu.amd_features is not None:
        facts += _amd_facts(iommu.amd_features)
    facts.append(("devices", " ".join(iommu.devices) or "none"))
    facts += _flush_facts(iommu.flushes())
    for bdf in iommu.devices:
        if bdf in answers:
            asked = iommu.flushes(answers[bdf])
            facts.append(("asked", f"{bdf}: {asked.coherency}: {asked.coherency_evidence}"))
    emit_facts(facts)
    if registers:
        for name, fields, value in _registers(iommu):
            click.echo()
            rows = [(field.name, field.bits, str(field.of(value)), field.meaning) for field in fields]
            emit_table((name, "bits", "value", "meaning"), rows)


def _registers(iommu: Iommu) -> tuple[tuple[str, tuple[Field, ...], int], ...]:
    if iommu.unit is not None:
        return _vtd_registers(iommu.unit)
    return (("EFR", EFR, iommu.amd_features.efr),) if iommu.amd_features is not None else ()


def _vtd_registers(unit: DmarUnit) -> tuple[tuple[str, tuple[Field, ...], int], ...]:
    return ("CAP", CAP, unit.capabilities.cap), ("ECAP", ECAP, unit.capabilities.ecap)


def _unit_facts(unit: DmarUnit) -> list[tuple[str, str]]:
    capabilities = unit.capabilities
    modes = {True: "scalable mode", False: "legacy mode", None: "mode unknown (as root, debugfs shows it)"}
    widths = ", ".join(f"{bits} bits" for bits in capabilities.walk_bits)
    facts = [
        ("version", f"{unit.version} at {unit.address:#x}, {modes[unit.scalable]}"),
        ("addresses", f"{capabilities.address_bits} bits; second-stage page tables of {widths}"),
        ("pages", _pages(unit)),
        ("domains", f"{unit.domains_used} of {unit.domains_supported} used"),
        ("PASIDs", f"{capabilities.pasid_bits} bits" if capabilities.pasid_bits else "none"),
    ]
    for name, fields, value in _vtd_registers(unit):
        facts += _register_facts(name, fields, value)
    return facts


def _amd_facts(features: Features) -> list[tuple[str, str]]:
    v2 = f"{features.guest_levels} levels" if features.guest_levels else "none"
    use = "" if features.v2_for_dma else ", not for DMA without PASID"
    return [
        (
            "levels",
            f"v1 (host) {features.host_levels or 'none'}; v2 (guest) {v2}{use if features.guest_levels else ''}",
        ),
        ("PASIDs", f"{features.pasid_bits} bits" if features.pasid_bits else "none"),
        ("dirty bits", "in v1 page tables" if features.dirty_tracking else "none"),
        *_register_facts("EFR", EFR, features.efr),
    ]


def _register_facts(name: str, fields: Sequence[Field], value: int) -> list[tuple[str, str]]:
    facts = [(name, f"{value:#x}: {_set_fields(fields, value)}")]
    unset = [field.name for field in fields if not field.of(value)]
    facts.append(("", f"zero: {' '.join(unset)}"))
    if unknown := reserved_bits(fields, value):
        facts.append(("", f"reserved, but set: bits {', '.join(map(str, unknown))}"))
    return facts


def _pages(unit: DmarUnit) -> str:
    stages = {"second": unit.capabilities.second_stage_pages, "first": unit.capabilities.first_stage_pages}
    return "; ".join(f"{stage} stage {', '.join(map(format_size, sizes))}" for stage, sizes in stages.items() if sizes)


def _set_fields(fields: Sequence[Field], value: int) -> str:
    shown = (
        field.name if field.width == 1 else f"{field.name}={field.of(value)}" for field in fields if field.of(value)
    )
    return " ".join(shown)


def _flush_facts(flushes: Flushes) -> list[tuple[str, str]]:
    words = {True: "needed", False: "not needed", None: "unknown"}
    return [
        ("HWPT", f"{flushes.coherency or 'unknown'}: {flushes.coherency_evidence}"),
        ("flush", f"of page tables: {words[flushes.page_table_flush]}: {flushes.page_table_evidence}"),
        ("flush", f"of data pages: {words[flushes.data_page_flush]}"),
    ]


def _iommu_document(iommu: Iommu, answers: Mapping[str, bool]) -> dict[str, Any]:
    unit = iommu.unit
    document: dict[str, Any] = {
        "name": iommu.name,
        "kind": iommu.kind.name,
        "devices": iommu.devices,
        "registers": iommu.registers,
        "vtd": None,
        "amd": None if iommu.amd_table is None else _amd_document(iommu.amd_table, iommu.amd_features),
        "flushes": iommu.flushes().as_dict(),
        "asked": {bdf: iommu.flushes(dma_cc).as_dict() for bdf, dma_cc in answers.items() if bdf in iommu.devices},
    }
    if unit is not None:
        capabilities = unit.capabilities
        document["vtd"] = {
            "address": unit.address,
            "version": unit.version,
            "scalable": unit.scalable,
            "domains_supported": unit.domains_supported,
            "domains_used": unit.domains_used,
            "address_bits": capabilities.address_bits,
            "walk_bits": capabilities.walk_bits,
            "second_stage_page_bytes": capabilities.second_stage_pages,
            "first_stage_page_bytes": capabilities.first_stage_pages,
            "pasid_bits": capabilities.pasid_bits,
            "cap": capabilities.cap,
            "ecap": capabilities.ecap,
            "cap_fields": decode(CAP, capabilities.cap),
            "ecap_fields": decode(ECAP, capabilities.ecap),
            "cap_reserved_bits": reserved_bits(CAP, capabilities.cap),
            "ecap_reserved_bits": reserved_bits(ECAP, capabilities.ecap),
        }
    return document


def _amd_document(table: TableFormat, features: Features | None) -> dict[str, Any]:
    if features is None:
        return {"table_format": table, "efr": None}
    return {
        "table_format": table,
        "efr": features.efr,
        "efr_fields": decode(EFR, features.efr),
        "efr_reserved_bits": reserved_bits(EFR, features.efr),
        "host_levels": features.host_levels,
        "guest_levels": features.guest_levels,
        "pasid_bits": features.pasid_bits,
        "dirty_tracking": features.dirty_tracking,
    }
