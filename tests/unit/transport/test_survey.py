import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest
from aiokafka import errors as kafka_errors
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from aiopype.errors import BrokerError
from aiopype.transport import survey as module
from aiopype.transport.stored import Extent, Span
from aiopype.transport.survey import Survey

OF_TIME = 10.0
IS_CONTROL = 0x20


def batch(*timestamps, at=0, producer=-1, transactional=False, control=False):
    """The bytes of a batch of records."""
    builder = DefaultRecordBatchBuilder(2, 0, transactional, producer, 0, 0, 100_000)
    for n, timestamp in enumerate(timestamps):
        builder.append(n, timestamp, b"\x00\x00\x00\x01" if control else b"k", b"v", [])
    raw = bytearray(builder.build())
    raw[0:8] = at.to_bytes(8, "big")
    if control:
        raw[22] |= IS_CONTROL
    return bytes(raw)


class Client:
    """Brokers with partitions, as aiokafka's client shows them.

    Attributes:
        leaders: the node that leads each partition; -1 where none does.
        offsets: of each partition: begin, end for readers of committed records, end.
        logs: of each partition its batches by their first offset, in order.
        aborted: of each partition: producers and first offsets of transactions taken back.
        broken: what asking a node raises.
        errors: codes that are answered first of a partition, one each.
        asked: the requests, each with its node.
    """

    def __init__(self):
        self.leaders, self.offsets, self.logs, self.aborted = {}, {}, {}, {}
        self.broken, self.errors, self.asked = {}, {}, []
        self.knows, self.learned = True, 0
        self.cluster = SimpleNamespace(
            topics=lambda: {place.topic for place in self.leaders},
            partitions_for_topic=lambda t: {p.partition for p in self.leaders if p.topic == t},
            leader_for_partition=self.leaders.get,
        )

    def put(self, topic, number, *extent, node=1):
        place = TopicPartition(topic, number)
        self.leaders[place], self.offsets[place] = node, extent

    async def force_metadata_update(self):
        self.learned += 1
        return self.knows

    async def send(self, node, request):
        self.asked.append((node, request))
        await asyncio.sleep(0)
        if node in self.broken:
            raise self.broken[node]
        return self.fetched(request) if isinstance(request, FetchRequest) else self.told(request)

    def told(self, request):
        topics = []
        for topic, partitions in request._topics:
            found = []
            for number, at in partitions:
                place = TopicPartition(topic, number)
                code = self.errors[place].pop(0) if self.errors.get(place) else 0
                begin, end, high = self.offsets[place]
                offset = begin if at == -2 else (end if request._isolation_level else high)
                found.append((number, code, -1, offset))
            topics.append((topic, found))
        return SimpleNamespace(topics=topics)

    def fetched(self, request):
        ((topic, ((number, offset, size),)),) = request.topics
        place = TopicPartition(topic, number)
        code = self.errors[place].pop(0) if self.errors.get(place) else 0
        left = [raw for at, raw in self.logs.get(place, {}).items() if at >= offset]
        raw = b"".join(left[:1] if size == 1 else left)
        facts = (code, 0, 0, 0, self.aborted.get(place), -1, raw)
        return SimpleNamespace(API_VERSION=11, topics=[(topic, [(number, *facts)])])


@pytest.fixture
def client(monkeypatch):
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0)
    return Client()


@pytest.fixture
def survey(client):
    return Survey(client, "a:1")


async def test_partitions_are_told_with_whether_they_have_a_leader(client, survey):
    client.put("t", 0, 0, 0, 0)
    client.put("t", 1, 0, 0, 0, node=-1)
    client.put("other", 0, 0, 0, 0)

    assert await survey.places(["t", "missing"]) == {("t", 0): True, ("t", 1): False}


async def test_a_hundred_topics_cost_three_requests_a_broker(client, survey):
    for n in range(100):
        for number in range(4):
            client.put(f"t{n}", number, 1, 5, 7, node=1 + number % 2)
    places = [(f"t{n}", number) for n in range(100) for number in range(4)]

    assert await survey.extents(places) == dict.fromkeys(places, Extent(1, 5, 7))
    assert Counter(node for node, _ in client.asked) == {1: 3, 2: 3}


async def test_a_leader_that_has_changed_is_looked_up(client, survey):
    client.put("t", 0, 1, 5, 7)
    client.errors[TopicPartition("t", 0)] = [kafka_errors.NotLeaderForPartitionError.errno]

    assert await survey.extents([("t", 0)]) == {("t", 0): Extent(1, 5, 7)}
    assert client.learned == 1


async def test_a_broker_that_is_down_leaves_out_its_partitions_alone(client, survey):
    client.put("t", 0, 1, 5, 7)
    client.put("t", 1, 1, 5, 7, node=2)
    client.put("t", 2, 1, 5, 7, node=-1)
    client.broken[2] = kafka_errors.KafkaConnectionError()

    found = await survey.extents([("t", 0), ("t", 1), ("t", 2)])

    assert found == {("t", 0): Extent(1, 5, 7)}


async def test_brokers_that_do_not_answer_in_time_are_told(client, survey, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.01)
    client.put("t", 0, 1, 5, 7)
    client.send = lambda *_: asyncio.sleep(60)

    with pytest.raises(BrokerError, match=r"brokers at a:1 did not answer in 0\.01 s"):
        await survey.extents([("t", 0)])


async def test_brokers_that_are_gone_are_told(client, survey):
    client.knows = False

    with pytest.raises(BrokerError, match="a:1 answer no more"):
        await survey.places(["t"])


# --- how old the first event is


async def test_the_first_event_of_a_span_is_read(client, survey):
    client.put("t", 0, 0, 9, 9)
    client.logs[TopicPartition("t", 0)] = {3: batch(1_000, 2_000, at=3), 5: batch(3_000, at=5)}

    assert await survey.oldest({("t", 0): Span(3, 9)}, OF_TIME) == {("t", 0): 1_000}
    (_, request), = client.asked  # fmt: skip
    assert request._max_bytes == 1


async def test_a_batch_may_begin_before_the_span(client, survey):
    client.put("t", 0, 0, 9, 9)
    client.logs[TopicPartition("t", 0)] = {4: batch(1_000, 2_000, at=3)}

    assert await survey.oldest({("t", 0): Span(4, 9)}, OF_TIME) == {("t", 0): 2_000}


async def test_a_span_of_markers_alone_has_no_event(client, survey):
    client.put("t", 0, 0, 5, 5)
    markers = {n: batch(1, at=n, producer=7, transactional=True, control=True) for n in (3, 4)}
    client.logs[TopicPartition("t", 0)] = markers

    assert await survey.oldest({("t", 0): Span(3, 5)}, OF_TIME) == {("t", 0): None}


async def test_what_was_taken_back_is_no_event(client, survey):
    client.put("t", 0, 0, 9, 9)
    place = TopicPartition("t", 0)
    client.logs[place] = {
        3: batch(1_000, 2_000, at=3, producer=7, transactional=True),
        5: batch(1, at=5, producer=7, transactional=True, control=True),
        6: batch(4_000, at=6, producer=8, transactional=True),
    }
    client.aborted[place] = [(7, 3)]

    assert await survey.oldest({("t", 0): Span(3, 9)}, OF_TIME) == {("t", 0): 4_000}


async def test_an_event_behind_the_span_does_not_count(client, survey):
    client.put("t", 0, 0, 4, 9)
    client.logs[TopicPartition("t", 0)] = {6: batch(4_000, at=6)}

    assert await survey.oldest({("t", 0): Span(3, 4)}, OF_TIME) == {("t", 0): None}


@pytest.mark.parametrize("code", [1, 6])
async def test_what_cannot_be_read_is_left_out(client, survey, code):
    for number in (0, 1):
        client.put("t", number, 0, 9, 9)
        client.logs[TopicPartition("t", number)] = {3: batch(1_000, at=3)}
    client.errors[TopicPartition("t", 0)] = [code]
    spans = {("t", 0): Span(3, 9), ("t", 1): Span(3, 9)}

    assert await survey.oldest(spans, OF_TIME) == {("t", 1): 1_000}


async def test_an_offset_that_nothing_is_at_is_left_out(client, survey):
    client.put("t", 0, 0, 9, 9)

    assert await survey.oldest({("t", 0): Span(3, 9)}, OF_TIME) == {}


async def test_reading_ends_in_time_with_what_there_is(client, survey):
    for number in (0, 1):
        client.put("t", number, 0, 9, 9, node=number)
        client.logs[TopicPartition("t", number)] = {3: batch(1_000, at=3)}
    answer = client.send
    client.send = lambda node, request: answer(node, request) if node else asyncio.sleep(60)
    spans = {("t", 0): Span(3, 9), ("t", 1): Span(3, 9)}

    assert await survey.oldest(spans, 0.1) == {("t", 1): 1_000}
