"""Doubles of what the transport's parts need of each other."""

import asyncio
from collections import deque
from time import monotonic

import pytest

from aiopype import Processor
from aiopype.execution import calls
from aiopype.progress import Progress
from aiopype.topics import Topic
from aiopype.transport.batches import Batch
from aiopype.transport.parking import Parking
from aiopype.transport.partition import Partition


class FakeProducer:
    """Takes events; raises the errors it was given first; waits while it is held.

    Attributes:
        sent: what was taken, with partition and count of partitions.
        tries: the same, whether it was taken or not.
        errors: raised by the next calls, one each.
        may_send: cleared, it holds every call.
    """

    def __init__(self):
        self.sent = []
        self.tries = []
        self.errors = []
        self.may_send = asyncio.Event()
        self.may_send.set()

    async def send(self, emitted, partition, partitions=None, *, traced=False):
        self.tries.append((list(emitted), partition, partitions))
        await self.may_send.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.sent.append(self.tries[-1])


class FakeStore:
    """The broker's part of the waiting events: the records of their topics.

    Attributes:
        records: key and value of each, by topic and partition.
        errors: raised by the next reads, one each; None reads.
        needed: the topics that were asked to be made.
        steps: notes each read.
    """

    def __init__(self, steps):
        self.records = {}
        self.errors = deque()
        self.needed = []
        self.steps = steps

    async def read(self, topic, partition):
        self.steps.append("read")
        if self.errors and (error := self.errors.popleft()):
            raise error
        return list(self.records.get((topic.name, partition), ()))

    def need(self, topic):
        self.needed.append(topic.name)

    def write(self, emitted, partition):
        """Write those of these events that are entries."""
        for topic, key, value, *_ in emitted:
            if topic.name.endswith(".parked"):
                self.records.setdefault((topic.name, partition), []).append((key, value))

    def left(self):
        """Return the keys of the entries that are there, in order."""
        found = {}
        for records in self.records.values():
            for key, value in records:
                found.pop(key, None)
                if value is not None:
                    found[key] = value
        return list(found)


class FakeFeed:
    """The consumer's part: holds batches for the agents, which work when the test says so.

    Attributes:
        given: every batch that was given, as its offsets, and to which subscription.
        wakes: how often it was told of room.
        asked: position and known position that partitions went on from.
        errors: raised by the next calls of `go_on`, one each; None answers.
        committed: what the group says.
        may_answer: cleared, it holds `go_on`.
        steps: notes each `go_on`.
    """

    def __init__(self, steps):
        self.is_feeding = True
        self.turns = asyncio.Lock()
        self.threads = None
        self.queue = deque()
        self.given = []
        self.wakes = 0
        self.asked = []
        self.errors = deque()
        self.committed = 5
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.checked = []
        self.steps = steps

    def give(self, batch, index):
        self.queue.append((batch, index))
        self.given.append(([record.offset for record in batch.records], index))

    def wake(self):
        self.wakes += 1

    async def go_on(self, partition, position, known):
        self.steps.append("go on")
        self.asked.append((position, known))
        await self.may_answer.wait()
        if self.errors and (error := self.errors.popleft()):
            raise error
        return self.committed if position is None else position

    async def check_ownership(self, partition):
        self.checked.append(partition)

    async def work(self):
        """Let the next agent work."""
        batch, index = self.queue.popleft()
        await batch.partition.run(batch, index)

    async def work_all(self):
        """Let the agents work until nothing is to do."""
        while self.queue:
            await self.work()


class FakeDelivery:
    """Makes batches durable: notes them, or raises the errors it was given, one a call.

    Attributes:
        done: offsets, position and outputs of each batch; no entries of waiting events.
        entries: how many entries and deletions of waiting events each batch had.
        asked: the offsets of every batch, durable or not.
        errors: raised by the next deliveries, one each; None delivers.
        may_end: cleared, it holds every delivery.
        open_errors, may_open: the same for `open`.
        steps: notes each `open`.
    """

    trusts_memory = True

    def __init__(self, store, steps):
        self.done = []
        self.entries = []
        self.asked = []
        self.errors = deque()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.open_errors = deque()
        self.may_open = asyncio.Event()
        self.may_open.set()
        self.store = store
        self.steps = steps

    async def open(self, partition):
        self.steps.append("open")
        await self.may_open.wait()
        if self.open_errors and (error := self.open_errors.popleft()):
            raise error

    async def deliver(self, batch):
        offsets = [record.offset for record in batch.records]
        self.asked.append(offsets)
        await self.may_end.wait()
        if self.errors and (error := self.errors.popleft()):
            raise error
        outputs = [e[2] for e in batch.emitted if not e[0].name.endswith(".parked")]
        self.done.append((offsets, batch.position, outputs))
        self.entries.append(len(batch.emitted) - len(outputs))
        self.store.write(batch.emitted, batch.partition.number)

    async def keep(self, partitions):
        pass


class Handlers(Processor):
    """Handlers that note which numbers they got.

    Attributes:
        seen: the numbers, as handled.
        failing: the numbers at which some of them raise.
        release: lets those go on that wait.
    """

    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.seen = []
        self.failing = set()
        self.release = asyncio.Event()

    def double(self, n):
        self.seen.append(n)
        self.emit("out", n * 2)

    def negate(self, n):
        self.seen.append(-n)
        self.emit("out", -n)

    def fail(self, n):
        self.double(n)
        if n in self.failing:
            raise LookupError(f"number {n}")

    def pass_later(self, n):
        """Fail the first time only."""
        self.double(n)
        if n in self.failing:
            self.failing.remove(n)
            raise LookupError(f"number {n}")

    def block(self, n):
        self.double(n)
        until = monotonic() + calls.SLICE_SECONDS * 1.5
        while monotonic() < until:
            pass

    async def wait(self, n):
        await self.release.wait()
        self.double(n)

    async def wait_at_1(self, n):
        if n == 1:
            await self.release.wait()
        self.fail(n)


@pytest.fixture
async def producer():
    """A producer that only notes what it sends."""
    return FakeProducer()


@pytest.fixture
def steps():
    """What was asked of the doubles to open a partition, in order."""
    return []


@pytest.fixture
def store(steps):
    """The topics of waiting events."""
    return FakeStore(steps)


@pytest.fixture
async def feed(steps):
    """The consumer's part."""
    return FakeFeed(steps)


@pytest.fixture
async def delivery(store, steps):
    """Makes batches durable, and their entries the store's."""
    return FakeDelivery(store, steps)


@pytest.fixture
async def handlers(recorder):
    """The component whose methods handle the events."""
    return Handlers("m.handlers", recorder)


@pytest.fixture
def failures():
    """What partitions reported."""
    return []


@pytest.fixture
def progress():
    """What partitions counted."""
    return Progress()


@pytest.fixture
async def partition(recorder, handlers, store, feed, delivery, failures, progress):
    """Makes a partition, number 3, whose events these methods handle; it is not open.

    All are closed and ended after the test.
    """
    made = []

    def make(*methods):
        for method in methods:
            recorder.on("m.handlers", "in", getattr(handlers, method))
        topic = recorder.topic("m.handlers", "in")
        parking = Parking(
            Topic("m.handlers", "in.parked"), 3, recorder.graph.subscriptions(topic), store
        )
        made.append(
            Partition(
                topic,
                3,
                feed,
                delivery,
                parking,
                lambda error, what: failures.append((error, what)),
                progress,
            )
        )
        return made[-1]

    yield make
    for one in made:
        one.close()
        await one.end()


@pytest.fixture
def opened(partition, feed, until):
    """Makes a partition as `partition` does and opens it."""

    async def make(*methods):
        one = partition(*methods)
        one.open()
        await until(lambda: one.has_room)
        feed.wakes = 0
        return one

    return make


@pytest.fixture
def take(record):
    """Hands a partition a batch of records whose offsets are also their arguments.

    The position is the offset after the last one, if not given.
    """

    def make(one, *offsets, position=None, key=None):
        records = [record(b"[%d]" % n, key=key, offset=n) for n in offsets]
        one.take(Batch(one, records, offsets[-1] + 1 if position is None else position))

    return make
