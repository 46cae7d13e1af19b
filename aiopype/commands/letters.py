"""The dead letters of a flow as they stand in its topics, and what was decided about each."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple, Protocol, get_args

import msgspec

from aiopype.dead_letters import DeadLetter
from aiopype.errors import AiopypeError
from aiopype.graph import Graph, manager_of
from aiopype.replays import REQUEST, Decision, Place, is_replays, replays_of
from aiopype.topics import ERROR, Topic
from aiopype.transport.stored import Stored

__all__ = [
    "STATES",
    "Entry",
    "Letters",
    "LetterId",
    "Log",
    "State",
    "UnknownLetter",
    "Wanted",
    "letter_in",
    "said_by",
]

#: What became of a letter.
State = Literal["open", "replayed", "discarded"]
STATES: tuple[State, ...] = get_args(State)

_STATE_OF: dict[str, State] = {"replay": "replayed", "discard": "discarded"}

#: What stands in the place of an error's class where a record is no dead letter.
GARBAGE = "not a dead letter"

_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")

_read_letter = msgspec.json.Decoder(DeadLetter).decode
_read_decision = msgspec.json.Decoder(Decision).decode
_REFUSALS = (msgspec.MsgspecError, ValueError, TypeError, RecursionError)


class UnknownLetter(AiopypeError):
    """An id that is none, or of a letter that is not there."""


class Log(Protocol):
    """What is needed of the broker; `transport.reading.Reader` is one."""

    def records(
        self,
        topics: Iterable[str],
        since_ms: int | None = None,
        *,
        after: Mapping[tuple[str, int], int] | None = None,
    ) -> AsyncIterator[Stored]:
        """Yield the records that topics have now."""

    async def ends(self, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        """Return where those topics that exist end now."""

    async def record(self, topic: str, partition: int, offset: int) -> Stored | None:
        """Return one record, if it is there."""

    async def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """Return the number of partitions of those topics that exist."""

    async def committed(self, group: str) -> dict[tuple[str, int], int]:
        """Return up to where a group is done."""


class LetterId(NamedTuple):
    """What a letter is called: short, and the same as long as it exists."""

    component: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.component}:{self.partition}:{self.offset}"

    @classmethod
    def of(cls, text: str) -> LetterId:
        """Return the id that a text stands for.

        Raises:
            UnknownLetter: it is none.
        """
        component, *numbers = text.rsplit(":", 2)
        # One way to write each: asked for twice in a command, it must be seen to be the same.
        if len(numbers) != 2 or not all(map(_NUMBER.fullmatch, numbers)):
            raise UnknownLetter(
                f"{text!r} is no id of a dead letter; `aiopype errors list` shows them, as "
                "<manager>.<component>:<partition>:<offset>"
            )
        return cls(component, int(numbers[0]), int(numbers[1]))


@dataclass(frozen=True)
class Entry:
    """A record of an error topic.

    Attributes:
        id: what it is called.
        record: as it stands there.
        letter: what it says; None when it is no dead letter.
        state: what became of it.
        decided_ms: when that was decided, in milliseconds since 1970.
    """

    id: LetterId
    record: Stored
    letter: DeadLetter | None
    state: State = "open"
    decided_ms: int | None = None

    @property
    def at_ms(self) -> int:
        """When it became a dead letter, in milliseconds since 1970."""
        return self.letter.at_ms if self.letter else self.record.timestamp

    @property
    def component(self) -> str:
        """The component that failed."""
        return self.letter.component if self.letter else self.id.component

    @property
    def error(self) -> str:
        """The class of the error."""
        return self.letter.error if self.letter else GARBAGE

    @property
    def message(self) -> str:
        """The text of the error; of garbage, the beginning of its bytes."""
        return self.letter.message if self.letter else repr((self.record.value or b"")[:80])

    @property
    def place(self) -> Place:
        """Where it stands."""
        return Place(self.record.topic, self.record.partition, self.record.offset)


@dataclass(frozen=True)
class Wanted:
    """Which letters are meant; None leaves it open.

    Attributes:
        component: full name, or a pattern with `*` and `?`.
        error: the error's class, with or without its module, or such a pattern.
        since_ms, until_ms: when it became a dead letter, the latter excluded; since 1970.
        states: what became of it.
    """

    component: str | None = None
    error: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    states: tuple[State, ...] = STATES

    def takes_component(self, name: str) -> bool:
        """Say whether letters of this component may be meant."""
        return self.component is None or fnmatchcase(name, self.component)

    def takes(self, entry: Entry) -> bool:
        """Say whether this letter is meant."""
        names = (entry.error, entry.error.rpartition(".")[2])
        return (
            (self.takes_component(entry.component) or self.takes_component(entry.id.component))
            and (self.error is None or any(fnmatchcase(name, self.error) for name in names))
            and (self.since_ms is None or entry.at_ms >= self.since_ms)
            and (self.until_ms is None or entry.at_ms < self.until_ms)
            and entry.state in self.states
        )


class Letters:
    """Reads the dead letters of a flow, each with what was decided about it.

    What was decided is read once, at the first need, and kept: some hundred bytes a decision.
    Letters are not kept.

    Arguments:
        graph: the flow, as it runs on Kafka.
        log: its broker.
    """

    def __init__(self, graph: Graph, log: Log) -> None:
        self._graph = graph
        self._log = log
        topics = {name: graph.find(name, ERROR) for name in graph.components}
        self._topics = {name: topic for name, topic in topics.items() if topic is not None}
        self._components = {topic.name: name for name, topic in self._topics.items()}
        self._decisions: dict[str, dict[Place, tuple[State, int]]] = {}

    @property
    def topics(self) -> list[str]:
        """The topics that have dead letters, or may have."""
        return list(self._components)

    def requests_of(self, entry: Entry) -> Topic:
        """Return the topic that takes decisions about a letter."""
        return self._requests(manager_of(entry.id.component))

    async def matching(self, wanted: Wanted) -> AsyncIterator[Entry]:
        """Yield the letters that are meant, those of a partition from the oldest on."""
        # What a replay says of a component that is no more stands among the replays' own.
        names = [n for n in self._topics if wanted.takes_component(n) or is_replays(n)]
        for manager in {manager_of(name) for name in names}:
            await self._decided(manager)
        topics = [self._topics[name].name for name in names]
        async for record in self._log.records(topics, wanted.since_ms):
            entry = await self._entry(record)
            if wanted.takes(entry):
                yield entry

    async def find(self, text: str) -> Entry:
        """Return the letter with this id.

        Raises:
            UnknownLetter: it is no id, or there is no such letter, or not any more.
        """
        wanted = LetterId.of(text)
        topic = self._topics.get(wanted.component)
        if topic is None:
            known = ", ".join(n for n in self._topics if not is_replays(n)) or "none"
            raise UnknownLetter(
                f"{text}: no component {wanted.component!r} of this flow has dead letters; "
                f"those that may have are: {known}"
            )
        record = await self._log.record(topic.name, wanted.partition, wanted.offset)
        if record is None:
            raise UnknownLetter(
                f"{text}: partition {wanted.partition} of topic {topic.name} has no record at "
                f"offset {wanted.offset}, or not any more; its retention may have passed"
            )
        return await self._entry(record)

    async def _entry(self, record: Stored) -> Entry:
        component = self._components[record.topic]
        decided = await self._decided(manager_of(component))
        place = Place(record.topic, record.partition, record.offset)
        name = LetterId(component, record.partition, record.offset)
        entry = Entry(name, record, letter_in(record.value))
        if place in decided:
            state, decided_ms = decided[place]
            return replace(entry, state=state, decided_ms=decided_ms)
        return entry

    async def _decided(self, manager: str) -> dict[Place, tuple[State, int]]:
        if manager not in self._decisions:
            found = self._decisions[manager] = {}
            async for record in self._log.records([self._requests(manager).name]):
                decision = _decision_in(record.value)
                if decision is not None:
                    decided = (_STATE_OF[decision.do], record.timestamp)
                    found |= dict.fromkeys(decision.letters, decided)
        return self._decisions[manager]

    def _requests(self, manager: str) -> Topic:
        return self._graph.topic(replays_of(manager), REQUEST)


def said_by(letter: DeadLetter) -> str:
    """Return the error of a letter in words; one that the user emitted may have no class."""
    return f"{letter.error}: {letter.message}" if letter.error else letter.message


def letter_in(value: bytes | None) -> DeadLetter | None:
    """Return the dead letter that a value stands for; None when it is none."""
    try:
        return _read_letter(value)  # type: ignore[arg-type] # None is a refusal like another
    except _REFUSALS:
        return None


def _decision_in(value: bytes | None) -> Decision | None:
    try:
        return _read_decision(value)  # type: ignore[arg-type] # None is a refusal like another
    except _REFUSALS:
        return None
