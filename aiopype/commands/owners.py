"""Who runs the sources of a flow: what its topics and its group say, put together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol

import msgspec

from aiopype.commands.flows import Connection
from aiopype.errors import AiopypeError, StateCorrupt
from aiopype.ownership import Member, SourceState, Stopped, Wish, state_topic, wish_topic
from aiopype.settings.files import nearest
from aiopype.transport.stored import Group, Stored

__all__ = [
    "LOOK_SECONDS",
    "Owners",
    "Picture",
    "SourceFacts",
    "UnknownSource",
    "Worker",
]

#: Between two looks.
LOOK_SECONDS = 0.2

#: Higher ones are taken for garbage; so many owners nobody has had.
MOST_EPOCHS = 2**53


class UnknownSource(AiopypeError):
    """A name that no source has."""


class Log(Protocol):
    """What is needed of the broker; `transport.reading.Reader` is one."""

    def records(
        self, topics: Iterable[str], *, after: Mapping[tuple[str, int], int] | None = None
    ) -> AsyncIterator[Stored]:
        """Yield the records that topics have now."""

    async def group(self, name: str) -> Group:
        """Return the members of a group."""


class Worker(NamedTuple):
    """A worker of the flow.

    Attributes:
        name: `<host>:<process id>`.
        address: the one it is connected from.
        can: the sources that its program has.
        sources: those that it was given.
    """

    name: str
    address: str
    can: frozenset[str]
    sources: tuple[str, ...]


class SourceFacts(NamedTuple):
    """What is known of a source.

    Attributes:
        name: its full name.
        is_in_program: whether the program here has it.
        owner: the worker that the group gave it to; None while it is nobody's.
        state: what is stored of it, if that can be read.
        trouble: why it cannot be.
        epoch: the highest one that is known; 0 if none is.
        wish: what is wished of it.
    """

    name: str
    is_in_program: bool
    owner: str | None
    state: SourceState | None
    trouble: str | None
    epoch: int
    wish: Wish

    @property
    def standing(self) -> str:
        """How it stands.

        `running`, or what its owner says of it: `restarting`, `quarantined`, `ended`; `paused`;
        `starting` with an owner that has not written yet; `nobody's`, `never run`, `unreadable`.
        """
        if self.trouble is not None:
            return "unreadable"
        if self.wish.is_paused:
            return "paused"
        if self.stopped is not None:
            return self.stopped.state
        if self.is_running:
            return "running"
        if self.owner is not None:
            return "starting"
        return "never run" if self.state is None else "nobody's"

    @property
    def is_running(self) -> bool:
        """Whether its owner has taken over from where it was."""
        return self.owner is not None and self.state is not None and self.owner == self.state.worker

    @property
    def stopped(self) -> Stopped | None:
        """What its owner says of why it does not run."""
        return self.state.stopped if self.state is not None and self.is_running else None


class Picture(NamedTuple):
    """The sources and workers of a flow at a moment.

    Attributes:
        sources: by name: those of the program, and those that are known otherwise.
        workers: the live ones, also those that hold nothing.
        is_settled: whether the workers have agreed on who runs what; else nobody has an owner.
    """

    sources: Mapping[str, SourceFacts]
    workers: tuple[Worker, ...]
    is_settled: bool

    def choose(self, words: Iterable[str]) -> list[SourceFacts]:
        """Return the sources that names and patterns like `prices.*` mean, each once.

        Raises:
            UnknownSource: one of them means none.
        """
        chosen: dict[str, SourceFacts] = {}
        for word in words:
            found = [s for s in self.sources.values() if word == s.name]
            found = found or [s for s in self.sources.values() if fnmatchcase(s.name, word)]
            if not found:
                raise UnknownSource(f"there is no source {word!r}; {nearest(word, self.sources)}")
            chosen |= {source.name: source for source in found}
        return list(chosen.values())


class Owners:
    """Looks at who runs what; each time it reads on where it stopped.

    Arguments:
        connection: to the flow's topics.
        log: its broker.
    """

    def __init__(self, connection: Connection, log: Log) -> None:
        self._log = log
        self._program = connection.sources
        self._wish_topic = wish_topic(connection.group)
        self._state_topic = state_topic(connection.group)
        self._read: dict[tuple[str, int], int] = {}
        self._wishes: dict[str, Wish] = {}
        self._states: dict[str, SourceState | StateCorrupt] = {}
        self._epochs: dict[str, int] = {}

    async def settled(self, seconds: float = 5.0) -> Picture:
        """Return how things are when the workers have agreed on who runs what.

        Arguments:
            seconds: after these it returns how things are then.
        """
        deadline = time.monotonic() + seconds
        while True:
            picture = await self.look()
            if picture.is_settled or time.monotonic() >= deadline:
                return picture
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> Picture:
        """Return how things are now."""
        await self._read_on()
        group = await self._log.group(self._wish_topic)
        members = [(joined, Member.decode(joined.said)) for joined in group.members]
        workers = tuple(
            Worker(member.worker, joined.host, frozenset(member.can), _given(joined.given))
            for joined, member in sorted(members, key=lambda each: each[1].worker)
        )
        for _, member in members:
            for source, epoch in member.runs.items():
                self._note_epoch(source, epoch)
        owners = {source: worker.name for worker in workers for source in worker.sources}
        names = {*self._program, *self._wishes, *self._states, *owners}
        names.update(source for worker in workers for source in worker.can)
        facts = {name: self._facts(name, owners.get(name)) for name in sorted(names)}
        return Picture(facts, workers, group.is_settled)

    async def _read_on(self) -> None:
        topics = (self._wish_topic, self._state_topic)
        async for record in self._log.records(topics, after=self._read):
            self._read[record.topic, record.partition] = record.offset + 1
            source = (record.key or b"").decode(errors="replace")
            if record.topic == self._wish_topic:
                self._wishes[source] = Wish.decode(record.value)
            else:
                self._note_state(source, record.value)

    def _note_state(self, source: str, value: bytes | None) -> None:
        try:
            state = SourceState.decode(source, value)
        except StateCorrupt as error:
            self._states[source] = error
            self._note_epoch(source, _epoch_in(value))
        else:
            self._states[source] = state
            self._note_epoch(source, state.epoch)

    def _note_epoch(self, source: str, epoch: int) -> None:
        self._epochs[source] = max(epoch, self._epochs.get(source, 0))

    def _facts(self, name: str, owner: str | None) -> SourceFacts:
        state = self._states.get(name)
        is_read = not isinstance(state, StateCorrupt)
        return SourceFacts(
            name,
            name in self._program,
            owner,
            state if isinstance(state, SourceState) else None,
            None if is_read else str(state),
            self._epochs.get(name, 0),
            self._wishes.get(name, Wish()),
        )


class _Epoch(msgspec.Struct):
    epoch: int = 0


def _epoch_in(value: bytes | None) -> int:
    """Return the epoch that a state says which cannot be read otherwise; 0 if it says none."""
    try:
        epoch = msgspec.json.decode(value or b"{}", type=_Epoch).epoch
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return 0
    return epoch if 0 <= epoch < MOST_EPOCHS else 0


def _given(value: bytes) -> tuple[str, ...]:
    try:
        return tuple(msgspec.json.decode(value or b"[]", type=list[str]))
    except (msgspec.MsgspecError, ValueError):
        return ()
