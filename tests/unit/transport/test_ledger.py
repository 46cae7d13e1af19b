import asyncio
from types import SimpleNamespace

import pytest
from aiokafka import errors as kafka_errors
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from aiopype.errors import DeliveryError
from aiopype.progress import DeliveryProgress
from aiopype.topics import Topic
from aiopype.transport import ledger as ledger_module
from aiopype.transport.batches import Batch
from aiopype.transport.ledger import AtLeastOnce, Ledger

ONE, TWO = TopicPartition("t", 1), TopicPartition("t", 2)

PASSING = [
    kafka_errors.RequestTimedOutError(),
    kafka_errors.KafkaConnectionError(),
    kafka_errors.GroupCoordinatorNotAvailableError(),
    TimeoutError(),
    ConnectionResetError(),
]
LOST = [
    kafka_errors.CommitFailedError("rebalanced"),
    kafka_errors.IllegalStateError("not assigned"),
]


def name_of(error):
    return type(error).__name__


class FakeConsumer:
    """Takes commits; raises the errors it was given first; waits while it is held."""

    def __init__(self):
        self.commits = []
        self.errors = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.is_asked = asyncio.Event()
        self.asks = 0
        self.lost = set()

    def assignment(self):
        return {
            TopicPartition(topic, number) for topic in ("t", "u", "m.c.in") for number in range(10)
        } - self.lost

    async def commit(self, offsets):
        self.is_asked.set()
        self.asks += 1
        await self.may_answer.wait()
        if self.errors:
            raise self.errors.pop(0)
        assert all(isinstance(offset, OffsetAndMetadata) for offset in offsets.values())
        self.commits.append({tp: offset.offset for tp, offset in offsets.items()})


@pytest.fixture
async def consumer():
    return FakeConsumer()


@pytest.fixture
async def ledger():
    return Ledger()


async def test_a_partition_that_is_another_workers_does_not_hold_up_the_others(ledger, consumer):
    ledger.done("t", 1, 5)
    ledger.done("t", 2, 6)
    consumer.lost.add(TopicPartition("t", 1))

    assert await ledger.commit(consumer)

    assert consumer.commits == [{TopicPartition("t", 2): 6}]


async def test_what_is_done_is_committed(ledger, consumer):
    ledger.done("t", 1, 5)

    assert await ledger.commit(consumer)
    assert consumer.commits == [{ONE: 5}]


async def test_the_highest_position_of_each_partition_is_committed(ledger, consumer):
    ledger.done("t", 1, 5)
    ledger.done("t", 2, 7)
    ledger.done("t", 1, 9)

    assert await ledger.commit(consumer)
    assert consumer.commits == [{ONE: 9, TWO: 7}]


async def test_nothing_due_is_no_request(ledger, consumer):
    assert await ledger.commit(consumer)
    assert consumer.commits == []


async def test_what_is_committed_is_not_committed_again(ledger, consumer):
    ledger.done("t", 1, 5)
    await ledger.commit(consumer)
    await ledger.commit(consumer)

    assert consumer.commits == [{ONE: 5}]


@pytest.mark.parametrize("error", PASSING, ids=name_of)
async def test_a_commit_that_failed_stays_due(ledger, consumer, error):
    consumer.errors.append(error)
    ledger.done("t", 1, 5)

    assert not await ledger.commit(consumer)
    assert await ledger.commit(consumer)
    assert consumer.commits == [{ONE: 5}]


async def test_a_commit_without_an_answer_stays_due(ledger, consumer, monkeypatch):
    monkeypatch.setattr(ledger_module, "ATTEMPT_SECONDS", 0.01)
    consumer.may_answer.clear()
    ledger.done("t", 1, 5)

    assert not await ledger.commit(consumer)

    consumer.may_answer.set()
    assert await ledger.commit(consumer)
    assert consumer.commits == [{ONE: 5}]


async def test_what_was_done_during_a_failed_commit_counts_and_the_rest_stays_due(ledger, consumer):
    consumer.may_answer.clear()
    consumer.errors.append(kafka_errors.RequestTimedOutError())
    ledger.done("t", 1, 5)
    ledger.done("t", 2, 7)
    committing = asyncio.ensure_future(ledger.commit(consumer))
    await consumer.is_asked.wait()

    ledger.done("t", 1, 9)
    consumer.may_answer.set()
    assert not await committing

    assert await ledger.commit(consumer)
    assert consumer.commits == [{ONE: 9, TWO: 7}]


async def test_what_was_done_during_a_commit_is_due(ledger, consumer):
    consumer.may_answer.clear()
    ledger.done("t", 1, 5)
    committing = asyncio.ensure_future(ledger.commit(consumer))
    await consumer.is_asked.wait()

    ledger.done("t", 1, 9)
    consumer.may_answer.set()
    await committing
    await ledger.commit(consumer)

    assert consumer.commits == [{ONE: 5}, {ONE: 9}]


async def test_commits_are_made_one_after_the_other(ledger, consumer, turns):
    consumer.may_answer.clear()
    ledger.done("t", 1, 5)
    first = asyncio.ensure_future(ledger.commit(consumer))
    await consumer.is_asked.wait()
    ledger.done("t", 1, 9)
    second = asyncio.ensure_future(ledger.commit(consumer))
    await turns()
    assert consumer.asks == 1

    consumer.may_answer.set()

    assert await asyncio.gather(first, second) == [True, True]
    assert consumer.commits == [{ONE: 5}, {ONE: 9}]


@pytest.mark.parametrize("error", LOST, ids=name_of)
async def test_a_commit_of_what_others_own_is_dropped(ledger, consumer, error, caplog):
    consumer.errors.append(error)
    ledger.done("t", 1, 5)

    assert await ledger.commit(consumer)
    assert await ledger.commit(consumer)
    assert consumer.commits == []
    assert "1 offsets are not committed, others own them" in caplog.text


async def test_what_is_forgotten_is_not_committed(ledger, consumer):
    ledger.done("t", 1, 5)

    ledger.forget()

    assert await ledger.commit(consumer)
    assert consumer.commits == []


# --- taken back


async def test_what_is_taken_back_is_not_committed(ledger, consumer):
    ledger.done("t", 1, 5)
    ledger.done("t", 2, 7)

    await ledger.take_back(ONE)

    assert await ledger.commit(consumer)
    assert consumer.commits == [{TWO: 7}]


async def test_nothing_due_is_taken_back_at_once(ledger, consumer):
    consumer.may_answer.clear()
    ledger.done("t", 2, 7)
    committing = asyncio.ensure_future(ledger.commit(consumer))
    await consumer.is_asked.wait()

    await ledger.take_back(ONE)

    assert not committing.done()
    consumer.may_answer.set()
    await committing


async def test_taking_back_waits_for_a_commit_that_is_under_way(ledger, consumer, turns):
    consumer.may_answer.clear()
    ledger.done("t", 1, 5)
    committing = asyncio.ensure_future(ledger.commit(consumer))
    await consumer.is_asked.wait()
    taking = asyncio.ensure_future(ledger.take_back(ONE))
    await turns()
    assert not taking.done()

    consumer.may_answer.set()
    await taking
    assert committing.done()


async def test_a_commit_that_failed_meanwhile_is_taken_back_too(ledger, consumer):
    consumer.may_answer.clear()
    consumer.errors.append(kafka_errors.RequestTimedOutError())
    ledger.done("t", 1, 5)
    ledger.done("t", 2, 7)
    committing = asyncio.ensure_future(ledger.commit(consumer))
    await consumer.is_asked.wait()
    taking = asyncio.ensure_future(ledger.take_back(ONE))

    consumer.may_answer.set()
    await asyncio.gather(committing, taking)

    assert await ledger.commit(consumer)
    assert consumer.commits == [{TWO: 7}]


async def test_what_is_done_after_it_was_taken_back_is_committed(ledger, consumer):
    ledger.done("t", 1, 5)
    await ledger.take_back(ONE)

    ledger.done("t", 1, 9)

    assert await ledger.commit(consumer)
    assert consumer.commits == [{ONE: 9}]


# --- committing again and again


@pytest.fixture
async def committing(ledger, consumer, monkeypatch):
    """The task that commits what is due."""
    monkeypatch.setattr(ledger_module, "COMMIT_SECONDS", 0)
    task = asyncio.ensure_future(ledger.keep_committing(lambda: consumer))
    yield task
    task.cancel()
    await asyncio.wait([task])


async def test_what_is_done_is_committed_soon(ledger, consumer, committing, until):
    ledger.done("t", 1, 5)
    await until(lambda: consumer.commits == [{ONE: 5}])

    ledger.done("t", 1, 9)
    await until(lambda: consumer.commits == [{ONE: 5}, {ONE: 9}])


async def test_without_anything_done_nothing_is_committed(consumer, committing, turns):
    await turns()

    assert not consumer.is_asked.is_set()


async def test_a_commit_that_failed_is_tried_again(
    ledger, consumer, committing, until, monkeypatch
):
    monkeypatch.setattr(ledger_module, "SILENCE_SECONDS", 0.01)
    consumer.errors.extend(PASSING)
    ledger.done("t", 1, 5)

    await until(lambda: consumer.commits == [{ONE: 5}])
    assert not committing.done()


async def test_commits_have_a_pause_between_them(ledger, consumer, monkeypatch, turns):
    monkeypatch.setattr(ledger_module, "COMMIT_SECONDS", 60)
    task = asyncio.ensure_future(ledger.keep_committing(lambda: consumer))
    ledger.done("t", 1, 5)
    await turns()
    ledger.done("t", 1, 9)
    await turns()

    assert consumer.commits == [{ONE: 5}]
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("error", [TimeoutError(), kafka_errors.RequestTimedOutError()])
async def test_after_a_commit_without_an_answer_it_is_silent_for_longer_than_its_session(
    ledger, consumer, monkeypatch, error
):
    # To the group each commit is a sign of life.
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            raise asyncio.CancelledError

    monkeypatch.setattr(ledger_module.asyncio, "sleep", sleep)
    consumer.errors.append(error)
    ledger.done("t", 1, 5)
    with pytest.raises(asyncio.CancelledError):
        await ledger.keep_committing(lambda: consumer)

    assert pauses == [ledger_module.SILENCE_SECONDS, ledger_module.COMMIT_SECONDS]
    assert ledger_module.SILENCE_SECONDS > 10


# --- at least once


@pytest.fixture
def batch(record):
    """Makes a batch of a partition with the number 2, of a topic with 4 partitions."""
    topic = Topic("m.c", "in")
    topic.partitions = 4

    def make(position=9):
        partition = SimpleNamespace(topic=topic, number=2, is_closed=False)
        made = Batch(partition, [record(offset=8)], position)
        made.emitted.append((topic, None, b"[1]", 0, True))
        return made

    return make


async def test_outputs_are_sent_and_then_the_offset_is_due(
    ledger, consumer, producer, batch, turns
):
    one = batch()
    producer.may_send.clear()
    delivering = asyncio.ensure_future(AtLeastOnce(producer, ledger).deliver(one))
    await turns()
    await ledger.commit(consumer)
    assert consumer.commits == []

    producer.may_send.set()
    await delivering
    await ledger.commit(consumer)

    assert producer.sent == [(one.emitted, 2, 4)]
    assert consumer.commits == [{TopicPartition("m.c.in", 2): 9}]


async def test_the_offset_is_not_due_when_the_outputs_were_not_taken(
    ledger, consumer, producer, batch
):
    producer.errors.append(DeliveryError("no answer"))

    with pytest.raises(DeliveryError):
        await AtLeastOnce(producer, ledger).deliver(batch())

    await ledger.commit(consumer)
    assert consumer.commits == []


async def test_the_offset_of_a_partition_that_was_closed_meanwhile_is_not_due(
    ledger, consumer, producer, batch, turns
):
    # Its partition may belong to another worker by now: a commit that names it is refused as a
    # whole, and what is due of the other partitions goes with it.
    one = batch()
    producer.may_send.clear()
    delivering = asyncio.ensure_future(AtLeastOnce(producer, ledger).deliver(one))
    await turns()

    one.partition.is_closed = True
    ledger.forget()
    producer.may_send.set()
    await delivering

    await ledger.commit(consumer)
    assert consumer.commits == []


async def test_events_that_waited_have_no_offset(ledger, consumer, producer, batch):
    one = batch(position=None)

    await AtLeastOnce(producer, ledger).deliver(one)

    await ledger.commit(consumer)
    assert producer.sent == [(one.emitted, 2, 4)]
    assert consumer.commits == []


async def test_a_partition_is_opened_and_let_go_without_asking_anybody(ledger, producer, batch):
    partition = batch().partition
    delivery = AtLeastOnce(producer, ledger)

    await delivery.open(partition)
    await delivery.keep([])

    assert producer.tries == []


def test_a_partition_that_was_open_goes_on_from_memory():
    # The group may not know yet what is due.
    assert AtLeastOnce.trusts_memory is True


# --- what is counted


async def test_commits_are_counted_by_how_they_end(ledger, consumer):
    ledger.done("t", 1, 5)
    await ledger.commit(consumer)
    await ledger.commit(consumer)  # nothing is due
    assert (ledger.committed, ledger.failed) == (1, 0)

    consumer.errors = [PASSING[0], LOST[0]]
    for _ in range(2):
        ledger.done("t", 1, 9)
        await ledger.commit(consumer)

    assert (ledger.committed, ledger.failed) == (1, 2)


async def test_it_is_counted_how_long_outputs_take_until_they_are_taken(ledger, producer, batch):
    figures = DeliveryProgress()
    delivery = AtLeastOnce(producer, ledger, figures)

    await delivery.deliver(batch())
    nothing = batch()
    nothing.emitted = []
    await delivery.deliver(nothing)
    producer.errors.append(DeliveryError("no answer"))
    with pytest.raises(DeliveryError):
        await delivery.deliver(batch())

    assert figures.seconds.count == 1
