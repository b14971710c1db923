# SPDX-License-Identifier: MIT
"""A labgrid lab on this machine: coordinator, exporter and hosts as plain processes, on the loopback interface."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iommufd_py.fleet.lending import Lender
from tests.programs import IOMMUFD
from tests.waiting import DEFAULT_SIGNALS, patience, wait_until

BIN = Path(sys.prefix, "bin")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Return whether a process listens on *port*."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Host:
    """One machine of the lab."""

    name: str
    directory: Path
    port: int
    console: int
    process: "subprocess.Popen[str]"
    keeper: int = 0


@dataclass
class Lab:
    """The lab and its processes."""

    directory: Path
    port: int = field(default_factory=free_port)
    hosts: dict[str, Host] = field(default_factory=dict)
    processes: "list[subprocess.Popen[Any]]" = field(default_factory=list)
    coordinator: "subprocess.Popen[Any] | None" = None
    exporter: "subprocess.Popen[Any] | None" = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, *command: str, name: str) -> "subprocess.Popen[Any]":
        """Start a process that ends with the lab. Its output goes to a file."""
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([*DEFAULT_SIGNALS, *command], cwd=self.directory, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def start_coordinator(self) -> None:
        self.coordinator = self.start(str(BIN / "labgrid-coordinator"), "-l", self.address, name="coordinator")
        wait_until(lambda: listens(self.port))

    def restart_coordinator(self) -> None:
        """Kill the coordinator, and start it and the exporter again.

        An exporter ends when its coordinator does, and the service manager starts it again.
        """
        assert self.coordinator is not None
        self.coordinator.send_signal(signal.SIGKILL)
        self.coordinator.wait()
        self.start_coordinator()
        assert self.exporter is not None
        self.exporter.wait(timeout=patience(60))
        self.start_exporter()

    def add_host(self, name: str, kernel: str = "", machine: str = "native") -> Host:
        """Start a machine: this host itself, or a guest with *kernel* on a *machine* of ssh_host.MACHINES."""
        directory = self.directory / name
        directory.mkdir()
        port, console = free_port(), free_port()
        guest = [kernel, str(console), machine] if kernel else []
        command = [sys.executable, str(Path(__file__).with_name("ssh_host.py")), str(directory), str(port), *guest]
        with (self.directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*DEFAULT_SIGNALS, *command], stdout=subprocess.PIPE, stderr=log, text=True, cwd=Path.cwd()
            )
        self.processes.append(process)
        assert process.stdout is not None
        first = process.stdout.readline().strip()
        assert first, (self.directory / f"{name}.log").read_text()
        host = Host(name, directory, port, console if kernel else 0, process)
        if kernel:
            host.keeper = int(first)
            assert process.stdout.readline().strip() == "ready"
        self.hosts[name] = host
        return host

    def start_exporter(self, address: str = "127.0.0.1") -> None:
        """Offer all hosts through one exporter."""
        resources: dict[str, Any] = {}
        for host in self.hosts.values():
            service = {"address": address, "port": host.port, "username": "root"}
            resources[host.name] = {"NetworkService": service}
            if host.console:
                serial = {"host": address, "port": host.console, "speed": 115200, "protocol": "raw"}
                resources[host.name]["NetworkSerialPort"] = serial
        # JSON is YAML.
        file = self.directory / "exporter.yaml"
        file.write_text(json.dumps(resources))
        command = [str(BIN / "labgrid-exporter"), "-c", self.address, "--name", "rack", "--hostname", "localhost"]
        self.exporter = self.start(*command, str(file), name="exporter")
        # The coordinator knows all hosts.
        with self.lender() as lender:
            wait_until(lambda: {group for _, group, _, _ in lender.resources()} == set(self.hosts))

    def write_places(self, tags: Mapping[str, Mapping[str, str]]) -> None:
        """Write the places and their tags to the coordinator's file, which is faster than labgrid-client."""
        matches = {name: {"exporter": "*", "group": name, "cls": "*", "name": None, "rename": None} for name in tags}
        places = {
            name: {
                "aliases": [],
                "comment": "",
                "tags": {"host": name, **found},
                "matches": [matches[name]],
                "created": 1.0,
                "changed": 1.0,
            }
            for name, found in tags.items()
        }
        (self.directory / "places.yaml").write_text(json.dumps(places))

    @contextlib.contextmanager
    def lender(self) -> Iterator[Lender]:
        """A connection to the coordinator."""
        lender = Lender(self.address)
        try:
            yield lender
        finally:
            lender.close()

    def holders(self) -> dict[str, str]:
        """Return the holder of each lent place."""
        with self.lender() as lender:
            return {name: holder for name in self.hosts if (holder := lender.holder(name))}

    def fleet(self, plan: Path, output: Path) -> "subprocess.Popen[str]":
        """Start `iommufd fleet run`."""
        command = [IOMMUFD, "fleet", "run", str(plan), "-o", str(output), "--coordinator", self.address]
        process = subprocess.Popen(
            [*DEFAULT_SIGNALS, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """End all processes of the lab."""
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=patience(20))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def plain_lab(directory: Path, hosts: Sequence[str]) -> Iterator[Lab]:
    """A lab with plain hosts, each with a place of its own."""
    found = Lab(directory)
    try:
        found.write_places({name: {"kind": "plain"} for name in hosts})
        found.start_coordinator()
        for name in hosts:
            found.add_host(name)
        found.start_exporter()
        yield found
    finally:
        found.stop()
