# SPDX-License-Identifier: MIT
"""Borrow places from a labgrid coordinator. labgrid provides the queue, the locks and the drivers."""

import asyncio
import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
from labgrid import Environment, Target
from labgrid.remote.client import ClientSession, ServerError, find_role_by_place
from labgrid.remote.common import ReservationState
from labgrid.remote.generated import labgrid_coordinator_pb2 as messages
from labgrid.resource.remote import RemotePlace, RemotePlaceManager
from labgrid.util.proxy import ProxyError, proxymanager

from iommufd_py.base.errors import ToolError
from iommufd_py.base.shown import shown

DEFAULT_COORDINATOR = "127.0.0.1:20408"
_PORT = 20408
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9_.-]{0,252})(:[0-9]{1,5})?")
_POLL_SECONDS = 1.0
# The run ends if a coordinator that restarts is not back within this time.
_COORDINATOR_SECONDS = 60.0
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class LendingError(ToolError):
    """The coordinator does not lend a place. The text names the place and the reason."""


class TakenAwayError(LendingError):
    """The coordinator has lent a place of this run to somebody else."""


def coordinator_address(text: str) -> str:
    """Return the coordinator's address *text* with its port, which is 20408 if *text* has none.

    Raises:
        LendingError: *text* is not ``host`` or ``host:port``.
    """
    refusal = f"{shown(text)} is not the address of a coordinator: write HOST or HOST:PORT"
    # labgrid makes a part of an address of each text: the path of a URL, a blank for a host.
    if not _ADDRESS.fullmatch(text):
        raise LendingError(refusal)
    try:
        return str(proxymanager.get_grpc_address(text, default_port=_PORT))
    except (ValueError, ProxyError) as failure:
        raise LendingError(f"{refusal} ({failure})") from None


class _Session(ClientSession):  # type: ignore[misc]  # labgrid has no types
    """A labgrid session that only this process uses, so that two runs of one user never share a place."""

    def getuser(self) -> str:
        return f"{super().getuser()}.fleet.{os.getpid()}"


class Lender:
    """A connection to the coordinator. Every thread may use it; the connection runs in a thread of its own."""

    def __init__(self, address: str) -> None:
        """Connect to the coordinator.

        Raises:
            LendingError: no coordinator answers at *address* (``host:port``).
        """
        self.address = address
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="coordinator", daemon=True)
        self._thread.start()
        try:
            self._session: Any = self._wait(self._connect())
        except BaseException:
            self._stop_loop()
            raise

    def close(self) -> None:
        """End the connection. It does not release places."""
        self._wait(self._disconnect())
        self._stop_loop()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _connect(self) -> Any:
        session = _Session(coordinator_address(self.address), self._loop)
        try:
            await session.start()
        except ServerError:
            await session.close()
            raise LendingError(
                f"no labgrid coordinator answers at {self.address}: start labgrid-coordinator, or name another one by "
                "--coordinator or LG_COORDINATOR"
            ) from None
        return session

    async def _disconnect(self) -> None:
        self._session.stopping.set()
        await self._session.stop()
        await self._session.close()

    def _ask(self, name: str, request: Any, subject: str) -> Any:
        """Send a request. Repeat it while the coordinator restarts. An error names *subject*."""
        deadline = time.monotonic() + _COORDINATOR_SECONDS
        while True:
            try:
                self.reconnect()
                return self._wait(self._call(name, request))
            except grpc.aio.AioRpcError as failure:
                if failure.code() not in _GONE or time.monotonic() > deadline:
                    raise LendingError(f"{subject}: {failure.details()}") from None
            except LendingError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_POLL_SECONDS)

    async def _call(self, name: str, request: Any) -> Any:
        answer = await getattr(self._session.stub, name)(request)
        await self._session.sync_with_coordinator()
        return answer

    def reconnect(self) -> None:
        """Connect again if the connection is lost.

        Raises:
            LendingError: the coordinator does not answer.
        """
        with self._lock:
            if self._session.stopping.is_set():
                self._wait(self._disconnect())
                self._session = self._wait(self._connect())

    @contextlib.contextmanager
    def reserved(self, wanted: Mapping[str, str], stopped: Callable[[], bool]) -> Iterator[str | None]:
        """Wait in the coordinator's queue for a place with the tags *wanted*, and yield its name.

        Yields None if *stopped* returns true before a place is free. The reservation ends with the block.
        """
        shown = " ".join(f"{key}={value}" for key, value in wanted.items())
        places = self._session.places.items()
        if not any(wanted.items() <= {**place.tags, "name": name}.items() for name, place in places):
            raise LendingError(
                f"no place has the tags {shown}: 'labgrid-client -x {self.address} -v places' shows them"
            )
        token = self._reserve(wanted, shown)
        try:
            while not stopped():
                request = messages.PollReservationRequest(token=token)
                try:
                    found = self._ask("PollReservation", request, f"the reservation of {shown}").reservation
                except LendingError:
                    # A coordinator that restarts forgets its reservations.
                    token = self._reserve(wanted, shown)
                    continue
                if ReservationState(found.state) is ReservationState.allocated:
                    yield found.allocations["main"]
                    return
                if ReservationState(found.state) in (ReservationState.expired, ReservationState.invalid):
                    token = self._reserve(wanted, shown)
                time.sleep(_POLL_SECONDS)
            yield None
        finally:
            # After a restart the reservation does not exist, and there is nothing to cancel.
            with contextlib.suppress(LendingError):
                self._ask("CancelReservation", messages.CancelReservationRequest(token=token), "the reservation")

    def _reserve(self, wanted: Mapping[str, str], shown: str) -> str:
        filters = {"main": messages.Reservation.Filter(filter=dict(wanted))}
        request = messages.CreateReservationRequest(filters=filters, prio=0.0)
        return str(self._ask("CreateReservation", request, f"a reservation of {shown}").reservation.token)

    def acquire(self, place: str) -> None:
        """Take *place* for this process.

        Raises:
            LendingError: somebody else has the place, or one of its resources is missing.
        """
        missing = self._session.places[place].unmatched(self.resources())
        if missing:
            raise LendingError(f"{place}: no exporter offers {missing}; check that its labgrid-exporter runs")
        self._ask("AcquirePlace", messages.AcquirePlaceRequest(placename=place), place)

    def resources(self) -> list[tuple[str, str, str, str]]:
        """Return the resources that exporters offer now: exporter, group, class and name."""
        return [
            (exporter, group, resource.cls, name)
            for exporter, groups in self._session.resources.items()
            for group, resources in groups.items()
            for name, resource in resources.items()
            if "cls" in resource.data
        ]

    def keep(self, place: str) -> None:
        """Take *place* again if the coordinator has restarted: it forgets all that it lent.

        While no coordinator runs, nobody else can take the place, so this function does nothing.

        Raises:
            TakenAwayError: somebody else has the place now.
        """
        try:
            self.reconnect()
        except LendingError:
            return
        if self.holder(place) == self._name:
            return
        try:
            self._ask("AcquirePlace", messages.AcquirePlaceRequest(placename=place), place)
        except LendingError as failure:
            raise TakenAwayError(f"the coordinator does not lend it to this run any more: {failure}") from None

    @property
    def _name(self) -> str:
        return f"{self._session.gethostname()}/{self._session.getuser()}"

    def holder(self, place: str) -> str | None:
        """Return the holder of *place* as ``host/user``; None if nobody holds it."""
        found = self._session.places.get(place)
        return None if found is None else found.acquired

    def release(self, place: str) -> None:
        """Release *place*, if this process holds it."""
        request = messages.ReleasePlaceRequest(placename=place, fromuser=self._name)
        self._ask("ReleasePlace", request, f"{place} cannot be released; run '{self.release_command(place)}'")

    def release_command(self, place: str) -> str:
        """Return the command that frees *place* after this process was killed."""
        return f"labgrid-client -x {self.address} -p {place} release --kick"

    def tags(self, place: str) -> dict[str, str]:
        """Return the tags of *place*."""
        return dict(self._session.places[place].tags)

    def target(self, place: str, environment: Path | None) -> Target:
        """Return labgrid's target of an acquired place, with the drivers of *environment* unless that is None.

        Raises:
            LendingError: no target of the environment has the place.
        """
        with self._lock:
            manager = RemotePlaceManager.get()
            manager.session, manager.loop = self._session, self._loop
            if environment is None:
                target = Target(place)
                RemotePlace(target, name=place)
                return target
            # Each place needs an Environment of its own, because an Environment caches its targets.
            described = Environment(str(environment))
            role = find_role_by_place(described.config.get_targets(), place)
            if role is None:
                raise LendingError(f"{environment} has no target with the RemotePlace {place!r}")
            return described.get_target(role)
