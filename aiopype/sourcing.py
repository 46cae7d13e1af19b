"""The sources of a flow that are this worker's: started, paused, stopped and given up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from aiopype.errors import (
    DeliveryError,
    EmitError,
    OutputRefused,
    OwnershipLost,
    SourceError,
)
from aiopype.graph import manager_of
from aiopype.logs import about
from aiopype.ownership import Stopped, Wish
from aiopype.pipelines import Pipelines
from aiopype.protocol.kafka import AsyncProtocol
from aiopype.source import Source
from aiopype.states import State, Status
from aiopype.supervision import stop_task
from aiopype.transport.outbox import RETRY_SECONDS, SourceOutbox
from aiopype.transport.owning import Owning

__all__ = ["Sources"]

logger = logging.getLogger(__name__)

#: A stopped source's events have this long to become durable.
FLUSH_SECONDS = 4.0

#: Of the reason why a source does not run: each of its records has it.
REASON_CHARACTERS = 500

NOTHING = Wish()


class Sources:
    """Runs the sources that the group has assigned to this worker and nobody has paused.

    A source has an outbox as long as it is this worker's, and a task that writes what is in it.
    What that cannot do fails the source, which is started again as its `restarts` says, with the
    same outbox: the events wait in it.

    Arguments:
        pipelines: the flow's managers.
        protocol: the one they were built for.
        owning: what the outboxes share.
        wishes: what operators wish, by source; it changes.
    """

    def __init__(
        self,
        pipelines: Pipelines,
        protocol: AsyncProtocol,
        owning: Owning,
        wishes: Mapping[str, Wish],
    ) -> None:
        self._pipelines = pipelines
        self._protocol = protocol
        self._owning = owning
        self._wishes = wishes
        self._assigned: frozenset[str] = frozenset()
        self._has_lease = False
        self._outboxes: dict[str, SourceOutbox] = {}
        self._senders: dict[str, asyncio.Task[None]] = {}
        #: Those that are started here, each with the number of the restart that was wished last.
        self._running: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._on_given_up: Callable[[], None] = lambda: None
        pipelines.supervisor.on_change(self._tell)

    def start(self, on_given_up: Callable[[], None]) -> None:
        """Begin to follow what is assigned and wished.

        Arguments:
            on_given_up: called when sources have been given up that others shall have.
        """
        self._on_given_up = on_given_up
        self._work = asyncio.create_task(self._follow(), name="start and stop sources")

    async def stop(self) -> None:
        """Stop all sources and write what they emitted, 12 seconds at most."""
        if self._work is not None:
            await stop_task(self._work, 1.0)
            self._work = None
        await self._give_up(self._outboxes.keys() | self._running.keys())

    # --- what is said from outside

    @property
    def held(self) -> dict[str, int]:
        """The sources that this worker has not given up, each with its epoch.

        None while the group may have gone on without it: it has no claim to any then.
        """
        if not self._has_lease:
            return {}
        return {name: outbox.epoch for name, outbox in self._outboxes.items()}

    def assign(self, names: frozenset[str]) -> None:
        """Take what the group has assigned."""
        self._assigned = names & frozenset(self._pipelines.sources)
        self._has_lease = True
        self._changed.set()

    def suspend(self, reason: str) -> None:
        """Stop all sources for now: they may be another worker's.

        Their outboxes are kept: when it turns out that nobody else had them, nothing is lost.
        """
        if self._running:
            logger.warning("the sources of this worker are stopped: %s", reason)
        self._has_lease = False
        self._changed.set()

    def look_again(self) -> None:
        """Note that something else is wished."""
        self._changed.set()

    # --- doing it

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._adjust()

    async def _adjust(self) -> None:
        wanted = self._wanted()
        again = {
            name
            for name, restart in self._running.items()
            if name in wanted and restart != self._wishes.get(name, NOTHING).restart
        }
        await self._stop_running((self._running.keys() - wanted) | again)
        await asyncio.gather(*(self._reopen(name) for name in again))
        for name in self._assigned & self._outboxes.keys():
            wish = self._wishes.get(name, NOTHING)
            self._outboxes[name].obey(wish.is_paused, wish.restart)
        if self._has_lease:
            others = self._outboxes.keys() - self._assigned
            await self._give_up(others)
            if others:
                self._on_given_up()
        # The group may have said something else meanwhile.
        sources, progress = self._pipelines.sources, self._protocol.progress
        for name in sorted(self._wanted() - self._running.keys()):
            self._running[name] = self._wishes.get(name, NOTHING).restart
            sources[name].heard_at = None  # of what others heard meanwhile nothing is known here
            sources[name].vitals.begin(partial(progress.errors.add, name))
            progress.sources.add(name)
            self._pipelines.start_source(name, self._prepare)

    def _wanted(self) -> set[str]:
        """Return the sources that shall run here now."""
        if not self._has_lease:
            return set()
        return {n for n in self._assigned if not self._wishes.get(n, NOTHING).is_paused}

    async def _stop_running(self, names: Iterable[str]) -> None:
        names = sorted(names)
        await asyncio.gather(*(self._pipelines.stop_source(name) for name in names))
        for name in names:
            del self._running[name]
            self._protocol.progress.sources.discard(name)
            self._protocol.close_outbox(name)
            logger.info("source %s is stopped here", name, extra=about(name))

    async def _reopen(self, name: str) -> None:
        """Have a source begin where the brokers say it is, also one that had ended."""
        if name in self._senders:
            await stop_task(self._senders.pop(name), 1.0)
        self._protocol.begin(name)

    async def _give_up(self, names: Iterable[str]) -> None:
        names = sorted(names)
        await self._stop_running(self._running.keys() & set(names))
        flushes = [
            asyncio.create_task(_flush(self._outboxes[name]), name=f"flush {name}")
            for name in names
            if name in self._senders and not self._senders[name].done()
        ]
        if flushes:
            _, late = await asyncio.wait(flushes, timeout=FLUSH_SECONDS)
            for flush in late:
                flush.cancel()
        senders = [self._senders.pop(name) for name in names if name in self._senders]
        await asyncio.gather(*(stop_task(sender, 1.0) for sender in senders))
        sources = self._pipelines.sources
        for name in names:
            outbox = self._outboxes.pop(name, None)
            sources[name].vitals.outbox = None
            if outbox is not None and outbox.count:
                text = "%d events of source %s are dropped unwritten"
                logger.error(text, outbox.count, name, extra=about(name))

    async def _prepare(self, source: Source) -> None:
        """Own a source before it runs; what fails here fails the source."""
        name = source.name
        outbox = self._outboxes.get(name)
        if outbox is None:
            outbox = self._outboxes[name] = SourceOutbox(name, self._owning)
            outbox.obey(False, self._running.get(name, 0))
            source.vitals.outbox = outbox
        outbox.forget_pending()
        sender = self._senders.get(name)
        if sender is not None and not sender.done() and not outbox.is_open:
            # It opens again, after an error or a suspension; that is to be done before the source
            # runs, which may have another position by then.
            await stop_task(sender, 1.0)
        if sender is None or sender.done():
            outbox.discard()
            await self._open(outbox, name)
            run = self._send(outbox, name)
            title = f"outbox of {name}"
            self._senders[name] = self._pipelines.supervisor.start(title, name, run)
        outbox.admit()
        self._protocol.open_outbox(name, outbox)

    async def _open(self, outbox: SourceOutbox, name: str) -> None:
        while True:
            try:
                await outbox.open()
            except OwnershipLost:
                # The group says soon whose it is; this run is cancelled then.
                await asyncio.sleep(RETRY_SECONDS)
            except OutputRefused:
                raise
            except DeliveryError as error:
                outbox.trouble = str(error)
                logger.warning("source %s waits: %s", name, error, extra=about(name))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _send(self, outbox: SourceOutbox, name: str) -> None:
        while True:
            try:
                await outbox.run()
            except OwnershipLost as error:
                # What waits is written if the source turns out to be this worker's after all.
                logger.warning("events wait: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            except OutputRefused as error:
                what = f"outbox of {name} raised {type(error).__name__}: {error}"
                self._pipelines.supervisor.fail(name, error, what)
                # That it does not run would wait behind what is refused.
                with contextlib.suppress(DeliveryError, OwnershipLost, SourceError):
                    await outbox.say()
                return

    def _tell(self, name: str) -> None:
        """Have it said where it is stored that a source, or those of a manager, run or do not."""
        supervisor = self._pipelines.supervisor
        is_manager = name == manager_of(name)
        its_own = [s for s in self._running if manager_of(s) == name] if is_manager else [name]
        for source in its_own:
            if source in self._running and source in self._outboxes:
                self._outboxes[source].tell(_stopped(supervisor.status(source)))


def _stopped(status: Status) -> Stopped | None:
    if status.state is State.RUNNING:
        return None
    again = status.again_seconds
    return Stopped(
        state=str(status.state),
        since_ms=int(status.since_seconds * 1000),
        reason=status.reason[:REASON_CHARACTERS],
        again_ms=None if again is None else int(again * 1000),
    )


async def _flush(outbox: SourceOutbox) -> None:
    with contextlib.suppress(EmitError):  # another has written: nothing of it will be durable
        await outbox.flush()
