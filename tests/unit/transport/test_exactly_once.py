import asyncio

import pytest
from aiokafka import errors as kafka_errors
from aiokafka.structs import TopicPartition

from aiopype.errors import BrokerError, DeliveryError, OutputRefused, OwnershipLost
from aiopype.progress import Progress
from aiopype.topics import Topic
from aiopype.transport import exactly_once as exactly_once_module
from aiopype.transport.batches import Batch
from aiopype.transport.exactly_once import ExactlyOnce

TP = TopicPartition("m.c.in", 2)

TOO_LARGE = [kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError]
REFUSED = [
    kafka_errors.InvalidTopicError,
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.TransactionalIdAuthorizationFailed,
    kafka_errors.GroupAuthorizationFailedError,
    BrokerError,
]
PASSING = [
    kafka_errors.RequestTimedOutError,
    kafka_errors.KafkaConnectionError,
    kafka_errors.OutOfOrderSequenceNumber,
    kafka_errors.NotEnoughReplicasError,
    kafka_errors.InvalidTxnState,
    TimeoutError,
    ConnectionResetError,
]


class FakeKafka:
    """The brokers: transactional producers that connect to them, and what those committed.

    Attributes:
        producers: all of them, in the order they were made.
        start_errors, errors: raised by the next starts, or transactions, one each.
        may_start, may_commit, may_stop: cleared, they hold every start, transaction or stop.
        commits: values by topic and partition, group and offsets of every transaction.
        steps: what was asked, in order; tests add what else is.
    """

    def __init__(self):
        self.producers = []
        self.start_errors, self.errors, self.commits, self.steps = [], [], [], []
        self.may_start, self.may_commit, self.may_stop = (asyncio.Event() for _ in range(3))
        for event in (self.may_start, self.may_commit, self.may_stop):
            event.set()
        self.starting = 0

    def connect(self, transactional_id):
        self.steps.append("connect")
        self.producers.append(FakeTransactionalProducer(self, transactional_id))
        return self.producers[-1]


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


class FakeTransactionalProducer:
    def __init__(self, kafka, transactional_id):
        self.kafka = kafka
        self.transactional_id = transactional_id
        self.is_doubtful = False
        self.is_stopped = False

    async def start(self):
        self.kafka.steps.append("start")
        self.kafka.starting += 1
        await self.kafka.may_start.wait()
        self.kafka.starting -= 1
        if self.kafka.start_errors:
            raise self.kafka.start_errors.pop(0)

    async def stop(self):
        await self.kafka.may_stop.wait()
        self.is_stopped = True

    def create_batch(self):
        return FakeBatch()

    async def commit(self, packed, group, offsets):
        assert not self.is_doubtful
        assert not self.is_stopped
        self.kafka.steps.append("commit")
        self.is_doubtful = True
        await self.kafka.may_commit.wait()
        if self.kafka.errors:
            raise self.kafka.errors.pop(0)
        self.is_doubtful = False
        values = {(topic, partition): batch.values for topic, partition, batch in packed}
        self.kafka.commits.append((values, group, dict(offsets)))


class FakeLedger:
    def __init__(self, steps):
        self.due = {}
        self.steps = steps

    def done(self, topic, partition, position):
        self.due[TopicPartition(topic, partition)] = position

    async def take_back(self, tp):
        self.steps.append("take back")
        self.due.pop(tp, None)


class FakeLimits:
    """Knows all topics; raises the errors it was given first.

    Attributes:
        changes: whether limits may have changed since the last refusal.
    """

    def __init__(self):
        self.errors = []
        self.changes = False

    async def prepare(self):
        if self.errors:
            raise self.errors.pop(0)

    def look_again(self, emitted):
        return self.changes


class FakePartition:
    """A partition of a topic with four.

    Attributes:
        lost: raised when ownership is asked.
    """

    def __init__(self, steps, topic, number):
        self.topic = topic
        self.number = number
        self.is_closed = False
        self.lost = None
        self._steps = steps

    async def check_ownership(self):
        self._steps.append("ownership")
        if self.lost is not None:
            raise self.lost


@pytest.fixture
async def kafka():
    return FakeKafka()


@pytest.fixture
def ledger(kafka):
    return FakeLedger(kafka.steps)


@pytest.fixture
def limits():
    return FakeLimits()


@pytest.fixture
def progress():
    return Progress()


@pytest.fixture
async def delivery(kafka, ledger, limits, progress):
    made = ExactlyOnce("flow", kafka.connect, ledger, limits, progress)
    yield made
    kafka.may_stop.set()
    await made.on_stop()


@pytest.fixture
def topic():
    """Makes a topic of four partitions."""

    def make(event):
        made = Topic("m.c", event)
        made.partitions = 4
        return made

    return make


@pytest.fixture
def make_partition(kafka, topic):
    """Makes a partition, of the topic `in` unless another is said."""
    return lambda number=2, event="in": FakePartition(kafka.steps, topic(event), number)


@pytest.fixture
def partition(make_partition):
    return make_partition()


@pytest.fixture
def batch(partition, record, topic):
    """Makes a batch that emitted these values, of the partition 2 unless another is said."""

    def make(*values, position=9, of=partition):
        made = Batch(of, [record(offset=8)], position)
        made.emitted = [(topic("out"), None, value, 0, True) for value in values]
        return made

    return make


@pytest.fixture
async def opened(delivery, partition, kafka):
    """The delivery, with the partition 2 open."""
    await delivery.open(partition)
    kafka.steps.clear()
    return delivery


def test_a_partition_that_was_open_asks_the_group_where_to_go_on():
    assert ExactlyOnce.trusts_memory is False


# --- opening


async def test_each_partition_has_a_producer_named_after_group_topic_and_number(
    delivery, make_partition, kafka
):
    for number, event in [(0, "in"), (1, "in"), (0, "other")]:
        await delivery.open(make_partition(number, event))

    names = [producer.transactional_id for producer in kafka.producers]
    assert names == ["flow/m.c.in/0", "flow/m.c.in/1", "flow/m.c.other/0"]


async def test_opening_for_the_first_time_fences_and_asks_nobody(delivery, partition, kafka):
    await delivery.open(partition)

    assert kafka.steps == ["connect", "start"]


async def test_a_producer_that_is_in_order_is_kept(opened, partition, batch, kafka):
    await opened.deliver(batch(b"[1]"))

    await opened.open(partition)

    assert len(kafka.producers) == 1
    assert not kafka.producers[0].is_stopped


@pytest.mark.parametrize("error", PASSING)
async def test_a_start_that_may_succeed_later_is_an_error_of_the_delivery(
    delivery, partition, kafka, until, error
):
    kafka.start_errors.append(error("mine"))

    with pytest.raises(DeliveryError, match=f"opening a .*: {error.__name__} .*mine") as failure:
        await delivery.open(partition)
    assert not isinstance(failure.value, OutputRefused)
    await until(lambda: kafka.producers[0].is_stopped)


@pytest.mark.parametrize("error", REFUSED)
async def test_a_start_that_never_succeeds_is_a_refusal(delivery, partition, kafka, until, error):
    kafka.start_errors.append(error("mine"))

    with pytest.raises(OutputRefused, match="opening a transactional producer"):
        await delivery.open(partition)
    await until(lambda: kafka.producers[0].is_stopped)


async def test_a_start_without_an_answer_ends(delivery, partition, kafka, monkeypatch):
    monkeypatch.setattr(exactly_once_module, "ATTEMPT_SECONDS", 0.01)
    kafka.may_start.clear()

    with pytest.raises(DeliveryError, match=r"opening a transactional producer, .*: TimeoutError"):
        await delivery.open(partition)


async def test_a_start_that_is_cancelled_leaves_no_producer(
    delivery, partition, kafka, turns, until
):
    kafka.may_start.clear()
    opening = asyncio.ensure_future(delivery.open(partition))
    await turns()

    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await until(lambda: kafka.producers[0].is_stopped)

    kafka.may_start.set()
    await delivery.open(partition)
    assert len(kafka.producers) == 2


async def test_after_a_start_that_failed_the_next_is_made_anew(delivery, partition, batch, kafka):
    kafka.start_errors.append(kafka_errors.RequestTimedOutError())
    with pytest.raises(DeliveryError):
        await delivery.open(partition)

    await delivery.open(partition)
    await delivery.deliver(batch(b"[1]"))

    assert len(kafka.producers) == 2
    assert len(kafka.commits) == 1


async def test_only_so_many_open_at_once(
    kafka, ledger, limits, progress, make_partition, turns, monkeypatch
):
    monkeypatch.setattr(exactly_once_module, "OPENING", 3)
    delivery = ExactlyOnce("flow", kafka.connect, ledger, limits, progress)
    kafka.may_start.clear()
    opening = [asyncio.ensure_future(delivery.open(make_partition(n))) for n in range(7)]
    await turns()
    assert kafka.starting == 3

    kafka.may_start.set()
    await asyncio.gather(*opening)
    assert kafka.steps.count("start") == 7
    await delivery.on_stop()


# --- a batch


async def test_outputs_and_offset_are_one_transaction(opened, batch, kafka):
    await opened.deliver(batch(b"[1]", b"[2]"))

    assert kafka.commits == [({("m.c.out", 2): [b"[1]", b"[2]"]}, "flow", {TP: 9})]


async def test_events_that_waited_have_no_offset(opened, batch, kafka):
    await opened.deliver(batch(b"[1]", position=None))

    assert kafka.commits == [({("m.c.out", 2): [b"[1]"]}, "flow", {})]
    assert kafka.steps == ["commit"]  # and nothing is taken back from the ledger


async def test_a_batch_without_outputs_needs_no_transaction(opened, batch, kafka, ledger):
    await opened.deliver(batch())

    assert kafka.steps == []
    assert ledger.due == {TP: 9}


async def test_events_that_waited_and_have_no_outputs_are_nothing(opened, batch, kafka, ledger):
    await opened.deliver(batch(position=None))

    assert (kafka.steps, ledger.due) == ([], {})


async def test_a_transaction_takes_back_what_the_ledger_has_due(opened, batch, kafka, ledger):
    await opened.deliver(batch(position=7))

    await opened.deliver(batch(b"[1]", position=9))

    assert kafka.steps == ["take back", "commit"]
    assert ledger.due == {}


async def test_what_was_written_is_counted(opened, batch, progress):
    await opened.deliver(batch(b"[1]", b"[2]"))

    assert progress.topics["m.c.out"].emitted == 2


async def test_each_partition_writes_with_its_own_producer(
    opened, delivery, make_partition, batch, kafka
):
    other = make_partition(1)
    await opened.open(other)

    await opened.deliver(batch(b"[1]", of=other))
    kafka.producers[0].is_doubtful = True  # no use of it is allowed any more
    await opened.deliver(batch(b"[2]", of=other))

    assert [list(offsets) for _, _, offsets in kafka.commits] == [[TopicPartition("m.c.in", 1)]] * 2


async def test_a_partition_that_was_given_up_meanwhile_commits_nothing(
    opened, partition, batch, kafka
):
    partition.is_closed = True

    with pytest.raises(OwnershipLost, match="was given up"):
        await opened.deliver(batch(b"[1]"))
    assert "commit" not in kafka.steps


# --- errors of a batch


async def test_a_producer_that_is_fenced_is_an_error_of_the_delivery_and_no_refusal(
    opened, batch, kafka
):
    kafka.errors.append(kafka_errors.ProducerFenced())

    with pytest.raises(DeliveryError, match="another worker has taken over") as failure:
        await opened.deliver(batch(b"[1]"))
    assert not isinstance(failure.value, OutputRefused)


@pytest.mark.parametrize("error", PASSING)
async def test_an_error_that_may_pass_is_one_of_the_delivery(opened, batch, kafka, progress, error):
    kafka.errors.append(error("mine"))

    with pytest.raises(DeliveryError, match=f"writing .*: {error.__name__} .*mine") as failure:
        await opened.deliver(batch(b"[1]"))
    assert not isinstance(failure.value, OutputRefused)
    assert isinstance(failure.value.__cause__, error)
    assert not progress.topics


@pytest.mark.parametrize("error", REFUSED + TOO_LARGE)
async def test_an_answer_that_no_second_attempt_changes_is_a_refusal(opened, batch, kafka, error):
    kafka.errors.append(error("mine"))

    with pytest.raises(OutputRefused, match="mine"):
        await opened.deliver(batch(b"[1]"))


@pytest.mark.parametrize("error", TOO_LARGE)
async def test_a_batch_is_handled_again_when_the_limits_of_its_topics_may_have_changed(
    opened, batch, kafka, limits, error
):
    limits.changes = True
    kafka.errors.append(error("mine"))

    with pytest.raises(DeliveryError, match="the limits of topics have changed") as failure:
        await opened.deliver(batch(b"[1]"))
    assert not isinstance(failure.value, OutputRefused)


@pytest.mark.parametrize("error", REFUSED[:1])
async def test_no_other_refusal_has_to_do_with_limits(opened, batch, kafka, limits, error):
    limits.changes = True
    kafka.errors.append(error("mine"))

    with pytest.raises(OutputRefused):
        await opened.deliver(batch(b"[1]"))


async def test_a_topic_that_cannot_be_created_is_a_refusal(opened, batch, limits):
    limits.errors.append(BrokerError("topic 'm.c.out' cannot be created: not allowed"))

    with pytest.raises(OutputRefused, match="not allowed"):
        await opened.deliver(batch(b"[1]"))


async def test_a_transaction_without_an_answer_ends(opened, batch, kafka, monkeypatch):
    monkeypatch.setattr(exactly_once_module, "ATTEMPT_SECONDS", 0.01)
    kafka.may_commit.clear()

    with pytest.raises(DeliveryError, match="writing outputs and offset: TimeoutError"):
        await opened.deliver(batch(b"[1]"))


# --- after an error


@pytest.fixture
async def doubtful(opened, batch, kafka):
    """The delivery, after a transaction that is not known to have ended."""
    kafka.errors.append(kafka_errors.RequestTimedOutError())
    with pytest.raises(DeliveryError):
        await opened.deliver(batch(b"[1]"))
    kafka.steps.clear()
    return opened


async def test_a_producer_in_doubt_is_replaced_by_one_of_the_same_name_after_ownership_was_asked(
    doubtful, partition, batch, kafka, until
):
    await doubtful.open(partition)

    assert kafka.steps == ["ownership", "connect", "start"]
    first, second = kafka.producers
    assert first.transactional_id == second.transactional_id
    await until(lambda: first.is_stopped)

    await doubtful.deliver(batch(b"[2]"))  # the fake refuses to be used while it is in doubt
    assert kafka.commits == [({("m.c.out", 2): [b"[2]"]}, "flow", {TP: 9})]


async def test_who_lost_the_partition_does_not_fence_its_successor(doubtful, partition, kafka):
    partition.lost = OwnershipLost("another's by now")

    with pytest.raises(OwnershipLost):
        await doubtful.open(partition)

    assert kafka.steps == ["ownership"]


async def test_ownership_is_asked_again_as_long_as_there_is_doubt(doubtful, partition, kafka):
    kafka.start_errors.append(kafka_errors.RequestTimedOutError())
    with pytest.raises(DeliveryError):
        await doubtful.open(partition)

    await doubtful.open(partition)
    assert kafka.steps == ["ownership", "connect", "start"] * 2

    kafka.steps.clear()
    await doubtful.open(partition)
    assert kafka.steps == []


@pytest.mark.parametrize("held", ["may_commit", "take_back"])
async def test_a_transaction_that_was_cancelled_leaves_its_producer_in_doubt(
    opened, partition, batch, kafka, ledger, turns, until, held
):
    if held == "may_commit":
        kafka.may_commit.clear()
    else:
        ledger.take_back = lambda tp: kafka_never()
    delivering = asyncio.ensure_future(opened.deliver(batch(b"[1]")))
    await turns()
    delivering.cancel()
    await asyncio.wait([delivering])
    kafka.steps.clear()

    await opened.open(partition)

    assert kafka.steps == ["ownership", "connect", "start"]
    await until(lambda: kafka.producers[0].is_stopped)


async def kafka_never():
    await asyncio.Event().wait()


async def test_a_topic_that_was_not_answered_for_leaves_the_producer_in_doubt(
    opened, partition, batch, kafka, limits
):
    limits.errors.append(kafka_errors.RequestTimedOutError())
    with pytest.raises(DeliveryError):
        await opened.deliver(batch(b"[1]"))

    await opened.open(partition)

    assert kafka.steps == ["ownership", "connect", "start"]


async def test_the_doubt_about_one_partition_is_none_about_another(doubtful, make_partition, kafka):
    other = make_partition(1)
    await doubtful.open(other)
    kafka.steps.clear()

    await doubtful.open(other)

    assert kafka.steps == []


# --- letting go


async def test_producers_of_partitions_that_are_not_kept_are_closed(
    delivery, make_partition, kafka, until
):
    partitions = [make_partition(n) for n in range(3)]
    for one in partitions:
        await delivery.open(one)

    await delivery.keep(partitions[1:2])

    first, second, third = kafka.producers
    await until(lambda: first.is_stopped and third.is_stopped)
    assert not second.is_stopped


async def test_letting_go_waits_for_nothing(opened, kafka, until):
    kafka.may_stop.clear()

    await opened.keep([])

    assert not kafka.producers[0].is_stopped
    kafka.may_stop.set()
    await until(lambda: kafka.producers[0].is_stopped)


async def test_a_partition_that_comes_back_is_opened_as_for_the_first_time(
    doubtful, partition, kafka
):
    await doubtful.keep([])

    await doubtful.open(partition)

    assert kafka.steps == ["connect", "start"]


async def test_the_doubt_about_a_partition_that_is_kept_remains(doubtful, partition, kafka):
    await doubtful.keep([partition])

    await doubtful.open(partition)

    assert kafka.steps == ["ownership", "connect", "start"]


async def test_a_stop_closes_all_producers_and_waits_for_them(delivery, make_partition, kafka):
    for n in range(3):
        await delivery.open(make_partition(n))
    await delivery.keep([])
    await delivery.open(make_partition(4))

    await delivery.on_stop()

    assert [producer.is_stopped for producer in kafka.producers] == [True] * 4


async def test_a_stop_does_not_wait_for_ever(opened, kafka, monkeypatch):
    monkeypatch.setattr(exactly_once_module, "CLOSE_SECONDS", 0.01)
    kafka.may_stop.clear()

    await opened.on_stop()

    assert not kafka.producers[0].is_stopped


async def test_a_stop_without_a_start_is_nothing(delivery, kafka):
    await delivery.on_stop()

    assert kafka.producers == []
