"""A flow whose topics are in memory, and the command line over them."""

import contextlib
from typing import NamedTuple

import msgspec
import pytest
from click.testing import CliRunner

from aiopype import AsyncProtocol, DeadLetter, Processor, cli
from aiopype.commands import errors as command
from aiopype.commands.flows import Connection
from aiopype.pipelines import Pipelines
from aiopype.replays import ReplayRequest
from aiopype.transport.stored import Stored

PARTITIONS = 4


class Writer(Processor):
    """Handles `data` of its own."""

    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.on("data", self.write)

    def write(self, *args):
        pass


class Shelf:
    """Topics in memory, of four partitions each: what commands need of a broker.

    Attributes:
        topics: their records; one that is not here does not exist.
        done: up to where the flow's group is, by topic and partition.
        after_write: called with each record that is written.
        reads: the topics that were read, with the time from which on.
    """

    def __init__(self):
        self.topics, self.done, self.reads = {}, {}, []
        self.after_write = lambda record: None

    def put(self, topic, value, partition=0, timestamp=1_000, key=None, headers=()):
        kept = self.topics.setdefault(topic, [])
        offset = sum(record.partition == partition for record in kept)
        kept.append(Stored(topic, partition, offset, timestamp, key, value, headers))
        return kept[-1]

    async def partitions(self, topics):
        return {topic: PARTITIONS for topic in topics if topic in self.topics}

    async def ends(self, topics):
        return {
            (topic, number): sum(r.partition == number for r in self.topics[topic])
            for topic in topics
            if topic in self.topics
            for number in range(PARTITIONS)
        }

    async def records(self, topics, since_ms=None, *, after=None):
        topics = list(topics)
        self.reads.append((topics, since_ms))
        for topic in topics:
            for record in list(self.topics.get(topic, ())):
                first = (after or {}).get((topic, record.partition), 0)
                if record.offset >= first and record.timestamp >= (since_ms or 0):
                    yield record

    async def record(self, topic, partition, offset):
        found = (r for r in self.topics.get(topic, ()) if r[1:3] == (partition, offset))
        return next(found, None)

    async def committed(self, group):
        assert group == "flow"
        return self.done

    async def write(self, records):
        offsets = []
        for record in records:
            topic, partition, timestamp, key, value, headers = record
            offsets.append(self.put(topic, value, partition, timestamp, key, headers).offset)
            self.after_write(self.topics[topic][-1])
        return offsets


class Request(NamedTuple):
    """A decision as it was written."""

    partition: int
    key: bytes | None
    request: ReplayRequest


@pytest.fixture
def shelf(monkeypatch, declare):
    """The topics of a flow with the manager `prices`, which the command line looks into."""
    declare(lambda manager: Writer("prices.writer", manager.handler), name="prices")
    graph = Pipelines(["prices"], AsyncProtocol(), with_replays=True).protocol.graph
    made = Shelf()
    made.topics = {"prices.replays.request": [], "prices.writer.error": []}

    @contextlib.asynccontextmanager
    async def opened(connection):
        yield made

    def connection_to(target, broker):
        made.asked = (target, broker)
        return Connection("flow", "a:1", {}, graph, ("prices",))

    monkeypatch.setattr(command, "connection_to", connection_to)
    monkeypatch.setattr(command, "open_log", opened)
    monkeypatch.setattr(command, "open_pens", opened)
    return made


@pytest.fixture
def letter():
    """Makes a letter about an event that `prices.writer` could not handle."""

    def make(**given):
        facts = {
            "component": "prices.writer",
            "error": "OSError",
            "message": "disk full",
            "traceback": "Traceback ...\n  deep\nOSError: disk full\n",
            "at_ms": 1_000,
            "tries": 10,
            "subscription": "prices.writer.data -> prices.writer.write",
            "topic": "prices.writer.data",
            "partition": 3,
            "offset": 70,
            "timestamp_ms": 900,
            "key": b"AAPL",
            "value": b'{"price": 1.5}',
            "value_bytes": 14,
        }
        return DeadLetter(**facts | given)

    return make


@pytest.fixture
def put(shelf, letter):
    """Puts a letter into partition `at` of an error topic; returns its id."""

    def add(*, by="prices.writer", at=0, **given):
        about = letter(**given)
        value = msgspec.json.encode(about)
        record = shelf.put(f"{by}.error", value, at, about.at_ms, about.key)
        return f"{by}:{at}:{record.offset}"

    return add


@pytest.fixture
def requests(shelf):
    """Returns the decisions that were written."""

    def read():
        return [
            Request(r.partition, r.key, msgspec.json.decode(r.value, type=ReplayRequest))
            for r in shelf.topics["prices.replays.request"]
        ]

    return read


@pytest.fixture
def aiopype():
    """Runs `aiopype errors` with these arguments."""

    def run(*arguments):
        return CliRunner().invoke(cli.main, ["errors", *arguments], catch_exceptions=False)

    return run
