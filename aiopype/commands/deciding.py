"""Replays and discards of dead letters: what is refused, what is asked of the workers, how it ends.

A decision is a record in the topic that the manager's `Replays` reads; it is the mark of the letter
as well, so that asking twice does nothing twice. Two commands that decide about the same letter
within the moment between reading and writing both do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import msgspec

from aiopype.commands.letters import Entry, Letters, Log, letter_in, said_by
from aiopype.dead_letters import DeadLetter
from aiopype.graph import Graph
from aiopype.replays import REQUEST_BYTES, Place, ReplayRequest
from aiopype.topics import Topic
from aiopype.tracing import replay_of
from aiopype.transport.stored import Outgoing

__all__ = ["DONE", "Action", "Decider", "Pens", "outcomes"]

Action = Literal["replay", "discard"]

#: What tells letters of one original from each other: its place, the subscription that failed, and
#: how often it was replayed.
Mark = tuple[object, ...]

#: Decisions that are written together: so many at most, and so many bytes.
TOGETHER = 200
TOGETHER_BYTES = 8 * 1024 * 1024

#: How a replay ends well.
DONE = "done"

#: Between two looks at how far the workers are.
LOOK_SECONDS = 0.2


class Refusal(Exception):
    """Why nothing is done about a letter."""


class Pens(Protocol):
    """What writes; `transport.reading.Writer` is one."""

    async def write(self, records: Sequence[Outgoing]) -> list[int]:
        """Write records, and return their offsets."""


class Pending(NamedTuple):
    """A replay that was asked for, without the letter's bytes.

    Attributes:
        name: the letter's id.
        request: where the request stands.
        failure: what tells the letter that says of its failure.
    """

    name: str
    request: Place
    failure: Mark


@dataclass
class Decider:
    """Decides about letters, one kind of decision.

    Arguments:
        action: what is decided.
        graph: the flow, as it runs on Kafka.
        log: its broker.
        pens: writes the decisions; None for a dry run.
        again: whether letters that are not open are taken as well.
        tell: called with each letter, whether it is taken, and with what or why not.

    Attributes:
        pending: the replays that were asked for.
        before: where the error topics ended before anything was asked for.
    """

    action: Action
    graph: Graph
    log: Log
    pens: Pens | None
    again: bool
    tell: Callable[[Entry, bool, str], None]
    pending: list[Pending] = field(default_factory=list)
    before: Mapping[tuple[str, int], int] = field(default_factory=dict)
    _batch: list[tuple[Entry, Outgoing]] = field(default_factory=list)
    _bytes: int = 0
    _counts: dict[str, int] = field(default_factory=dict)
    _known: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self._known = frozenset(s.name for _, found in self.graph.subscribed() for s in found)

    async def decide(self, letters: Letters, entry: Entry) -> None:
        """Ask for it, or tell why not; what was asked for is written by `flush` at the latest.

        Raises:
            BrokerError: decisions cannot be written.
        """
        try:
            request = await self._request(letters.requests_of(entry), entry)
        except Refusal as why:
            self.tell(entry, False, str(why))
            return
        self._batch.append((entry, request))
        self._bytes += len(request.value)
        if len(self._batch) >= TOGETHER or self._bytes >= TOGETHER_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write what was decided, and tell of it.

        Raises:
            BrokerError: it cannot be written; part of it may be.
        """
        batch, self._batch, self._bytes = self._batch, [], 0
        if self.pens is not None and batch:
            offsets = await self.pens.write([record for _, record in batch])
            for (entry, record), offset in zip(batch, offsets, strict=True):
                if self.action == "replay" and entry.letter is not None:
                    place = Place(record.topic, record.partition, offset)
                    failure = _mark(entry.letter, entry.letter.replays + 1)
                    self.pending.append(Pending(str(entry.id), place, failure))
        for entry, _ in batch:
            self.tell(entry, True, (entry.letter and entry.letter.subscription) or "")

    async def _request(self, topic: Topic, entry: Entry) -> Outgoing:
        if entry.state != "open" and not self.again:
            raise Refusal(f"is {entry.state} already; --again takes it all the same")
        partitions = await self._partitions_of(topic.name)
        if not partitions:
            raise Refusal(
                f"topic {topic.name} does not exist; start the flow with this version once"
            )
        letter, key = None, entry.record.key
        if self.action == "replay":
            letter = await self._whole(self._replayable(entry))
            key = letter.key
        request = ReplayRequest(do=self.action, letters=(entry.place,), letter=letter)
        value = msgspec.json.encode(request)
        if len(value) > REQUEST_BYTES:
            raise Refusal(f"is too large for topic {topic.name}: {len(value):,} bytes")
        partition = await self._partition(partitions, entry, key)
        now = int(time.time() * 1000)
        return Outgoing(topic.name, partition, now, key, value, replay_of(letter))

    def _replayable(self, entry: Entry) -> DeadLetter:
        letter = entry.letter
        if letter is None:
            raise Refusal("is not a dead letter; discard it")
        if letter.subscription is None:
            raise Refusal('was emitted with emit("error", ...), so there is nothing to run again')
        if letter.subscription not in self._known:
            raise Refusal(f"there is no subscription {letter.subscription!r} any more")
        return letter

    async def _whole(self, letter: DeadLetter) -> DeadLetter:
        if not letter.is_cut:
            return letter
        where = f"{letter.topic}[{letter.partition}] offset {letter.offset}"
        record = None
        if letter.topic is not None and letter.partition is not None and letter.offset is not None:
            record = await self.log.record(letter.topic, letter.partition, letter.offset)
        if record is None:
            raise Refusal(f"has only the beginning of its original, which is gone from {where}")
        if len(record.value or b"") != letter.value_bytes:
            raise Refusal(f"has only the beginning of its original, and {where} is another event")
        return msgspec.structs.replace(
            letter, key=record.key, value=record.value, headers=record.headers, is_cut=False
        )

    async def _partition(self, partitions: int, entry: Entry, key: bytes | None) -> int:
        """Return where the original's key belongs, by the rule of `transport.outputs.pack`."""
        letter = entry.letter
        if letter is not None and letter.topic is not None and letter.partition is not None:
            origin = letter.partition
            if key is None or await self._partitions_of(letter.topic) == partitions:
                return origin % partitions
        if key is None:
            return entry.record.partition % partitions
        from aiopype.transport.outputs import partition_of  # noqa: PLC0415 - loads aiokafka

        return partition_of(key, partitions)

    async def _partitions_of(self, topic: str) -> int:
        if topic not in self._counts:
            self._counts[topic] = (await self.log.partitions([topic])).get(topic, 0)
        return self._counts[topic]


async def outcomes(
    decider: Decider, letters: Letters, group: str, seconds: float
) -> AsyncIterator[tuple[str, str]]:
    """Wait for the replays that were asked for, and yield how each ended.

    A replay is over when the flow's group is done with the request; it has failed if a letter of
    the same original says so.

    Arguments:
        decider: has asked for them.
        letters: of the flow, where failures are.
        group: the flow's consumer group.
        seconds: after these the others are not done yet.
    """
    deadline = time.monotonic() + seconds
    late = set(decider.pending)
    while late:
        done = await decider.log.committed(group)
        late = {
            p
            for p in late
            if done.get((p.request.topic, p.request.partition), 0) <= p.request.offset
        }
        if not late or time.monotonic() >= deadline:
            break
        await asyncio.sleep(LOOK_SECONDS)
    # It says of itself what it could not do, as of too large an output: then its letter's original
    # is the request.
    marks = {p.failure: p for p in decider.pending} | {p.request: p for p in decider.pending}
    failed = {}
    async for record in decider.log.records(letters.topics, after=decider.before):
        letter = letter_in(record.value)
        if letter is not None:
            mark = _mark(letter, letter.replays)
            one = marks.get(mark) or marks.get(mark[:3])
            if one is not None:
                failed[one] = f"failed again: {said_by(letter)}"
    for one in decider.pending:
        text = "not done yet: it runs when a worker of the flow does"
        yield one.name, text if one in late else failed.get(one, DONE)


def _mark(letter: DeadLetter, replays: int) -> Mark:
    return (letter.topic, letter.partition, letter.offset, letter.subscription, replays)
