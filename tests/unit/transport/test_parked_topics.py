import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors

from aiopype.errors import BrokerError, DeliveryError
from aiopype.graph import Graph
from aiopype.topics import Foreign, Topic, TopicSpec
from aiopype.transport import parked_topics as parked_topics_module
from aiopype.transport.parked_topics import ParkedTopics


class FakeAdmin:
    """The broker's topics, with how many partitions each has.

    Attributes:
        grown: topics that were given more, with how many.
        error: raised instead of an answer.
    """

    def __init__(self):
        self.topics = {}
        self.grown = []
        self.error = None

    async def partitions(self, names):
        if self.error is not None:
            raise self.error
        return {name: self.topics[name] for name in names if name in self.topics}

    async def grow(self, name, has, partitions):
        if has < partitions:
            self.grown.append((name, partitions))
            self.topics[name] = partitions

    async def ensure(self, topics):
        for topic in list(topics):
            topic.partitions = self.topics[topic.name]
            topics.discard(topic)


class FakeKafka:
    """The brokers: consumers that connect to them, and what those read of one partition.

    Attributes:
        made: every consumer that was made, in order.
        batches: lists of records still to be read, one a call.
        end: where the partition ends, markers of transactions included.
        error: raised when a consumer connects.
        answers: whether reading ever ends.
    """

    def __init__(self):
        self.made = []
        self.batches, self.end = [], 0
        self.error, self.answers = None, True

    def connect(self, **options):
        self.made.append(FakeConsumer(self, options))
        return self.made[-1]


class FakeConsumer:
    def __init__(self, kafka, options):
        self.kafka = kafka
        self.options = options
        self.at = None
        self.is_stopped = False

    async def start(self):
        if self.kafka.error is not None:
            raise self.kafka.error

    async def stop(self):
        self.is_stopped = True

    def assign(self, partitions):
        (self.assigned,) = partitions

    async def seek_to_beginning(self, tp):
        self.at = 0

    async def end_offsets(self, partitions):
        return dict.fromkeys(partitions, self.kafka.end)

    async def position(self, tp):
        assert tp == self.assigned
        return self.at

    async def getmany(self, timeout_ms):
        if not self.kafka.answers:
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        if not self.kafka.batches:
            self.at = self.kafka.end  # past the markers
            return {}
        found = self.kafka.batches.pop(0)
        self.at = found[-1].offset + 1
        return {self.assigned: found}


@pytest.fixture
def kafka(monkeypatch):
    fake = FakeKafka()
    monkeypatch.setattr(parked_topics_module, "AIOKafkaConsumer", fake.connect)
    return fake


@pytest.fixture
def admin():
    return FakeAdmin()


@pytest.fixture
def graph():
    return Graph()


@pytest.fixture
def parked(graph, admin):
    return ParkedTopics("a:1", graph, admin, {"security_protocol": "SSL"})


@pytest.fixture
def origin():
    """A topic of 6 partitions that somebody wants 3 copies of."""
    topic = Topic("m.c", "in", TopicSpec(replication=3, name="prices"))
    topic.partitions = 6
    return topic


# --- the topics


def test_a_topic_of_waiting_events_stands_beside_the_other(parked, origin):
    topic = parked.topic(origin)

    assert topic.name == "prices.parked"
    assert (topic.spec.partitions, topic.spec.replication) == (6, 3)
    assert topic.spec.configs["cleanup.policy"] == "compact"
    assert topic.partitions is None


@pytest.mark.parametrize("largest", [1_000, 1_047_564, 50_000_000])
def test_it_takes_what_the_other_takes_and_more(parked, origin, largest):
    origin.largest = largest

    limit = int(parked.topic(origin).spec.configs["max.message.bytes"])

    assert limit >= max(2 * largest, 2_097_176)


def test_it_is_always_the_same(parked, origin):
    assert parked.topic(origin) is parked.topic(origin)


def test_asking_for_it_does_not_make_it(parked, origin, graph):
    parked.topic(origin)

    assert graph.unresolved == set()


def test_it_is_made_when_it_is_needed_and_not_known(parked, origin, graph):
    topic = parked.topic(origin)

    parked.need(topic)
    assert graph.unresolved == {topic}

    graph.unresolved.clear()
    topic.partitions = 6
    parked.need(topic)
    assert graph.unresolved == set()


# --- reading


async def test_where_nothing_ever_waited_nothing_is_read(parked, origin, kafka):
    topic = parked.topic(origin)

    assert await parked.read(topic, 2) == []
    assert kafka.made == []
    assert topic.partitions is None


async def test_a_partition_is_read_to_its_end(parked, origin, admin, kafka, record):
    admin.topics["prices.parked"] = 6
    kafka.batches = [
        [record(b"1", key=b"a", offset=0), record(b"2", key=b"b", offset=1)],
        [record(None, key=b"a", offset=7)],
    ]
    kafka.end = 9

    found = await parked.read(parked.topic(origin), 2)

    assert found == [(b"a", b"1"), (b"b", b"2"), (b"a", None)]
    (consumer,) = kafka.made
    assert consumer.assigned == TopicPartition("prices.parked", 2)
    assert consumer.is_stopped


async def test_what_open_or_aborted_transactions_wrote_is_not_read(parked, origin, admin, kafka):
    admin.topics["prices.parked"] = 6

    await parked.read(parked.topic(origin), 2)

    (consumer,) = kafka.made
    assert consumer.options["isolation_level"] == "read_committed"
    assert consumer.options["security_protocol"] == "SSL"
    assert "group_id" not in consumer.options


async def test_a_topic_that_is_known_is_not_asked_for_again(parked, origin, admin, kafka):
    admin.topics["prices.parked"] = 6
    topic = parked.topic(origin)
    await parked.read(topic, 2)
    assert topic.partitions == 6

    admin.error = AssertionError("asked again")
    assert await parked.read(topic, 2) == []


async def test_a_topic_with_fewer_partitions_than_the_other_is_given_more(
    parked, origin, admin, kafka
):
    admin.topics["prices.parked"] = 4
    topic = parked.topic(origin)

    await parked.read(topic, 5)

    assert admin.grown == [("prices.parked", 6)]
    assert topic.partitions == 6


@pytest.mark.parametrize(
    "error",
    [kafka_errors.KafkaConnectionError("no route"), TimeoutError("no route"), OSError("no route")],
)
@pytest.mark.parametrize("step", ["asking", "connecting"])
async def test_brokers_that_do_not_answer_are_an_error_of_the_delivery(
    parked, origin, admin, kafka, step, error
):
    admin.topics["prices.parked"] = 6
    (admin if step == "asking" else kafka).error = error

    with pytest.raises(DeliveryError, match=r"reading events that wait: .*no route") as failure:
        await parked.read(parked.topic(origin), 2)
    assert failure.value.__cause__ is error
    assert all(consumer.is_stopped for consumer in kafka.made)


async def test_reading_does_not_take_for_ever(parked, origin, admin, kafka, monkeypatch):
    monkeypatch.setattr(parked_topics_module, "READ_SECONDS", 0.01)
    admin.topics["prices.parked"] = 6
    kafka.end, kafka.answers = 5, False

    with pytest.raises(DeliveryError, match="TimeoutError"):
        await parked.read(parked.topic(origin), 2)
    assert kafka.made[0].is_stopped


async def test_a_topic_that_may_not_be_seen_is_said_as_it_is(parked, origin, admin):
    admin.error = BrokerError("topic 'prices.parked': not for you")

    with pytest.raises(BrokerError, match="not for you"):
        await parked.read(parked.topic(origin), 2)


def test_what_waits_of_a_topic_of_others_is_in_one_of_the_flow(parked):
    topic = Topic("m.feed", "message", namespace="space")
    topic.become(Foreign("orders"))

    assert parked.topic(topic).name == "space.m.feed.message.parked"
