"""The brokers as the outbox of a source sees them, without a network."""

import asyncio
from collections import deque
from typing import Any, NamedTuple

import msgspec
from aiokafka import errors as kafka_errors

from aiopype.ownership import SourceState
from aiopype.progress import Progress
from aiopype.transport.owning import Owning
from aiopype.transport.source_states import new_state_topic


class Record(NamedTuple):
    """What was written."""

    topic: str
    partition: int
    key: bytes | None
    value: Any
    timestamp: int


class Commit(NamedTuple):
    """One transaction: its records, and the state that was written with them."""

    records: list[Record]
    state: SourceState


class SourceKafka:
    """Transactional producers, the states of one source, its group; and what is asked of them.

    A producer that starts fences those before it.

    Attributes:
        states: reads states; its topic is theirs.
        limits: the limits of topics, of which it says that they may have changed as often as
            `limits.changes` says.
        state: the last state that is durable; what `read` raises if it is an exception.
        commits: the transactions that are durable, in order.
        steps: what was asked, in order.
        refusals: what `confirm` raises, one a call; None confirms.
        start_errors: what the next starts of producers raise.
        errors: what the next transactions raise, and whether they are durable all the same.
        may_commit, may_start: cleared, they hold every transaction and every start.
    """

    def __init__(self, group="flow", worker="me:1"):
        self.group, self.worker = group, worker
        self.topic = new_state_topic(group)
        self.topic.partitions = 16
        self.state = None
        self.commits, self.steps = [], []
        self.refusals, self.start_errors, self.errors = deque(), deque(), deque()
        self.changes = 0
        self.ids = []
        self.current = None
        self.starting = self.most_starting = 0
        self.may_commit, self.may_start = asyncio.Event(), asyncio.Event()
        self.may_commit.set()
        self.may_start.set()
        self.progress = Progress()

    def owning(self, **given):
        """What the outboxes of a worker share."""
        whole = {
            "group": self.group,
            "worker": self.worker,
            "connect": self.connect,
            "confirm": self.confirm,
            "states": self,
            "limits": self,
            "progress": self.progress,
        }
        return Owning(**whole | given)

    def taken_over(self, position=b"null", epoch=None, run="other", worker="other:1"):
        """Have another owner write a state, and fence whoever writes now."""
        self.state = SourceState(
            position=msgspec.Raw(position),
            epoch=(self.state.epoch + 1 if self.state else 1) if epoch is None else epoch,
            run=run,
            number=4,
            worker=worker,
            since_ms=1,
            at_ms=2,
        )
        self.current = None

    def values(self):
        """The values that are durable, a list for each transaction that has any."""
        found = [[record.value for record in commit.records] for commit in self.commits]
        return [values for values in found if values]

    def positions(self):
        """The position of each transaction."""
        return [commit.state.raw_position for commit in self.commits]

    # --- what the outbox asks

    async def confirm(self, source):
        self.steps.append("confirm")
        if self.refusals and (error := self.refusals.popleft()):
            raise error

    async def connect(self, transactional_id):
        self.steps.append("connect")
        self.ids.append(transactional_id)
        return _Producer(self)

    async def read(self, source):
        self.steps.append("read")
        await asyncio.sleep(0)
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    async def prepare(self):
        pass

    def look_again(self, events):
        self.changes -= 1
        return self.changes >= 0


class _Producer:
    def __init__(self, kafka):
        self.kafka = kafka

    async def start(self):
        kafka = self.kafka
        kafka.steps.append("start")
        kafka.starting += 1
        kafka.most_starting = max(kafka.most_starting, kafka.starting)
        try:
            await kafka.may_start.wait()
        finally:
            kafka.starting -= 1
        if kafka.start_errors:
            raise kafka.start_errors.popleft()
        kafka.current = self

    def create_batch(self):
        return _Batch()

    async def commit(self, packed, group, offsets):
        kafka = self.kafka
        kafka.steps.append("commit")
        assert (group, offsets) == (kafka.group, {})
        records = [
            Record(topic, partition, key, value, timestamp)
            for topic, partition, batch in packed
            for key, value, timestamp in batch.records
        ]
        ((_, _, _, state, _),) = [r for r in records if r.topic == kafka.topic.name]
        commit = Commit(
            [r for r in records if r.topic != kafka.topic.name], SourceState.decode("m", state)
        )
        await asyncio.sleep(0)
        error, is_durable = kafka.errors.popleft() if kafka.errors else (None, True)
        if is_durable and kafka.current is self:
            kafka.state = commit.state
            kafka.commits.append(commit)
        await kafka.may_commit.wait()
        if error is not None:
            raise error
        if kafka.current is not self and commit not in kafka.commits:
            raise kafka_errors.ProducerFenced()


class _Batch:
    """A record batch that takes all."""

    def __init__(self):
        self.records = []

    @property
    def _builder(self):
        return self

    def append(self, _number, timestamp, key, value, _headers):
        self.records.append((key, value, timestamp))
        return object()

    def close(self):
        pass

    def record_count(self):
        return len(self.records)
