import asyncio
import gc
from types import SimpleNamespace

import pytest
from aiokafka import errors as kafka_errors

from aiopype.errors import BrokerError, DeliveryError, OutputRefused
from aiopype.graph import Graph
from aiopype.progress import Progress
from aiopype.transport import producer as producer_module
from aiopype.transport.limits import Limits
from aiopype.transport.producer import Producer

TOO_LARGE = [kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError]
FINAL = [
    kafka_errors.UnsupportedForMessageFormatError,
    kafka_errors.InvalidTopicError,
    kafka_errors.TopicAuthorizationFailedError,
]
PASSING = [
    kafka_errors.RequestTimedOutError,
    kafka_errors.KafkaConnectionError,
    kafka_errors.OutOfOrderSequenceNumber,
    kafka_errors.NotEnoughReplicasError,
    TimeoutError,
    ConnectionResetError,
]


class FakeBatch:
    def __init__(self):
        self.values = []

    @property
    def _builder(self):
        return self

    def append(self, number, timestamp, key, value, headers):
        self.values.append(value)
        return object()

    def close(self):
        pass

    def record_count(self):
        return len(self.values)


class FakeKafka:
    """The brokers: producers that connect to them, and what those sent.

    Attributes:
        refusals: errors of the next batches, one each; None takes a batch.
        unsendable: errors that the next calls raise before anything is sent; None sends.
        unreachable: errors of the next connections.
        acknowledges: whether batches are answered at all.
        held: the futures of batches that are not.
    """

    def __init__(self):
        self.producers = []
        self.taken = []
        self.refusals = []
        self.unsendable = []
        self.unreachable = []
        self.held = []
        self.acknowledges = True

    def connect(self, **options):
        made = FakeAIOKafkaProducer(self, options)
        self.producers.append(made)
        return made


class FakeAIOKafkaProducer:
    def __init__(self, kafka, options):
        self.kafka = kafka
        self.options = options
        self.is_stopped = False
        self.client = SimpleNamespace(close=self.stop)

    async def start(self):
        await asyncio.sleep(0)
        if self.kafka.unreachable:
            raise self.kafka.unreachable.pop(0)

    async def stop(self):
        self.is_stopped = True

    def create_batch(self):
        return FakeBatch()

    async def send_batch(self, batch, topic, *, partition):
        unsendable = self.kafka.unsendable.pop(0) if self.kafka.unsendable else None
        if unsendable is not None:
            raise unsendable
        future = asyncio.get_running_loop().create_future()
        error = self.kafka.refusals.pop(0) if self.kafka.refusals else None
        if error is not None:
            future.set_exception(error)
        elif self.kafka.acknowledges:
            self.kafka.taken.append((topic, partition, batch.values))
            future.set_result(None)
        else:
            self.kafka.held.append(future)
        return future


class FakeAdmin:
    """Knows every topic that it is asked to ensure, or raises."""

    def __init__(self):
        self.ensured = []
        self.errors = []

    async def ensure(self, topics):
        if self.errors:
            raise self.errors.pop(0)
        for topic in list(topics):
            self.ensured.append(topic.name)
            topic.partitions = 4
            topics.discard(topic)


@pytest.fixture
def kafka(monkeypatch):
    fake = FakeKafka()
    monkeypatch.setattr(producer_module, "AIOKafkaProducer", fake.connect)
    return fake


@pytest.fixture
def admin():
    return FakeAdmin()


@pytest.fixture
def graph():
    made = Graph()
    made.add("m.c")
    return made


@pytest.fixture
def progress():
    return Progress()


@pytest.fixture
async def sender(kafka, admin, graph, progress):
    return Producer("a:1", Limits(graph, admin), progress)


@pytest.fixture
def events(graph):
    """Makes events of one topic without a key."""
    return lambda *values: [(graph.topic("m.c", "out"), None, v, 0, True) for v in values]


async def test_events_are_written_to_their_partitions(sender, kafka, events):
    await sender.send(events(b"[1]", b"[2]"), 3, 4)

    assert kafka.taken == [("m.c.out", 3, [b"[1]", b"[2]"])]


async def test_nothing_is_asked_when_there_is_nothing_to_write(sender, kafka):
    await sender.send([], 3, 4)

    assert kafka.producers == []


async def test_one_producer_serves_all(sender, kafka, events):
    await asyncio.gather(*(sender.send(events(b"[1]"), n, 4) for n in range(4)))

    assert len(kafka.producers) == 1
    assert len(kafka.taken) == 4


async def test_it_writes_idempotently_and_waits_for_all_replicas(sender, kafka, events):
    await sender.send(events(b"[1]"), 0, 4)

    options = kafka.producers[0].options
    assert options["enable_idempotence"] is True
    assert options["acks"] == "all"


async def test_a_topic_that_is_not_known_is_made_sure_of_first(sender, kafka, admin, events):
    emitted = events(b"[1]")

    await sender.send(emitted, 0, 4)
    await sender.send(emitted, 0, 4)

    assert admin.ensured == ["m.c.out"]


async def test_what_was_written_is_counted(sender, kafka, events, progress):
    await sender.send(events(b"[1]", b"[2]"), 0, 4)

    kafka.refusals.append(kafka_errors.RequestTimedOutError())
    with pytest.raises(DeliveryError):
        await sender.send(events(b"[3]"), 0, 4)

    assert progress.topics["m.c.out"].emitted == 2


# --- errors


@pytest.mark.parametrize("error", FINAL)
async def test_an_answer_that_no_second_attempt_changes_is_a_refusal(sender, kafka, events, error):
    kafka.refusals.append(error("mine"))

    with pytest.raises(OutputRefused, match=f"{error.__name__}.*mine") as refusal:
        await sender.send(events(b"[1]"), 0, 4)
    assert isinstance(refusal.value.__cause__, error)


@pytest.mark.parametrize("error", TOO_LARGE)
async def test_the_limits_of_a_topic_are_asked_for_again_before_it_counts_as_too_large(
    sender, kafka, admin, events, error
):
    emitted = events(b"[1]")
    kafka.refusals += [error("mine"), error("mine")]

    with pytest.raises(DeliveryError, match=r"the limits of topics have changed.*mine") as failure:
        await sender.send(emitted, 0, 4)
    assert not isinstance(failure.value, OutputRefused)

    with pytest.raises(OutputRefused, match=f"{error.__name__}.*mine"):
        await sender.send(emitted, 0, 4)
    assert admin.ensured == ["m.c.out", "m.c.out"]
    assert len(kafka.producers) == 2


@pytest.mark.parametrize("error", PASSING)
async def test_any_other_error_may_pass(sender, kafka, events, error):
    kafka.refusals.append(error("mine"))

    with pytest.raises(DeliveryError, match=f"writing events: {error.__name__}") as failure:
        await sender.send(events(b"[1]"), 0, 4)
    assert not isinstance(failure.value, OutputRefused)
    assert isinstance(failure.value.__cause__, error)


async def test_brokers_that_do_not_answer_in_time_are_an_error(sender, kafka, events, monkeypatch):
    monkeypatch.setattr(producer_module, "SEND_SECONDS", 0.01)
    kafka.acknowledges = False

    with pytest.raises(DeliveryError, match="writing events: TimeoutError"):
        await sender.send(events(b"[1]"), 0, 4)


async def test_brokers_that_cannot_be_reached_are_an_error(sender, kafka, events):
    kafka.unreachable.append(kafka_errors.KafkaConnectionError("no route"))

    with pytest.raises(DeliveryError, match="no route"):
        await sender.send(events(b"[1]"), 0, 4)
    assert kafka.producers[0].is_stopped


@pytest.mark.parametrize(
    "error", [kafka_errors.RequestTimedOutError(), kafka_errors.KafkaConnectionError("no route")]
)
async def test_a_topic_that_is_not_answered_for_is_an_error(sender, admin, events, error):
    admin.errors.append(error)

    with pytest.raises(DeliveryError):
        await sender.send(events(b"[1]"), 0, 4)


async def test_a_topic_that_cannot_be_created_is_an_error_of_the_delivery(sender, admin, events):
    # Anything else would pass through the Faust stream of the batch.
    admin.errors.append(BrokerError("topic 'm.c.out' cannot be created: not allowed"))

    with pytest.raises(OutputRefused, match="not allowed"):
        await sender.send(events(b"[1]"), 0, 4)


@pytest.mark.parametrize("error", [kafka_errors.MessageSizeTooLargeError, TimeoutError])
async def test_a_producer_that_had_an_error_is_replaced(sender, kafka, events, until, error):
    kafka.refusals.append(error("mine"))
    with pytest.raises(DeliveryError):
        await sender.send(events(b"[1]"), 0, 4)

    await sender.send(events(b"[2]"), 0, 4)

    first, second = kafka.producers
    await until(lambda: first.is_stopped)
    assert not second.is_stopped
    assert kafka.taken == [("m.c.out", 0, [b"[2]"])]


async def test_two_batches_that_fail_together_replace_the_producer_once(
    sender, kafka, events, until
):
    kafka.refusals += [kafka_errors.RequestTimedOutError(), kafka_errors.RequestTimedOutError()]
    results = await asyncio.gather(
        *(sender.send(events(b"[1]"), n, 4) for n in range(2)), return_exceptions=True
    )
    assert [type(result) for result in results] == [DeliveryError, DeliveryError]

    await sender.send(events(b"[2]"), 0, 4)

    assert len(kafka.producers) == 2
    await until(lambda: kafka.producers[0].is_stopped)


async def test_a_late_error_of_a_replaced_producer_does_not_replace_the_next(
    sender, kafka, events, turns
):
    kafka.acknowledges = False
    late = asyncio.ensure_future(sender.send(events(b"[1]"), 0, 4))
    await turns()
    kafka.refusals.append(kafka_errors.RequestTimedOutError())
    with pytest.raises(DeliveryError):
        await sender.send(events(b"[2]"), 1, 4)
    kafka.acknowledges = True
    await sender.send(events(b"[3]"), 2, 4)

    kafka.held[0].set_exception(kafka_errors.RequestTimedOutError())
    with pytest.raises(DeliveryError):
        await late
    await sender.send(events(b"[4]"), 3, 4)

    assert len(kafka.producers) == 2


async def test_no_error_of_a_write_is_left_to_the_event_loop(sender, kafka, graph, caplog):
    topics = [graph.topic("m.c", name) for name in ("one", "two", "three")]
    kafka.refusals += [kafka_errors.RequestTimedOutError() for _ in topics]

    with pytest.raises(DeliveryError):
        await sender.send([(topic, None, b"[1]", 0, True) for topic in topics], 0, 4)

    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_no_error_of_a_write_that_was_broken_off_is_left_to_the_event_loop(
    sender, kafka, graph, caplog
):
    topics = [graph.topic("m.c", name) for name in ("one", "two")]
    kafka.refusals.append(kafka_errors.RequestTimedOutError())
    kafka.unsendable += [None, kafka_errors.KafkaConnectionError("no route")]

    with pytest.raises(DeliveryError, match="no route"):
        await sender.send([(topic, None, b"[1]", 0, True) for topic in topics], 0, 4)

    gc.collect()
    assert "never retrieved" not in caplog.text


# --- start and stop


async def test_it_connects_at_its_start_and_disconnects_at_its_stop(sender, kafka):
    await sender.on_start()
    assert len(kafka.producers) == 1

    await sender.on_stop()
    assert kafka.producers[0].is_stopped


async def test_a_stop_without_a_start_is_nothing(sender, kafka):
    await sender.on_stop()

    assert kafka.producers == []


async def test_a_stop_waits_for_the_end_of_those_that_were_thrown_away(sender, kafka, events):
    kafka.refusals.append(kafka_errors.RequestTimedOutError())
    with pytest.raises(DeliveryError):
        await sender.send(events(b"[1]"), 0, 4)

    await sender.on_stop()

    assert [made.is_stopped for made in kafka.producers] == [True]
