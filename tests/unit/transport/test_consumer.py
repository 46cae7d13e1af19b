import asyncio
import logging
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from faust.types import TP

from aiopype.errors import DeliveryError, OwnershipLost
from aiopype.progress import Progress
from aiopype.transport import consumer as consumer_module
from aiopype.transport.consumer import Consumer

ONE = TopicPartition("m.c.in", 1)

FAILURES = [
    kafka_errors.RequestTimedOutError("mine"),
    kafka_errors.KafkaConnectionError("mine"),
    kafka_errors.NodeNotReadyError("mine"),
    TimeoutError("mine"),
    ConnectionResetError("mine"),
]


def name_of(error):
    return type(error).__name__


class FakeClient:
    """aiokafka's consumer: what the group says, and where each partition is fetched.

    Attributes:
        offset: what the group has committed; None is nothing.
        first: where the logs begin.
        steps: what was asked, in order.
        error: raised instead of an answer.
        may_answer: cleared, it holds every question.
        answer: the error with which the group answers when it is asked about its member.
    """

    def __init__(self):
        self.offset = None
        self.first = 3
        self.steps = []
        self.error = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.answer = kafka_errors.NoError
        self._coordinator = SimpleNamespace(
            group_id="flow",
            member_id="me",
            generation=4,
            ensure_coordinator_known=self._answer,
            _send_req=self._send,
        )
        self._subscription = SimpleNamespace(reassignment_in_progress=False)

    async def _answer(self):
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error

    async def committed(self, tp):
        self.steps.append(("committed", tp))
        await self._answer()
        return self.offset

    def seek(self, tp, position):
        if isinstance(self.error, kafka_errors.IllegalStateError):
            raise self.error
        self.steps.append(("seek", tp, position))

    async def seek_to_beginning(self, tp):
        await self._answer()
        self.steps.append(("seek", tp, "beginning"))

    async def seek_to_end(self, tp):
        await self._answer()
        self.steps.append(("seek", tp, "end"))

    async def position(self, tp):
        await self._answer()
        return self.first

    async def beginning_offsets(self, tps):
        await self._answer()
        return dict.fromkeys(tps, self.first)

    def pause(self, tp):
        self.steps.append(("pause", tp))

    def resume(self, tp):
        self.steps.append(("resume", tp))

    async def _send(self, request):
        self.steps.append("heartbeat")
        await self._answer()
        return SimpleNamespace(error_code=self.answer.errno)


class FakeLedger:
    def __init__(self, steps):
        self.steps = steps
        self.is_answered = True

    async def commit(self, consumer):
        self.steps.append("commit what is due")
        return self.is_answered

    def done(self, topic, partition, position):
        self.steps.append(f"{topic}[{partition}] is done to {position}")


class FakePartition:
    def __init__(self, tp):
        self.topic = SimpleNamespace(name=tp.topic, begins_at_end=False)
        self.number = tp.partition
        self.is_closed = False
        self.opened = 0
        self.jumps = []

    def jump(self, position):
        self.jumps.append(position)

    def __repr__(self):
        return f"{self.topic.name}[{self.number}]"

    def open(self):
        self.opened += 1

    def close(self):
        self.is_closed = True


class FakeTransport:
    """Makes partitions of the manager `m`; its managers run, or are stopped.

    Attributes:
        stopped: topics whose manager is stopped.
    """

    def __init__(self):
        self.stopped = set()
        self.progress = Progress()

    def new_partition(self, tp, feed):
        return FakePartition(tp) if tp.topic.startswith("m.") else None

    def is_stopped(self, partition):
        return partition.topic.name in self.stopped


class BareConsumer(Consumer):
    """Ours without Faust's part of it, on a client that the test gives."""

    def __init__(self, client):
        self._thread = SimpleNamespace(_ensure_consumer=lambda: client)
        self.transport = FakeTransport()
        self.partitions = {}
        self.ledger = FakeLedger(client.steps)


@pytest.fixture
async def client():
    return FakeClient()


@pytest.fixture
def consumer(client):
    return BareConsumer(client)


@pytest.fixture
def partition():
    return FakePartition(TP(*ONE))


# --- going on


async def test_a_partition_goes_on_where_it_says(consumer, client, partition):
    assert await consumer.go_on(partition, 7, 7) == 7
    assert client.steps == [("seek", ONE, 7), ("resume", ONE)]


async def test_a_partition_that_does_not_know_goes_on_where_the_group_is(
    consumer, client, partition
):
    client.offset = 12

    assert await consumer.go_on(partition, None, None) == 12
    assert client.steps == [
        "commit what is due", ("committed", ONE), ("seek", ONE, 12), ("resume", ONE)
    ]  # fmt: skip


@pytest.mark.parametrize("offset", [None, 0])
async def test_where_nothing_is_committed_it_goes_on_from_the_beginning_of_the_log(
    consumer, client, partition, offset
):
    client.offset = offset

    assert await consumer.go_on(partition, None, None) == 3
    assert client.steps[2:] == [("seek", ONE, "beginning"), ("resume", ONE)]


async def test_where_nothing_is_committed_it_may_begin_at_the_end_and_does_so_once(
    consumer, client, partition
):
    partition.topic.begins_at_end = True

    assert await consumer.go_on(partition, None, None) == 3
    assert client.steps[2:] == [
        ("seek", ONE, "end"), "m.c.in[1] is done to 3", "commit what is due", ("resume", ONE)
    ]  # fmt: skip


async def test_where_the_end_cannot_be_committed_it_does_not_begin(consumer, client, partition):
    partition.topic.begins_at_end = True
    consumer.ledger.is_answered = False

    with pytest.raises(DeliveryError, match="where the flow begins"):
        await consumer.go_on(partition, None, None)
    assert ("resume", ONE) not in client.steps


async def test_who_has_a_position_at_the_beginning_does_not_begin_at_the_end(
    consumer, client, partition
):
    partition.topic.begins_at_end = True
    client.offset = 0

    assert await consumer.go_on(partition, None, None) == 3
    assert client.steps[2:] == [("seek", ONE, "beginning"), ("resume", ONE)]


async def test_a_group_that_is_further_than_what_is_known_counts(
    consumer, client, partition, caplog
):
    # A transaction without an answer may have been committed all the same.
    client.offset = 15

    assert await consumer.go_on(partition, None, 12) == 15
    assert caplog.text == ""


@pytest.mark.parametrize("offset", [None, 9])
async def test_a_group_that_has_forgotten_what_was_committed_is_told_and_not_believed(
    consumer, client, partition, caplog, offset
):
    client.offset = offset

    assert await consumer.go_on(partition, None, 12) == 12
    # Its own word is committed anew: nothing before it is handled again by a successor either.
    assert client.steps[2:] == ["m.c.in[1] is done to 12", ("seek", ONE, 12), ("resume", ONE)]
    ((_, level, text),) = caplog.record_tuples
    assert level == logging.WARNING
    assert text == (
        f"m.c.in[1]: the group says {offset}; this worker goes on at 12, before which all is done"
    )


@pytest.mark.parametrize("error", FAILURES, ids=name_of)
async def test_a_group_that_does_not_answer_is_an_error_of_the_delivery(
    consumer, client, partition, error
):
    client.error = error

    with pytest.raises(DeliveryError, match=r"asking for the group's position: .*mine") as failure:
        await consumer.go_on(partition, None, None)
    assert failure.value.__cause__ is error
    assert ("resume", ONE) not in client.steps


async def test_asking_the_group_does_not_take_for_ever(consumer, client, partition, monkeypatch):
    monkeypatch.setattr(consumer_module, "ANSWER_SECONDS", 0.01)
    client.may_answer.clear()

    with pytest.raises(DeliveryError, match="TimeoutError"):
        await consumer.go_on(partition, None, None)


async def test_a_partition_that_is_not_assigned_any_more_is_lost(consumer, client, partition):
    client.error = kafka_errors.IllegalStateError("not assigned")

    with pytest.raises(OwnershipLost, match=r"m.c.in\[1\] is not assigned any more"):
        await consumer.go_on(partition, 7, 7)


# --- ownership


async def test_who_is_a_member_of_the_group_owns_its_partitions(consumer, client, partition):
    await consumer.check_ownership(partition)

    assert client.steps == ["heartbeat"]


async def test_who_was_put_out_of_the_group_has_lost_them(consumer, client, partition):
    client.answer = kafka_errors.UnknownMemberIdError

    with pytest.raises(OwnershipLost, match="the group went on without this worker"):
        await consumer.check_ownership(partition)


async def test_who_knows_that_it_is_in_no_group_has_lost_them_too(consumer, client, partition):
    client._coordinator.generation = -1

    with pytest.raises(OwnershipLost):
        await consumer.check_ownership(partition)
    assert client.steps == []


async def test_in_the_next_generation_they_may_be_anothers(consumer, client, partition):
    client.answer = kafka_errors.IllegalGenerationError

    with pytest.raises(OwnershipLost, match="is being rebalanced"):
        await consumer.check_ownership(partition)


async def test_in_a_rebalance_nobody_owns_anything(consumer, client, partition):
    client._subscription.reassignment_in_progress = True

    with pytest.raises(OwnershipLost, match="is being rebalanced"):
        await consumer.check_ownership(partition)


async def test_a_group_that_only_begins_a_rebalance_counts_on_its_members(
    consumer, client, partition
):
    client.answer = kafka_errors.RebalanceInProgressError

    await consumer.check_ownership(partition)


async def test_a_coordinator_that_has_moved_says_nothing(consumer, client, partition):
    client.answer = kafka_errors.NotCoordinatorError

    with pytest.raises(DeliveryError, match="asking the group: NotCoordinator"):
        await consumer.check_ownership(partition)


@pytest.mark.parametrize("error", FAILURES, ids=name_of)
async def test_a_heartbeat_that_fails_is_an_error_of_the_delivery(
    consumer, client, partition, error
):
    client.error = error

    with pytest.raises(DeliveryError, match=r"asking the group: .*mine"):
        await consumer.check_ownership(partition)


async def test_a_heartbeat_does_not_take_for_ever(consumer, client, partition, monkeypatch):
    monkeypatch.setattr(consumer_module, "ANSWER_SECONDS", 0.01)
    client.may_answer.clear()

    with pytest.raises(DeliveryError, match=r"asking the group: no answer in 0.01 s"):
        await consumer.check_ownership(partition)


# --- topics of managers that stop and start


@pytest.fixture
def assigned(consumer, client):
    """Partitions of three topics that were assigned; the last is of nobody."""
    tps = [TP("m.c.in", 0), TP("m.c.in", 1), TP("m.c.other", 0)]
    for tp in [*tps, TP("foreign", 0)]:
        consumer._open(tp)
    return {tp: consumer.partitions[tp] for tp in tps}


def test_what_is_assigned_is_opened_and_not_fetched_before(assigned, consumer, client):
    assert [partition.opened for partition in assigned.values()] == [1, 1, 1]
    assert client.steps == [("pause", TopicPartition(*tp)) for tp in assigned]
    assert TP("foreign", 0) not in consumer.partitions


def test_a_partition_whose_manager_is_stopped_is_not_opened(consumer):
    consumer.transport.stopped.add("m.c.in")

    consumer._open(TP("m.c.in", 0))

    partition = consumer.partitions[TP("m.c.in", 0)]
    assert (partition.opened, partition.is_closed) == (0, True)


def test_topics_that_are_stopped_are_closed_and_fetched_no_more(assigned, consumer, client):
    client.steps.clear()

    consumer.stop_topics(["m.c.in"])

    assert [partition.is_closed for partition in assigned.values()] == [True, True, False]
    assert client.steps == [("pause", TopicPartition("m.c.in", n)) for n in range(2)]


def test_topics_that_are_resumed_are_opened_anew(assigned, consumer):
    consumer.stop_topics(["m.c.in", "m.c.other"])

    consumer.resume_topics(["m.c.in"])

    anew = consumer.partitions[TP("m.c.in", 0)]
    assert anew is not assigned[TP("m.c.in", 0)]
    assert (anew.opened, anew.is_closed) == (1, False)
    assert consumer.partitions[TP("m.c.other", 0)].is_closed


def test_a_topic_that_runs_is_not_resumed(assigned, consumer):
    consumer.resume_topics(["m.c.in"])

    assert consumer.partitions == assigned


def test_stopping_topics_that_are_not_assigned_here_is_nothing(assigned, consumer):
    consumer.stop_topics(["m.elsewhere.in"])
    consumer.resume_topics(["m.elsewhere.in"])

    assert consumer.partitions == assigned


# --- what is not in the log any more


@pytest.mark.parametrize(
    ("position", "lost", "told"),
    [
        (1, 2, "2 events are lost, which retention deleted before they were handled"),
        (9, 0, "it was made anew, or its brokers have lost the end of it"),
    ],
)
async def test_what_is_gone_is_told_counted_and_skipped(
    consumer, client, partition, caplog, position, lost, told
):
    consumer.partitions = {TP(*ONE): partition}

    await consumer._skip_what_is_gone(client, {ONE: position})

    ((_, level, text),) = caplog.record_tuples
    assert level == logging.ERROR
    assert text == f"m.c.in[1] has no offset {position}: {told}; it is read on from offset 3"
    assert consumer.transport.progress.topics["m.c.in"].skipped == lost
    assert partition.jumps == [3]
    assert client.steps == [("seek", ONE, 3)]


async def test_what_is_gone_waits_for_a_broker_that_says_where_the_log_begins(
    consumer, client, partition
):
    consumer.partitions = {TP(*ONE): partition}
    client.error = kafka_errors.KafkaConnectionError("gone")

    await consumer._skip_what_is_gone(client, {ONE: 1})

    assert partition.jumps == []
    assert client.steps == []


async def test_what_is_gone_of_a_partition_that_was_given_up_is_nobodys_here(consumer, client):
    consumer.partitions = {}

    await consumer._skip_what_is_gone(client, {ONE: 1})

    assert client.steps == []
