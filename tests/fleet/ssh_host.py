# SPDX-License-Identifier: MIT
"""An ssh server in a user's process that acts as a machine: as this host itself, or as a guest of the lab.

    python ssh_host.py DIRECTORY PORT [KERNEL CONSOLE_PORT MACHINE]

Commands run in the guest. Its files are in DIRECTORY, which guest and host share. Its serial console is a raw TCP
port, like that of a console server. If the guest's kernel dies, ssh no longer answers, and the console keeps its
last messages.
"""

import asyncio
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import asyncssh

from iommufd_py.lab import kernel
from iommufd_py.lab.config import Configuration
from iommufd_py.lab.machine import Machine, NativeMachine
from iommufd_py.lab.progress import Silent
from iommufd_py.lab.warm.guests import WarmGuest
from iommufd_py.lab.warm.jobs import run_in_guest
from iommufd_py.lab.warm.keeper import start_guest

LARGEST_FILE = 4 << 20
"""Largest file in bytes on this host. Writing more fails as on a full disk."""

MACHINES = {"native": NativeMachine(), "vtd": Machine(), "vtd-coherent": Machine(coherent=True)}
"""The machines of guests by their names."""

_POLL_SECONDS = 0.1
_COMMAND_SECONDS = 600


class _Server(asyncssh.SSHServer):  # type: ignore[misc]  # asyncssh gives no types to mypy here
    """Accepts every user. It listens on the loopback interface only, and only during a test."""

    connections: ClassVar[set[asyncssh.SSHServerConnection]] = set()

    def connection_made(self, conn: "asyncssh.SSHServerConnection") -> None:
        self._connection = conn
        self.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        return False


class _Files(asyncssh.SFTPServer):  # type: ignore[misc]  # the same
    """Reports exit status 0 at the end; without a status scp reports a failure."""

    def exit(self) -> None:
        self.channel.exit(0)


class _Host:
    def __init__(self, directory: Path, guest: WarmGuest | None) -> None:
        self._directory = directory
        self._guest = guest
        (directory / "tmp").mkdir(exist_ok=True)
        self._environment = {"TMPDIR": str(directory / "tmp"), "HOST_DIRECTORY": str(directory)}

    async def handle(self, process: Any) -> None:
        """Run the command of one ssh session."""
        command = process.command
        if command == "cat":
            # This is labgrid's keepalive command. It must end with the connection, so it does not run in the guest.
            await process.stdin.read()
            process.exit(0)
            return
        status, out, errors = await asyncio.get_running_loop().run_in_executor(None, self._run, command)
        process.stdout.write(out)
        process.stderr.write(errors)
        process.exit(status)

    def _run(self, command: str) -> tuple[int, bytes, bytes]:
        if self._guest is None:
            done = subprocess.run(
                ["sh", "-c", command],
                env=os.environ | self._environment,
                cwd=self._directory,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                check=False,
            )
            return done.returncode, done.stdout, done.stderr
        words = [*(f"{name}={value}" for name, value in self._environment.items()), "sh", "-c", command]
        with (self._directory / "out").open("w+b") as out, (self._directory / "err").open("w+b") as errors:
            result = run_in_guest(
                self._guest,
                ["env", *words],
                timeout=_COMMAND_SECONDS,
                waiting=lambda: None,
                stdout=out,
                stderr=errors,
            )
            out.seek(0)
            errors.seek(0)
            return 255 if result.status is None else result.status, out.read(), errors.read()


async def _console(log: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with log.open("rb") as file:
        while not writer.is_closing():
            writer.write(file.read())
            await writer.drain()
            await asyncio.sleep(_POLL_SECONDS)


async def _serve(directory: Path, port: int, guest: WarmGuest | None, console: int) -> None:
    host = _Host(directory, guest)
    # Only one command runs at a time, because the output files have fixed names.
    server = await asyncssh.create_server(
        _Server,
        "127.0.0.1",
        port,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        process_factory=host.handle,
        sftp_factory=_Files,
        encoding=None,
    )
    if guest is not None:
        kept = directory / "kernel.log"
        os.link(guest.kernel_log, kept) if guest.kernel_log.exists() else kept.touch()
        await asyncio.start_server(lambda reader, writer: _console(kept, reader, writer), "127.0.0.1", console)
    print("ready", flush=True)
    while guest is None or guest.alive:
        if (directory / "drop").exists():
            # Drop the connection silently, like a firewall that forgets its connections.
            (directory / "drop").unlink()
            for one in tuple(_Server.connections):
                one.abort()
        await asyncio.sleep(_POLL_SECONDS)
    server.close()
    for one in tuple(_Server.connections):
        one.abort()
    await asyncio.Event().wait()


def main() -> None:
    """Serve until this process is ended."""
    directory, port = Path(sys.argv[1]).resolve(), int(sys.argv[2])
    guest, console = None, 0
    if len(sys.argv) > 3:
        machine = MACHINES[sys.argv[5]]
        configuration = Configuration("um" if isinstance(machine, NativeMachine) else "x86_64")
        image = kernel.image(sys.argv[3], Silent(), configuration)
        os.chdir(directory)
        guest = start_guest(image, machine, kernel_name=sys.argv[3], rw=(), stay=False)
        console = int(sys.argv[4])
        print(guest.keeper, flush=True)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    asyncio.run(_serve(directory, port, guest, console))


if __name__ == "__main__":
    main()
