import asyncio
import logging
from types import SimpleNamespace

import pytest
from aiokafka import errors as kafka_errors
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from aiopype.errors import BrokerError
from aiopype.transport import reading
from aiopype.transport.reading import Reader, Writer
from aiopype.transport.stored import Outgoing, Stored


class Kafka:
    """Topics of a broker, and the clients that look at them.

    Attributes:
        topics: by name, for each partition its records.
        starts: the first offset that is still there, by partition; 0 where it is not here.
        gaps: offsets behind the last record that hold none: markers of transactions.
        late: records that come only after the reading began.
        unreachable: what every client raises when it starts.
        error: what every question raises.
        is_silent: whether fetches bring nothing.
        clients: those that were made, with their options.
        written: what was sent.
    """

    def __init__(self):
        self.topics, self.starts, self.gaps, self.late = {}, {}, {}, {}
        self.unreachable = self.error = None
        self.is_silent = False
        self.clients, self.written = [], []
        self.offsets = {}

    def put(self, topic, *numbers, partition=0, timestamp=None):
        partitions = self.topics.setdefault(topic, {0: [], 1: []})
        for number in numbers:
            at = number * 100 if timestamp is None else timestamp
            partitions[partition].append(
                SimpleNamespace(
                    topic=topic,
                    partition=partition,
                    offset=number,
                    timestamp=at,
                    key=b"k",
                    value=b"%d" % number,
                    headers=(("h", b"1"),),
                    checksum=None,
                )
            )

    def end(self, place):
        records = self.topics[place.topic][place.partition]
        return (records[-1].offset + 1 if records else 0) + self.gaps.get(place, 0)


class Client:
    """What the three clients have in common."""

    def __init__(self, kafka, options):
        self.kafka, self.options = kafka, options
        self.is_open = False
        kafka.clients.append(self)

    async def start(self):
        if self.kafka.unreachable is not None:
            raise self.kafka.unreachable
        self.is_open = True

    async def stop(self):
        self.is_open = False

    async def close(self):
        self.is_open = False

    async def answer(self):
        await asyncio.sleep(0)
        if self.kafka.error is not None:
            raise self.kafka.error


class Admin(Client):
    async def describe_topics(self, topics=None):
        assert not topics  # a name that is asked for may be created
        await self.answer()
        if topics == []:
            return []
        return [
            {"topic": name, "partitions": list(partitions), "error_code": 0}
            for name, partitions in self.kafka.topics.items()
        ]

    async def list_consumer_group_offsets(self, group):
        await self.answer()
        return self.kafka.offsets[group]


class Consumer(Client):
    def __init__(self, kafka, options):
        super().__init__(kafka, options)
        self.positions, self.paused = {}, set()

    def assign(self, places):
        self.positions = dict.fromkeys(places)
        self.paused = set()

    async def end_offsets(self, places):
        await self.answer()
        return {place: self.kafka.end(place) for place in places}

    async def beginning_offsets(self, places):
        return {place: self.kafka.starts.get(place, 0) for place in places}

    async def offsets_for_times(self, times):
        found = {}
        for place, at in times.items():
            records = self.kafka.topics[place.topic][place.partition]
            later = (r for r in records if r.timestamp >= at)
            record = next(later, None)
            found[place] = record and SimpleNamespace(offset=record.offset)
        return found

    def seek(self, place, offset):
        self.positions[place] = offset

    def pause(self, place):
        self.paused.add(place)

    async def position(self, place):
        return self.positions[place]

    async def getmany(self, *, timeout_ms, max_records):
        await self.answer()
        for place, records in self.kafka.late.items():
            self.kafka.topics[place.topic][place.partition] += records
        self.kafka.late = {}
        if self.kafka.is_silent:
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        found = {}
        for place, at in self.positions.items():
            if place in self.paused:
                continue
            records = self.kafka.topics[place.topic][place.partition]
            found[place] = [r for r in records if r.offset >= at][:max_records]
            more = found[place] and found[place][-1].offset < records[-1].offset
            end = self.kafka.end(place)
            self.positions[place] = found[place][-1].offset + 1 if more else end
        return {place: records for place, records in found.items() if records}


class Producer(Client):
    async def send(self, topic, value, key, partition, timestamp_ms, headers=()):
        await self.answer()
        self.kafka.written.append((topic, partition, timestamp_ms, key, value, tuple(headers)))
        future = asyncio.get_running_loop().create_future()
        future.set_result(SimpleNamespace(offset=len(self.kafka.written) - 1))
        return future


@pytest.fixture
def kafka(monkeypatch):
    made = Kafka()
    for name, cls in (
        ("AIOKafkaAdminClient", Admin),
        ("AIOKafkaConsumer", Consumer),
        ("AIOKafkaProducer", Producer),
    ):
        monkeypatch.setattr(reading, name, lambda cls=cls, **options: cls(made, options))
    return made


@pytest.fixture
async def reader(kafka):
    async with Reader("a:1") as opened:
        yield opened


@pytest.fixture
async def writer(kafka):
    async with Writer("a:1") as opened:
        yield opened


@pytest.fixture
def read(reader):
    """Returns the offsets that are read from topics, by topic and partition."""

    async def numbers(*topics, **how):
        found = {}
        async for record in reader.records(topics, **how):
            found.setdefault((record.topic, record.partition), []).append(record.offset)
        return found

    return numbers


# --- reading


async def test_every_record_is_read_up_to_the_present_end(kafka, read):
    kafka.put("one", 0, 1, 2)
    kafka.put("one", 0, partition=1)
    kafka.put("two", 5)

    assert await read("one", "two") == {
        ("one", 0): [0, 1, 2],
        ("one", 1): [0],
        ("two", 0): [5],
    }


async def test_a_record_is_given_with_all_that_it_has(kafka, reader):
    kafka.put("one", 3)

    (record,) = [record async for record in reader.records(["one"])]

    assert record == Stored("one", 0, 3, 300, b"k", b"3", (("h", b"1"),))


async def test_a_topic_that_does_not_exist_has_no_records(read):
    assert await read("none") == {}


async def test_an_empty_topic_has_no_records(kafka, read):
    kafka.put("one")

    assert await read("one") == {}


async def test_what_is_written_meanwhile_is_not_read(kafka, read):
    kafka.put("one", 0, 1)
    kafka.late[TopicPartition("one", 0)] = [
        SimpleNamespace(**vars(kafka.topics["one"][0][0]) | {"offset": 2})
    ]

    assert await read("one") == {("one", 0): [0, 1]}


async def test_markers_at_the_end_end_the_reading(kafka, read):
    kafka.put("one", 0)
    kafka.gaps[TopicPartition("one", 0)] = 2

    assert await read("one") == {("one", 0): [0]}


async def test_it_is_read_from_a_time_on(kafka, read):
    kafka.put("one", 0, 1, 2)
    kafka.put("one", 0, partition=1)

    assert await read("one", since_ms=100) == {("one", 0): [1, 2]}
    assert await read("one", since_ms=-5) == {("one", 0): [0, 1, 2], ("one", 1): [0]}
    assert await read("one", since_ms=9_999) == {}


async def test_it_is_read_from_ends_of_before_on(kafka, reader, read):
    kafka.put("one", 0, 1)
    ends = await reader.ends(["one", "none"])
    kafka.put("one", 2)
    kafka.put("one", 0, partition=1)

    assert ends == {("one", 0): 2, ("one", 1): 0}
    assert await read("one", after=ends) == {("one", 0): [2], ("one", 1): [0]}


async def test_there_are_no_ends_of_what_does_not_exist(reader):
    assert await reader.ends(["none"]) == {}


async def test_it_reads_what_is_committed_and_joins_no_group(kafka, read):
    kafka.put("one", 0)

    await read("one")

    options = kafka.clients[-1].options
    assert options["isolation_level"] == "read_committed"
    assert options["enable_auto_commit"] is False
    assert "group_id" not in options


async def test_a_reading_that_is_left_closes_what_it_opened(kafka, reader):
    kafka.put("one", 0, 1)
    records = reader.records(["one"])
    await anext(records)

    await records.aclose()

    assert [client.is_open for client in kafka.clients] == [True, False]  # the reader itself


async def test_a_reading_in_which_nothing_comes_ends(kafka, read, monkeypatch):
    monkeypatch.setattr(reading, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(reading, "_POLL_SECONDS", 0.01)
    kafka.put("one", 0)
    kafka.is_silent = True

    with pytest.raises(BrokerError, match="nothing came for"):
        await read("one")


# --- one record


async def test_a_record_is_found_by_its_offset(kafka, reader):
    kafka.put("one", 0, 1, 2)

    assert (await reader.record("one", 0, 1)).value == b"1"
    assert (await reader.record("one", 0, 2)).value == b"2"


@pytest.mark.parametrize(
    ("topic", "partition", "offset"),
    [("one", 0, 0), ("one", 0, 3), ("one", 0, 9), ("one", 1, 0), ("one", 7, 0), ("none", 0, 0)],
)
async def test_a_record_that_is_not_there_is_none(kafka, reader, topic, partition, offset):
    kafka.put("one", 0, 1, 2, 4)
    kafka.starts[TopicPartition("one", 0)] = 1

    assert await reader.record(topic, partition, offset) is None


async def test_one_client_finds_all_single_records(kafka, reader):
    kafka.put("one", 0, 1)

    for offset in (0, 1, 0):
        assert (await reader.record("one", 0, offset)).offset == offset

    assert len(kafka.clients) == 2


# --- the group


async def test_it_tells_up_to_where_a_group_is(kafka, reader):
    kafka.offsets["flow"] = {TopicPartition("one", 3): OffsetAndMetadata(7, "")}

    assert await reader.committed("flow") == {("one", 3): 7}


# --- writing


async def test_records_are_written_to_their_partitions(kafka, writer):
    records = [Outgoing("one", 2, 50, b"k", b"v"), Outgoing("two", 0, 60, None, b"w")]

    assert await writer.write(records) == [0, 1]

    assert kafka.written == records


async def test_it_writes_idempotently_and_to_all_replicas(kafka, writer):
    options = kafka.clients[-1].options

    assert (options["enable_idempotence"], options["acks"]) == (True, "all")


# --- what goes wrong


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (kafka_errors.TopicAuthorizationFailedError(), "give this client the right to"),
        (kafka_errors.GroupAuthorizationFailedError(), "give this client the right to"),
        (kafka_errors.MessageSizeTooLargeError("10"), "raise max.message.bytes"),
        (kafka_errors.NotLeaderForPartitionError(), "look into the brokers' own logs"),
        (TimeoutError(), "TimeoutError; look into"),
        (ConnectionResetError("gone"), "gone; look into"),
    ],
)
async def test_an_error_of_kafka_says_what_to_do(kafka, reader, writer, error, says):
    kafka.put("one", 0)
    kafka.error = error

    for ask in (
        reader.record("one", 0, 0),
        reader.committed("flow"),
        reader.partitions(["one"]),
        anext(reader.records(["one"])),
        writer.write([Outgoing("one", 0, 1, None, b"")]),
    ):
        with pytest.raises(BrokerError, match=says):
            await ask


@pytest.mark.parametrize("client", [Reader, Writer])
@pytest.mark.parametrize(
    "error", [kafka_errors.KafkaConnectionError("refused"), TimeoutError(), OSError("no route")]
)
async def test_a_broker_that_cannot_be_reached_is_told(kafka, client, error):
    kafka.unreachable = error

    with pytest.raises(BrokerError, match="no Kafka broker answers at a:1"):
        async with client("a:1"):
            pass

    assert not any(each.is_open for each in kafka.clients)


async def test_a_broker_that_does_not_answer_is_given_up(kafka, reader, monkeypatch):
    monkeypatch.setattr(reading, "ANSWER_SECONDS", 0.01)
    monkeypatch.setattr(Admin, "answer", lambda self: asyncio.sleep(60))

    with pytest.raises(BrokerError, match="looking for topics at a:1: TimeoutError"):
        await reader.partitions(["one"])


@pytest.mark.parametrize("client", [Reader, Writer])
async def test_tls_and_login_are_handed_on(kafka, client):
    async with client("a:1", security={"security_protocol": "SSL"}):
        pass

    assert [each.options["security_protocol"] for each in kafka.clients] == ["SSL"]
    assert kafka.clients[0].options["bootstrap_servers"] == "a:1"


async def test_the_readers_clients_are_closed_at_the_end(kafka, caplog):
    caplog.set_level(logging.WARNING)
    kafka.put("one", 0)

    async with Reader("a:1") as reader:
        await reader.record("one", 0, 0)

    assert [client.is_open for client in kafka.clients] == [False, False]
