# SPDX-License-Identifier: MIT
"""Every job of ./scripts/test, as a table: kernel, machine, tests. Run by scripts/test; see CONTRIBUTING.md."""

import shlex
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["host", "native", "vm"]


def _words(text: str) -> tuple[str, ...]:
    """Split a command line into words like a shell."""
    return tuple(shlex.split(text))


@dataclass(frozen=True)
class Job:
    """One command whose exit status is a result.

    Attributes:
        name: name of the job, one word.
        command: the command; in a guest, the command that the guest runs.
        kind: where the command runs: on this machine, in a native guest, or in a guest behind an emulated VT-d.
        inputs: files and folders that decide the result, together with their imports. If empty, the job always runs.
        kernel: variant of the guest's kernel, with ``-debug`` for the debug configuration.
        machine: more options of ``iommufd lab run``.
        minutes: estimate of the first run's duration. Long jobs start first, by their last duration if it is known.
        nightly: whether the job runs with --full only.
        may_be_impossible: whether exit status 4, not possible on this machine, is no failure.
        early: whether the job needs no kernel and can run while kernels are compiled.
    """

    name: str
    command: tuple[str, ...]
    kind: Kind = "host"
    inputs: tuple[str, ...] = ()
    kernel: str = ""
    machine: tuple[str, ...] = ()
    minutes: float = 1
    nightly: bool = False
    may_be_impossible: bool = False
    early: bool = False

    @property
    def native(self) -> bool:
        """Whether the job boots a native guest. All native guests use the same CPU."""
        return "--native" in self.command_line()

    def command_line(self, options: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the command on this machine. For a guest, this is ``lab run`` with *options*."""
        if self.kind == "host":
            return self.command
        # A warm guest may have another state, and its user may be at work there.
        variant, _, debug = self.kernel.partition("-")
        machine = [*(["--native"] if self.kind == "native" else []), *(["--debug"] if debug else []), *self.machine]
        fresh = _words("iommufd lab run --fresh --timeout 3000 --kernel")
        return (*fresh, variant, *machine, *options, "--", *self.command)


def _native(name: str, kernel: str, command: str, inputs: str, minutes: float) -> Job:
    return Job(name, _words(command), "native", _words(inputs), kernel, minutes=minutes)


def _vm(name: str, kernel: str, command: str, inputs: str, minutes: float, machine: str = "") -> Job:
    return Job(name, _words(command), "vm", _words(inputs), kernel, _words(machine), minutes)


def _nightly(job: Job) -> Job:
    return replace(job, nightly=True)


# The code of `iommufd dma`.
_DMA = "cli/dma.py iommufd_py/dma"
_ON_INCOHERENT = "env IOMMUFD_TEST_MACHINE=incoherent pytest -v tests/machines/test_incoherent.py"


def _incoherent(name: str, kernel: str, minutes: float, machine: str = "") -> Job:
    inputs = f"tests/machines/test_incoherent.py {_DMA}"
    return _vm(name, kernel, _ON_INCOHERENT, inputs, minutes, f"--incoherent {machine}")


def _machine(name: str, test: str, options: str, kernel: str = "stock") -> Job:
    """Return the job for another machine of the lab and its file in tests/machines."""
    file = f"tests/machines/test_{test}.py"
    return _vm(f"machine-{name}", kernel, f"env IOMMUFD_TEST_MACHINE={test} pytest -v {file}", file, 2, options)


# Tests for the engine of any device.
_ENGINES = (
    "tests/vtd/test_dma.py tests/vtd/test_vfio_pci_driver.py "
    "tests/vtd/test_dma_devices.py::test_two_devices_in_two_domains"
)


def _ethernet(device: str, *, may_be_impossible: bool = False) -> Job:
    """Return the job for a machine with an Ethernet controller: its own tests, and the tests of all DMA engines.

    Devfn 0x68 leaves room for the virtual functions of an igb, at 0x80 behind it.
    """
    file = "tests/machines/test_ethernet.py"
    job = _vm(
        f"machine-{device}",
        "stock",
        f"env IOMMUFD_TEST_MACHINE=ethernet IOMMUFD_BDF=0000:00:0d.0 pytest -v {file} {_ENGINES}",
        f"{file} tests/vtd cli/dma.py",
        3,
        f"--device {device},addr=0x0d",
    )
    return replace(job, nightly=True, may_be_impossible=may_be_impossible)


def _dsa(kernel: str) -> Job:
    """Return the job for the machine with a DSA, whose DMA can carry a PASID and need not snoop the CPU caches."""
    file = "tests/machines/test_dsa.py"
    job = _vm(
        f"machine-dsa-{kernel}",
        kernel,
        f"env IOMMUFD_TEST_MACHINE=dsa IOMMUFD_BDF=0000:00:0d.0 pytest -v {file} {_ENGINES}",
        f"{file} tests/vtd {_DMA}",
        5,
        "--incoherent --scalable --device dsa,addr=0x0d,x-no-snoop=on --append vfio_pci.disable_denylist=1",
    )
    return _nightly(job)


# QEMU's AMD and virtio IOMMUs do not remap interrupts. iommufd refuses that unless a parameter of the lab allows it.
_SAFE_ONLY = "--append iommufd.allow_unsafe_interrupts=0"
_PAGE_OF_1G = "--append hugepagesz=1G --append hugepages=1"
_SRIOV = (
    "--device nvme-subsys,id=functions --device nvme,addr=0x17.0,serial=functions,subsys=functions,"
    "sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=2"
)
_NOIOMMU = (
    "--iommu none --append vfio.enable_unsafe_noiommu_mode=1 --device edu,addr=0x1b.0,dma_mask=0xffffffffffffffff"
)
# One device alone on its bus, and two devices that share one.
_BRIDGES = (
    "--device pcie-pci-bridge,id=alone,addr=0x1c --device e1000,bus=alone,addr=0x1 "
    "--device pcie-pci-bridge,id=together,addr=0x1d --device edu,bus=together,addr=0x1 "
    "--device edu,bus=together,addr=0x2"
)

# The code of `iommufd validate` and its scenarios.
_VALIDATE = "cli/main.py cli/validate.py iommufd_py/validate"
_PATCHES = "iommufd_py/lab/patches"

# Tests on a device that start programs.
_PROGRAMS = "bench or cli or examples or give_back or records_and_locks"

# Test files of the mock driver with tests that a native guest skips.
_NOT_NATIVE = " ".join(
    f"tests/mock/{name}.py"
    for name in (
        "iommufd_ioas/test_accesses",
        "iommufd_ioas/test_areas",
        "iommufd_ioas/test_hwpts",
        "test_explain",
        "test_fault",
        "test_fixes",
        "test_flush_rules",
        "test_flush_unwind",
        "test_iommufd_device_pasid",
        "test_iommufd_dirty_tracking",
        "test_iommufd_mock_domain",
        "test_iommufd_viommu",
        "test_memory",
        "test_tracefs",
        "test_validate",
    )
)

# pytest gets -v in guests, so that the log of a guest that does not end names the test.
_NEWEST = (
    # These jobs run on this machine. The first four take seconds. The unit tests read the headers of the kernel source.
    Job("ruff", _words("ruff check ."), minutes=0.1, early=True),
    Job("format", _words("ruff format --check ."), minutes=0.1, early=True),
    Job("types", _words("mypy"), minutes=0.5, early=True),
    Job("imports", _words("lint-imports --no-logo"), minutes=0.1, early=True),
    Job("unit", _words("pytest -q tests/unit"), minutes=2),
    Job("cli", _words("pytest -q tests/cli"), inputs=_words("tests/cli cli iommufd_py scripts"), minutes=2, early=True),
    Job(
        "lab",
        _words(
            "pytest -v tests/lab --ignore=tests/lab/test_bisect.py --ignore=tests/lab/test_lab_machines.py "
            "--ignore=tests/lab/test_long_examples.py --ignore=tests/lab/test_remedies.py "
            "--ignore=tests/lab/test_debian_kernel.py --ignore=tests/lab/test_debian_idxd.py"
        ),
        inputs=_words("tests/lab iommufd_py/lab"),
        minutes=6,
    ),
    # Many machines: labgrid, hosts behind ssh, and native guests that panic or hang.
    Job(
        "fleet",
        _words("pytest -v tests/fleet --ignore=tests/fleet/test_vtd_guests.py"),
        inputs=_words("tests/fleet iommufd_py/fleet"),
        minutes=6,
    ),
    Job("docs", _words("scripts/docs"), inputs=_words("scripts/docs docs iommufd_py cli"), minutes=2, early=True),
    # A release in a clone, without the packages that need root.
    Job(
        "release",
        _words("scripts/release --dry-run --only sdist,wheel 999.0.0"),
        inputs=_words("scripts cffi_build CHANGELOG.md"),
        minutes=3,
        early=True,
    ),
    # On the mock driver, at native speed: long random walks, and the rules by the kernel's own counters.
    _native("native-stock", "stock", "pytest -v tests/mock --steps 20000", "tests/mock", 2),
    _native("native-patched", "patched", "pytest -v tests/mock --steps 20000", "tests/mock", 2),
    # The same, on kernels that check every memory access and every lock.
    _nightly(_native("native-debug", "patched-debug", "pytest -v tests/mock", "tests/mock", 4)),
    _native("native-debug-validate", "patched-debug", "iommufd validate --brief --counts-suffice", _VALIDATE, 1),
    _native("native-patched-validate", "patched", "iommufd validate --brief --counts-suffice", _VALIDATE, 1),
    # Behind an emulated VT-d: devices, huge pages, IO page faults, tracing.
    _vm(
        "vtd-coherent",
        "stock",
        "pytest -v tests/vtd/test_device.py tests/vtd/test_container.py tests/vtd/test_dma.py",
        "tests/vtd/test_device.py tests/vtd/test_container.py tests/vtd/test_dma.py tests/vtd/conftest.py",
        2,
        "--coherent",
    ),
    # The mock driver with what User-Mode Linux lacks: huge pages, a function tracer, IO page faults, a vIOMMU, PASIDs.
    _nightly(
        _vm(
            "vtd-patched",
            "patched",
            f"pytest -v {_NOT_NATIVE}",
            "tests/mock",
            8,
            f"--memory 4G {_PAGE_OF_1G}",
        )
    ),
    _nightly(
        _vm(
            "vtd-flush",
            "patched",
            "pytest -v tests/vtd/test_flush.py",
            "tests/vtd/test_flush.py tests/vtd/conftest.py",
            2,
            f"--memory 4G {_PAGE_OF_1G}",
        )
    ),
    _vm(
        "vtd-patched-scalable",
        "patched",
        "pytest -v tests/vtd/test_flush.py tests/vtd/test_device.py",
        "tests/vtd/test_flush.py tests/vtd/test_device.py tests/vtd/conftest.py",
        1,
        "--coherent --scalable",
    ),
    # With memory above 4 GiB, and a huge page of 1G.
    _vm("validate-mock", "patched", "iommufd validate", _VALIDATE, 2, f"--memory 6G {_PAGE_OF_1G}"),
    _vm(
        "validate-device",
        "patched",
        "iommufd validate --device 0000:00:10.0 --second-device 0000:00:11.0 --bind",
        _VALIDATE,
        1,
    ),
    # On a machine whose DMA does not snoop the CPU caches: the emulator's model, and the bytes that a device reads.
    _incoherent("incoherent-stock", "stock", 4),
    _incoherent("incoherent-coherent", "stock", 4, "--coherent"),
    _incoherent("incoherent-patched", "patched", 4),
    _incoherent("incoherent-scalable", "patched", 4, "--scalable"),
    _incoherent("incoherent-evicting", "patched", 2, "--evict 7 --evict-seed 1"),
    _nightly(_incoherent("incoherent-debug", "patched-debug", 20)),
    # Other machines: another IOMMU or none, virtual functions, buses that reset as a whole.
    _machine("none", "other_iommu", "--iommu none"),
    _machine("amd", "other_iommu", "--iommu amd"),
    _machine("virtio", "other_iommu", f"--iommu virtio {_SAFE_ONLY}"),
    _machine("sriov", "sriov", _SRIOV),
    _machine("noiommu", "noiommu", _NOIOMMU, "patched"),
    _machine("hot-reset", "hot_reset", _BRIDGES),
    # Check that validate finds wrong kernels, and that it accepts kernels that are right in another way.
    Job(
        "mutants",
        _words("scripts/mutants --quick --incoherent"),
        inputs=_words(f"scripts/mutants scripts/mutation tests/lab/mutants {_VALIDATE} {_PATCHES} {_DMA}"),
        minutes=8,
        may_be_impossible=True,
    ),
    # The kernel's own tests.
    Job(
        "selftest",
        _words("iommufd lab selftest --kernel patched"),
        inputs=_words(f"{_PATCHES} cli/lab_selftest.py"),
        minutes=2,
    ),
    Job(
        "selftest-vfio",
        _words("iommufd lab selftest --suite vfio --kernel patched"),
        inputs=_words(f"{_PATCHES} cli/lab_selftest.py"),
        minutes=4,
    ),
    # Machines for which `lab run` has no options: devices of all kinds in use, lockdown, and 6 GiB of memory that is
    # not snooped.
    Job("lab-machines", _words("pytest -v tests/lab/test_lab_machines.py"), minutes=20, nightly=True),
    # Three guests behind an emulated VT-d at once.
    Job("fleet-vtd", _words("pytest -v tests/fleet/test_vtd_guests.py"), minutes=10, nightly=True),
    Job("lab-examples", _words("pytest -v tests/lab/test_long_examples.py"), minutes=10, nightly=True),
    # It downloads a kernel of 100 MB.
    Job("lab-debian-kernel", _words("pytest -v tests/lab/test_debian_kernel.py"), minutes=5, nightly=True),
    # It downloads such a kernel, too, and boots three guests.
    Job("lab-debian-idxd", _words("pytest -v tests/lab/test_debian_idxd.py"), minutes=10, nightly=True),
    Job("lab-remedies", _words("pytest -v tests/lab/test_remedies.py"), minutes=10, nightly=True),
    # Programs on a device. Each start of a program takes seconds on an emulated CPU.
    *(
        _nightly(
            _vm(f"vtd-{name}", "stock", f"pytest -v {tests} -k '{words}'", f"{tests} tests/vtd cli docs/examples", 20)
        )
        for name, tests, words in (
            ("cli", "tests/vtd", "cli"),
            (
                "give-back",
                "tests/vtd/test_give_back.py tests/vtd/test_records_and_locks.py",
                "give_back or records_and_locks",
            ),
            ("examples", "tests/vtd tests/examples", "(bench or examples) and not cli"),
        )
    ),
    # All tests on devices take half an hour on an emulated CPU. A job of each run has the central ones: vtd-coherent.
    Job(
        "vtd-devices",
        _words(f"pytest -v tests/vtd -k 'not ({_PROGRAMS})' --ignore=tests/vtd/test_interrupt.py"),
        "vm",
        _words("tests/vtd"),
        kernel="stock",
        minutes=30,
        nightly=True,
    ),
    # Engines of devices that the lab's machine does not have. QEMU has an igb from 8.0 on, and Debian 12 has QEMU 7.2.
    _ethernet("e1000e"),
    _ethernet("igb", may_be_impossible=True),
    _dsa("stock"),
    _dsa("patched"),
    # An NVMe controller changes its driver eighty times.
    Job(
        "vtd-interrupt",
        _words("pytest -v tests/vtd/test_interrupt.py"),
        "vm",
        _words("tests/vtd/test_interrupt.py tests/vtd"),
        kernel="stock",
        minutes=6,
        nightly=True,
    ),
    Job(
        "vtd-mock", _words("pytest -v tests/mock"), "vm", _words("tests/mock"), kernel="stock", minutes=20, nightly=True
    ),
    Job("bisect", _words("pytest -v tests/lab/test_bisect.py"), minutes=15, nightly=True, may_be_impossible=True),
    Job("tables", _words("iommufd lab selftest --tables"), minutes=5, nightly=True),
    Job("pt-kunit", _words("iommufd lab selftest --suite pt-kunit --kernel patched"), minutes=5, nightly=True),
    Job("all-mutants", _words("scripts/mutants --incoherent"), minutes=70, nightly=True, may_be_impossible=True),
    Job(
        "incoherent-walk",
        _words(f"{_ON_INCOHERENT} -k walk --steps 20000"),
        "vm",
        kernel="stock",
        machine=("--incoherent",),
        minutes=5,
        nightly=True,
    ),
    Job("series-7.3", _words("scripts/check_series 7.3"), minutes=40, nightly=True, may_be_impossible=True),
    Job("series-7.2", _words("scripts/check_series 7.2"), minutes=40, nightly=True, may_be_impossible=True),
    Job("series-6.12", _words("scripts/check_series 6.12"), minutes=40, nightly=True, may_be_impossible=True),
    Job(
        "selftest-debug",
        _words("iommufd lab selftest --kernel patched --debug"),
        minutes=15,
        nightly=True,
        may_be_impossible=True,
    ),
    Job("conditions", _words("scripts/check_conditions"), minutes=5, nightly=True),
    Job("pythons", _words("scripts/check_pythons"), minutes=10, nightly=True, may_be_impossible=True),
    Job("distributions", _words("scripts/check_distributions"), minutes=60, nightly=True, may_be_impossible=True),
    Job("packages", _words("scripts/check_packages"), minutes=30, nightly=True, may_be_impossible=True),
    Job(
        "bars",
        _words("iommufd lab run --fresh --native --kernel stock -- pytest -v tests/bars"),
        minutes=10,
        nightly=True,
    ),
)


def _on_series(series: str, names: str, machine: str = "") -> tuple[Job, ...]:
    """Return nightly copies of the jobs *names* for another kernel series, with more options of ``lab run``.

    The copy of a job in a guest runs ``lab run`` on this machine. Its status 4 says that no archive has the series:
    Debian drops a series some time after the next one appears. The command in the guest fails with 1 instead of 4.
    """
    newest = {job.name: job for job in _NEWEST}
    options = _words(f"--series {series} {machine}")
    copies = []
    for job in (newest[name] for name in names.split()):
        if job.kind == "host":
            command = (*job.command, *options)
        else:
            inner = ("sh", "-c", '"$@" || exit 1', "sh", *job.command)
            command = replace(job, command=inner).command_line(options)
        inputs = (*job.inputs, "cli/lab.py", *_words(_PATCHES))
        name, minutes = f"{job.name}-{series}", job.minutes + 6
        copies.append(Job(name, command, inputs=inputs, minutes=minutes, nightly=True, may_be_impossible=True))
    return tuple(copies)


# The proof of the patches in guests: on devices, on the mock driver, and natively.
_ON_DEVICES = "validate-device vtd-flush vtd-patched-scalable incoherent-patched"
_ON_MOCK = "validate-mock vtd-patched"
_ON_NATIVE = "native-patched native-debug native-debug-validate"

JOBS = (
    *_NEWEST,
    # There is no job for the vfio selftests of 7.2. In the lab a virtual function does not answer after the reset of
    # its physical function. The kernel 7.3 checks this first. 7.2 waits a minute for it, and each case fails.
    *_on_series("7.2", f"{_ON_DEVICES} {_ON_MOCK} {_ON_NATIVE} selftest"),
    # There are no native patches for 6.12. Debian's 6.12 has no vfio selftests, and its iommu selftests come from a
    # later kernel: three of them fail. Its mock driver makes no devices together with another IOMMU driver.
    *_on_series("6.12", _ON_DEVICES),
    *_on_series("6.12", _ON_MOCK, "--append intel_iommu=off"),
)
