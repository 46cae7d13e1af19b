import asyncio
import logging
import random
from collections import deque
from time import monotonic

import pytest

from aiopype import Processor, execution
from aiopype.errors import DeliveryError, OutputRefused, OwnershipLost
from aiopype.transport import partition as partition_module
from aiopype.transport.partition import Batch, Partition


class Handlers(Processor):
    """Handlers that note which numbers they got."""

    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.seen = []
        self.release = asyncio.Event()

    def double(self, n):
        self.seen.append(n)
        self.emit("out", n * 2)

    def negate(self, n):
        self.seen.append(-n)
        self.emit("out", -n)

    def fail_at_2(self, n):
        self.double(n)
        if n == 2:
            raise LookupError("two")

    def block(self, n):
        self.double(n)
        until = monotonic() + execution.SLICE_SECONDS * 1.5
        while monotonic() < until:
            pass

    async def wait(self, n):
        await self.release.wait()
        self.double(n)

    async def wait_at_1(self, n):
        if n == 1:
            await self.wait(n)


class FakeFeed:
    """The consumer's part: holds batches for the agents, which work when the test says so."""

    def __init__(self):
        self.is_feeding = True
        self.turns = asyncio.Lock()
        self.queue = deque()
        self.given = []
        self.wakes = 0
        self.rewinds = []

    def give(self, batch, index):
        self.queue.append((batch, index))
        self.given.append((numbers(batch), index))

    def wake(self):
        self.wakes += 1

    async def rewind(self, partition, offset):
        self.rewinds.append(offset)

    async def work(self):
        """Let the next agent work."""
        batch, index = self.queue.popleft()
        await batch.partition.run(batch, index)

    async def work_all(self):
        """Let the agents work until nothing is to do."""
        while self.queue:
            await self.work()


class FakeDelivery:
    """Makes batches durable: notes them, or raises the errors it was given, one a call."""

    def __init__(self):
        self.done = []
        self.errors = deque()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def deliver(self, batch):
        await self.may_end.wait()
        if self.errors and (error := self.errors.popleft()):
            raise error
        outputs = [value for _, _, value, *_ in batch.emitted]
        self.done.append((numbers(batch), batch.position, outputs))


def numbers(batch):
    return [record.offset for record in batch.records]


@pytest.fixture
async def handlers(recorder):
    return Handlers("m.handlers", recorder)


@pytest.fixture
async def feed():
    return FakeFeed()


@pytest.fixture
async def delivery():
    return FakeDelivery()


@pytest.fixture
def failures():
    """What partitions reported."""
    return []


@pytest.fixture
def records(record):
    """Makes records whose offsets are also their arguments."""
    return lambda *offsets: [record(b"[%d]" % n, offset=n) for n in offsets]


@pytest.fixture
def partition(recorder, handlers, feed, delivery, failures):
    """Makes a partition whose events these methods handle."""

    def make(*methods):
        for method in methods:
            recorder.on("m.handlers", "in", getattr(handlers, method))
        topic = recorder.topic("m.handlers", "in")
        return Partition(
            topic,
            3,
            recorder.graph.subscriptions(topic),
            feed,
            delivery,
            lambda error, what: failures.append((error, what)),
        )

    return make


@pytest.fixture
def at_once(monkeypatch):
    """Back-offs are short and have no jitter."""
    monkeypatch.setattr(random, "uniform", lambda low, high: 1.0)
    monkeypatch.setattr(partition_module, "FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(partition_module, "LAST_DELAY_SECONDS", 0.004)


@pytest.fixture
def closing_soon(monkeypatch):
    """A batch closes after one slice of handling."""
    monkeypatch.setattr(partition_module, "BATCH_SECONDS", 0.0)


def test_a_partition_shows_its_topic_and_number(partition):
    assert repr(partition("double")) == "m.handlers.in[3]"


# --- the way of a batch


async def test_a_batch_is_handled_and_made_durable(partition, feed, delivery, records):
    one = partition("double")

    one.take(records(5, 6, 7), position=8)
    await feed.work_all()

    assert delivery.done == [([5, 6, 7], 8, [b"[10]", b"[12]", b"[14]"])]
    assert one.idle.is_set()
    assert feed.wakes == 1


async def test_the_position_is_the_consumers_and_not_that_of_the_last_record(
    partition, feed, delivery, records
):
    one = partition("double")

    one.take(records(5), position=9)  # markers of transactions lie between
    await feed.work_all()

    assert delivery.done == [([5], 9, [b"[10]"])]


async def test_subscriptions_run_in_turn_over_a_batch_and_the_last_makes_it_durable(
    partition, feed, delivery, handlers, records
):
    one = partition("double", "negate")

    one.take(records(1, 2), position=3)
    await feed.work()
    assert (handlers.seen, delivery.done) == ([1, 2], [])

    await feed.work()
    assert handlers.seen == [1, 2, -1, -2]
    assert delivery.done == [([1, 2], 3, [b"[2]", b"[4]", b"[-1]", b"[-2]"])]
    assert feed.given == [([1, 2], 0), ([1, 2], 1)]


async def test_one_batch_is_in_work_and_one_in_hand(partition, feed, delivery, records):
    one = partition("double")

    assert one.has_room
    one.take(records(1), position=2)
    assert one.has_room
    assert not one.idle.is_set()
    one.take(records(2), position=3)
    assert not one.has_room
    assert feed.given == [([1], 0)]

    await feed.work()
    assert one.has_room
    assert feed.given == [([1], 0), ([2], 0)]

    await feed.work()
    assert [found for found, *_ in delivery.done] == [[1], [2]]
    assert one.idle.is_set()
    assert feed.wakes == 2


async def test_room_is_told_of_after_the_next_batch_has_begun(partition, feed, records):
    one = partition("double")
    one.take(records(1), position=2)
    one.take(records(2), position=3)
    seen = []
    feed.wake = lambda: seen.append((one.has_room, len(feed.queue)))

    await feed.work()

    assert seen == [(True, 1)]


async def test_a_batch_whose_handlers_emit_nothing_is_made_durable_too(
    partition, feed, delivery, handlers, records
):
    one = partition("double")
    handlers.emit = lambda *args: None

    one.take(records(1), position=2)
    await feed.work_all()

    assert delivery.done == [([1], 2, [])]


# --- a batch whose time is over


async def test_a_batch_whose_time_is_over_is_cut_and_the_rest_is_the_next(
    partition, feed, delivery, records, closing_soon
):
    one = partition("block")

    one.take(records(1, 5, 9), position=12)
    await feed.work_all()

    assert delivery.done == [([1], 5, [b"[2]"]), ([5], 9, [b"[10]"]), ([9], 12, [b"[18]"])]


async def test_the_rest_goes_before_the_batch_in_hand(
    partition, feed, delivery, records, closing_soon
):
    one = partition("block")

    one.take(records(1, 2), position=3)
    one.take(records(3), position=4)
    await feed.work()

    assert not one.has_room
    await feed.work_all()
    assert [found for found, *_ in delivery.done] == [[1], [2], [3]]
    assert one.has_room


async def test_a_cut_batch_is_cut_for_all_its_subscriptions(
    partition, feed, delivery, records, closing_soon
):
    one = partition("block", "negate")

    one.take(records(1, 2), position=3)
    await feed.work_all()

    assert feed.given == [([1, 2], 0), ([1], 1), ([2], 0), ([2], 1)]
    assert [outputs for *_, outputs in delivery.done] == [[b"[2]", b"[-1]"], [b"[4]", b"[-2]"]]


async def test_only_the_first_subscription_can_cut_a_batch(
    partition, feed, delivery, records, closing_soon
):
    one = partition("double", "block")

    one.take(records(1, 2), position=3)
    await feed.work_all()

    assert [found for found, *_ in delivery.done] == [[1, 2]]


async def test_a_cut_at_the_end_is_no_cut(partition, records):
    batch = Batch(partition("double"), records(1, 2), 3)

    batch.cut(2)

    assert (numbers(batch), batch.position, batch.rest) == ([1, 2], 3, None)


# --- failures of handlers and outputs


async def test_a_failure_closes_the_partition_and_is_reported(
    partition, feed, delivery, failures, records
):
    one = partition("fail_at_2")
    one.take(records(1, 2, 3), position=4)
    one.take(records(4), position=5)

    await feed.work_all()

    ((error, what),) = failures
    assert isinstance(error, LookupError)
    assert what == (
        "LookupError in m.handlers.in -> m.handlers.fail_at_2: two (m.handlers.in[3] offset 2)"
    )
    assert delivery.done == []
    assert not one.has_room
    assert one.idle.is_set()


async def test_a_failure_of_a_later_subscription_makes_nothing_durable(
    partition, feed, delivery, failures, records
):
    one = partition("double", "fail_at_2")
    one.take(records(1, 2, 3), position=4)

    await feed.work_all()

    assert len(failures) == 1
    assert delivery.done == []


async def test_an_output_that_is_refused_closes_the_partition_and_is_reported(
    partition, feed, delivery, failures, records
):
    one = partition("double")
    refusal = OutputRefused("too large")
    delivery.errors.append(refusal)
    one.take(records(1), position=2)
    one.take(records(2), position=3)

    await feed.work_all()

    assert failures == [(refusal, "an output of m.handlers.in[3] cannot be written: too large")]
    assert not one.has_room
    assert one.idle.is_set()
    assert feed.rewinds == []


async def test_a_partition_that_is_lost_is_closed_and_no_failure(
    partition, feed, delivery, failures, records
):
    one = partition("double")
    delivery.errors.append(OwnershipLost("another owns it"))
    one.take(records(1), position=2)
    one.take(records(2), position=3)

    await feed.work_all()

    assert failures == []
    assert delivery.done == []
    assert not one.has_room
    assert one.idle.is_set()


# --- a delivery that did not succeed


async def test_a_batch_that_was_not_delivered_is_read_and_handled_again(
    partition, feed, delivery, handlers, failures, records, at_once
):
    one = partition("double")
    delivery.errors.append(DeliveryError("no answer"))
    one.take(records(5, 6), position=7)
    one.take(records(7), position=8)

    await feed.work_all()

    assert feed.rewinds == [5]
    assert (delivery.done, failures) == ([], [])
    assert one.has_room
    assert one.idle.is_set()
    assert feed.wakes == 1

    one.take(records(5, 6, 7), position=8)
    await feed.work_all()
    assert handlers.seen == [5, 6, 5, 6, 7]
    assert delivery.done == [([5, 6, 7], 8, [b"[10]", b"[12]", b"[14]"])]


async def test_a_cut_batch_that_was_not_delivered_is_read_again_with_its_rest(
    partition, feed, delivery, records, at_once, closing_soon
):
    one = partition("block")
    delivery.errors.append(DeliveryError("no answer"))
    one.take(records(5, 6), position=7)

    await feed.work_all()

    assert feed.rewinds == [5]
    assert feed.given == [([5, 6], 0)]
    assert one.idle.is_set()


async def test_nothing_is_fetched_until_it_is_tried_again(
    partition, feed, delivery, records, until, monkeypatch
):
    monkeypatch.setattr(partition_module, "FIRST_DELAY_SECONDS", 60.0)
    one = partition("double")
    delivery.errors.append(DeliveryError("no answer"))
    one.take(records(5), position=6)

    working = asyncio.ensure_future(feed.work())
    await until(lambda: not delivery.errors and not one.has_room)

    assert feed.rewinds == []
    assert not one.idle.is_set()
    working.cancel()
    await asyncio.wait([working])


def delays(caplog):
    """The back-offs that were logged."""
    return [entry.args[-1] for entry in caplog.records if "handled again" in entry.msg]


async def test_the_back_off_grows_up_to_its_bound_and_starts_anew_after_a_success(
    partition, feed, delivery, records, at_once, caplog
):
    one = partition("double")
    outcomes = [DeliveryError("no answer")] * 4 + [None, DeliveryError("no answer")]
    delivery.errors.extend(outcomes)

    for _ in outcomes:
        one.take(records(5), position=6)
        await feed.work_all()

    assert delays(caplog) == pytest.approx([0.001, 0.002, 0.004, 0.004, 0.001])


async def test_the_back_off_has_jitter(partition, feed, delivery, records, monkeypatch):
    monkeypatch.setattr(partition_module, "FIRST_DELAY_SECONDS", 0.001)
    asked = []
    monkeypatch.setattr(random, "uniform", lambda low, high: asked.append((low, high)) or 1.0)
    one = partition("double")
    delivery.errors.append(DeliveryError("no answer"))

    one.take(records(5), position=6)
    await feed.work_all()

    ((low, high),) = asked
    assert low < 1 < high


async def test_what_is_tried_again_is_logged_with_its_reason(
    partition, feed, delivery, records, at_once, caplog
):
    one = partition("double")
    delivery.errors.append(DeliveryError("no answer"))

    one.take(records(5, 6), position=7)
    await feed.work_all()

    (entry,) = caplog.records
    assert entry.levelno == logging.WARNING
    assert "m.handlers.in[3]: no answer; 2 events from offset 5 are handled again" in entry.message


# --- a partition that is taken away


async def test_a_dropped_batch_is_not_handled(partition, feed, delivery, handlers, records):
    one = partition("double")
    one.take(records(1), position=2)

    one.close()
    await feed.work_all()

    assert (handlers.seen, delivery.done) == ([], [])
    assert one.idle.is_set()
    assert not one.has_room


async def test_a_batch_that_is_dropped_while_it_is_handled_is_not_delivered(
    partition, feed, delivery, handlers, failures, records, turns
):
    one = partition("wait")
    one.take(records(1), position=2)
    one.take(records(2), position=3)
    working = asyncio.ensure_future(feed.work())
    await turns()

    one.close()
    handlers.release.set()
    await working

    assert handlers.seen == [1]
    assert (delivery.done, failures) == ([], [])
    assert feed.given == [([1], 0)]


async def test_a_batch_that_is_dropped_between_two_subscriptions_goes_no_further(
    partition, feed, delivery, handlers, records
):
    one = partition("double", "negate")
    one.take(records(1), position=2)
    await feed.work()

    one.close()
    await feed.work()

    assert handlers.seen == [1]
    assert delivery.done == []


async def test_a_failure_of_a_dropped_batch_is_none(
    partition, feed, handlers, failures, records, turns
):
    one = partition("wait")
    handlers.double = None  # the handler will fail
    one.take(records(1), position=2)
    working = asyncio.ensure_future(feed.work())
    await turns()

    one.close()
    handlers.release.set()
    await working

    assert failures == []


async def test_a_partition_that_is_closed_while_it_delivers_begins_nothing_more(
    partition, feed, delivery, records, turns
):
    one = partition("double")
    delivery.may_end.clear()
    one.take(records(1), position=2)
    one.take(records(2), position=3)
    working = asyncio.ensure_future(feed.work())
    await turns()

    one.close()
    delivery.may_end.set()
    await working

    assert feed.given == [([1], 0)]
    assert one.idle.is_set()
    assert not one.has_room


async def test_a_partition_that_is_closed_while_it_delivers_does_not_go_on_with_the_rest(
    partition, feed, delivery, records, turns, closing_soon
):
    one = partition("block")
    delivery.may_end.clear()
    one.take(records(1, 2), position=3)
    working = asyncio.ensure_future(feed.work())
    await turns()

    one.close()
    delivery.may_end.set()
    await working

    assert feed.given == [([1, 2], 0)]
    assert feed.wakes == 0
    assert one.idle.is_set()


async def test_a_partition_that_is_closed_before_it_tries_again_does_not(
    partition, feed, delivery, records, turns, until, monkeypatch
):
    monkeypatch.setattr(partition_module, "FIRST_DELAY_SECONDS", 0.01)
    one = partition("double")
    delivery.errors.append(DeliveryError("no answer"))
    one.take(records(5), position=6)
    working = asyncio.ensure_future(feed.work())
    await until(lambda: not one.has_room)

    one.close()
    await working

    assert feed.rewinds == []
    assert feed.wakes == 0


async def test_cancelling_an_agent_closes_its_partition_and_passes_on(
    partition, feed, delivery, failures, records, turns
):
    one = partition("wait")
    one.take(records(1), position=2)
    working = asyncio.ensure_future(feed.work())
    await turns()

    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working

    assert not one.has_room
    assert one.idle.is_set()
    assert (delivery.done, failures) == ([], [])


async def test_cancelling_an_agent_that_waits_to_try_again_closes_its_partition(
    partition, feed, delivery, records, until, monkeypatch
):
    monkeypatch.setattr(partition_module, "FIRST_DELAY_SECONDS", 60.0)
    one = partition("double")
    delivery.errors.append(DeliveryError("no answer"))
    one.take(records(1), position=2)
    working = asyncio.ensure_future(feed.work())
    await until(lambda: not one.has_room)

    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working

    assert one.idle.is_set()
    assert not one.has_room


# --- draining


async def test_while_draining_the_batch_in_work_ends_and_nothing_begins(
    partition, feed, delivery, records
):
    one = partition("double", "negate")
    one.take(records(1), position=2)
    one.take(records(2), position=3)

    feed.is_feeding = False
    await feed.work_all()

    assert [found for found, *_ in delivery.done] == [[1]]
    assert one.idle.is_set()


async def test_while_draining_the_rest_of_a_batch_is_left(
    partition, feed, delivery, records, closing_soon
):
    one = partition("block")
    one.take(records(1, 2), position=3)

    feed.is_feeding = False
    await feed.work_all()

    assert delivery.done == [([1], 2, [b"[2]"])]
    assert one.idle.is_set()


async def test_while_draining_no_batch_is_begun(partition, feed, records):
    one = partition("double")

    feed.is_feeding = False
    one.take(records(1), position=2)

    assert feed.given == []
    assert one.idle.is_set()


# --- several partitions


async def test_functions_of_partitions_take_turns(partition, feed, handlers, records, turns):
    one = partition("double")
    one.take(records(1), position=2)

    async with feed.turns:
        working = asyncio.ensure_future(feed.work())
        await turns()
        assert handlers.seen == []

    await working
    assert handlers.seen == [1]


async def test_partitions_proceed_independently(
    partition, feed, delivery, handlers, records, turns
):
    slow, fast = partition("wait_at_1"), partition()
    slow.take(records(1), position=2)
    waiting = asyncio.ensure_future(feed.work())
    await turns()

    fast.take(records(5), position=6)
    await feed.work()
    assert [position for _, position, _ in delivery.done] == [6]

    handlers.release.set()
    await waiting
    assert [position for _, position, _ in delivery.done] == [6, 2]
