import asyncio
import json
import logging
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from aiopype.errors import BrokerError, DeliveryError, OutputRefused, OwnershipLost
from aiopype.retry import Retry
from aiopype.topics import Foreign
from aiopype.transport import partition as partition_module


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


def delays(caplog, text):
    """The back-offs of the log's lines with this text."""
    return [
        next(arg for arg in entry.args if isinstance(arg, float))
        for entry in caplog.records
        if text in entry.msg
    ]


def test_a_partition_shows_its_topic_and_number(partition):
    assert repr(partition("double")) == "m.handlers.in[3]"


async def test_ownership_is_asked_of_the_group(partition, feed):
    one = partition("double")

    await one.check_ownership()

    assert feed.checked == [one]


# --- opening


async def test_a_partition_is_not_fetched_before_it_is_open(
    partition, feed, delivery, store, turns
):
    one = partition("double")
    delivery.may_open.clear()
    feed.may_answer.clear()
    assert not one.has_room

    one.open()
    await turns()
    assert not one.has_room
    assert feed.wakes == 0

    delivery.may_open.set()
    await turns()
    assert not one.has_room

    feed.may_answer.set()
    await turns()
    assert one.has_room
    assert feed.wakes == 1


async def test_predecessors_are_fenced_before_waiting_events_are_read_and_the_position_asked(
    opened, feed, steps
):
    await opened("double")

    assert steps == ["open", "read", "go on"]
    assert feed.asked == [(None, None)]


@pytest.mark.parametrize("error", [DeliveryError("no answer"), BrokerError("no right")])
@pytest.mark.parametrize("step", range(3))
async def test_a_step_that_failed_begins_the_opening_anew(
    opened, feed, delivery, store, steps, failures, at_once, step, error
):
    (delivery.open_errors, store.errors, feed.errors)[step].append(error)

    await opened("double")

    all_steps = ["open", "read", "go on"]
    assert steps == all_steps[: step + 1] + all_steps
    assert failures == []


async def test_the_back_off_of_opening_grows_up_to_its_bound(
    opened, feed, delivery, at_once, caplog
):
    delivery.open_errors.extend([DeliveryError("no answer")] * 4)

    await opened("double")

    assert delays(caplog, "not open yet") == pytest.approx([0.001, 0.002, 0.004, 0.004])
    assert "m.handlers.in[3] is not open yet, again in 0.0 s: no answer" in caplog.text


async def test_a_partition_that_is_lost_while_it_is_opened_is_closed_and_no_failure(
    partition, delivery, failures, steps, until
):
    one = partition("double")
    delivery.open_errors.append(OwnershipLost("another owns it"))

    one.open()
    await until(lambda: one.is_closed)
    await one.end()

    assert steps == ["open"]
    assert (one.has_room, failures) == (False, [])


async def test_a_partition_that_may_not_be_opened_is_closed_and_reported(
    partition, delivery, failures, steps, until
):
    one = partition("double")
    refusal = OutputRefused("not for you")
    delivery.open_errors.append(refusal)

    one.open()
    await until(lambda: failures)

    assert failures == [(refusal, "m.handlers.in[3] cannot be opened: not for you")]
    assert steps == ["open"]
    assert one.is_closed


async def test_an_error_that_nobody_foresaw_closes_the_partition_and_is_reported(
    partition, store, failures, until
):
    one = partition("double")
    store.errors.append(LookupError("what is this"))

    one.open()
    await until(lambda: failures)

    ((_, what),) = failures
    assert what == "open m.handlers.in[3]: LookupError('what is this')"
    assert one.is_closed


async def test_a_partition_that_is_closed_while_it_is_opened_opens_no_further(
    partition, feed, delivery, steps, turns
):
    one = partition("double")
    delivery.may_open.clear()
    one.open()
    await turns()

    one.close()
    await one.end()
    delivery.may_open.set()
    await turns()

    assert steps == ["open"]
    assert (one.has_room, feed.wakes) == (False, 0)


async def test_its_end_is_when_nothing_of_it_runs_any_more(partition, delivery, turns):
    one = partition("double")
    ended = []

    async def open_slowly(partition):
        try:
            await asyncio.Event().wait()
        finally:
            await turns()
            ended.append(partition)

    delivery.open = open_slowly
    one.open()
    await turns()

    one.close()
    await one.end()

    assert ended == [one]


async def test_the_end_of_a_partition_that_did_nothing_is_at_once(partition):
    one = partition("double")

    one.close()
    await one.end()

    assert one.is_closed


# --- the way of a batch


async def test_a_batch_is_handled_and_made_durable(opened, feed, delivery, take):
    one = await opened("double")

    take(one, 5, 6, 7)
    await feed.work_all()

    assert delivery.done == [([5, 6, 7], 8, [b"[10]", b"[12]", b"[14]"])]
    assert one.idle.is_set()
    assert feed.wakes == 1


async def test_the_position_is_the_consumers_and_not_that_of_the_last_record(
    opened, feed, delivery, take
):
    one = await opened("double")

    take(one, 5, position=9)  # markers of transactions lie between
    await feed.work_all()

    assert delivery.done == [([5], 9, [b"[10]"])]


async def test_subscriptions_run_in_turn_over_a_batch_and_the_last_makes_it_durable(
    opened, feed, delivery, handlers, take
):
    one = await opened("double", "negate")

    take(one, 1, 2)
    await feed.work()
    assert (handlers.seen, delivery.done) == ([1, 2], [])

    await feed.work()
    assert handlers.seen == [1, 2, -1, -2]
    assert delivery.done == [([1, 2], 3, [b"[2]", b"[4]", b"[-1]", b"[-2]"])]
    assert feed.given == [([1, 2], 0), ([1, 2], 1)]


async def test_one_batch_is_in_work_and_one_in_hand(opened, feed, delivery, take):
    one = await opened("double")

    assert one.has_room
    take(one, 1)
    assert one.has_room
    assert not one.idle.is_set()
    take(one, 2)
    assert not one.has_room
    assert feed.given == [([1], 0)]

    await feed.work()
    assert one.has_room
    assert feed.given == [([1], 0), ([2], 0)]

    await feed.work()
    assert [found for found, *_ in delivery.done] == [[1], [2]]
    assert one.idle.is_set()
    assert feed.wakes == 2


async def test_it_is_busy_since_its_batch_began(opened, feed, take, monkeypatch):
    one = await opened("double")
    assert one.busy_since is None

    monkeypatch.setattr(partition_module.time, "monotonic", lambda: 7.0)
    take(one, 1)
    assert one.busy_since == 7.0

    await feed.work_all()
    assert one.busy_since is None


async def test_room_is_told_of_after_the_next_batch_has_begun(opened, feed, take):
    one = await opened("double")
    take(one, 1)
    take(one, 2)
    seen = []
    feed.wake = lambda: seen.append((one.has_room, len(feed.queue)))

    await feed.work()

    assert seen == [(True, 1)]


async def test_a_batch_whose_handlers_emit_nothing_is_made_durable_too(
    opened, feed, delivery, handlers, take
):
    one = await opened("double")
    handlers.emit = lambda *args: None

    take(one, 1)
    await feed.work_all()

    assert delivery.done == [([1], 2, [])]


async def test_blocking_handlers_run_in_the_threads_of_the_feed(
    opened, feed, delivery, handlers, take
):
    handlers.blocking = True
    where = []
    handlers.double = lambda n: where.append(threading.current_thread().name)
    with ThreadPoolExecutor(1, thread_name_prefix="of the feed") as feed.threads:
        one = await opened("fail")
        take(one, 1)
        await feed.work_all()

    assert where == ["of the feed_0"]
    assert delivery.done == [([1], 2, [])]


# --- a batch whose time is over


async def test_a_batch_whose_time_is_over_is_cut_and_the_rest_is_the_next(
    opened, feed, delivery, take, closing_soon
):
    one = await opened("block")

    take(one, 1, 5, 9, position=12)
    await feed.work_all()

    assert delivery.done == [([1], 5, [b"[2]"]), ([5], 9, [b"[10]"]), ([9], 12, [b"[18]"])]


async def test_the_rest_goes_before_the_batch_in_hand(opened, feed, delivery, take, closing_soon):
    one = await opened("block")

    take(one, 1, 2)
    take(one, 3)
    await feed.work()

    assert not one.has_room
    await feed.work_all()
    assert [found for found, *_ in delivery.done] == [[1], [2], [3]]
    assert one.has_room


async def test_a_cut_batch_is_cut_for_all_its_subscriptions(
    opened, feed, delivery, take, closing_soon
):
    one = await opened("block", "negate")

    take(one, 1, 2)
    await feed.work_all()

    assert feed.given == [([1, 2], 0), ([1], 1), ([2], 0), ([2], 1)]
    assert [outputs for *_, outputs in delivery.done] == [[b"[2]", b"[-1]"], [b"[4]", b"[-2]"]]


async def test_only_the_first_subscription_can_cut_a_batch(
    opened, feed, delivery, take, closing_soon
):
    one = await opened("double", "block")

    take(one, 1, 2)
    await feed.work_all()

    assert [found for found, *_ in delivery.done] == [[1, 2]]


# --- failures of handlers and outputs


async def test_a_failure_that_is_not_tried_again_is_a_dead_letter_and_the_rest_goes_on(
    opened, feed, delivery, handlers, failures, take
):
    one = await opened("fail")
    handlers.retry = Retry(tries=1)
    handlers.failing = {2}

    take(one, 1, 2, 3)
    await feed.work_all()

    ((offsets, position, (first, third, letter)),) = delivery.done
    assert (offsets, position) == ([1, 2, 3], 4)
    assert (first, third) == (b"[2]", b"[6]")
    assert json.loads(letter)["message"] == "number 2"
    assert (one.has_room, failures) == (True, [])


async def test_a_failure_of_a_later_subscription_leaves_the_outputs_of_the_others(
    opened, feed, delivery, handlers, take
):
    one = await opened("double", "fail", "negate")
    handlers.retry = Retry(tries=1)
    handlers.failing = {1, 2}

    take(one, 1, 2)
    await feed.work_all()

    ((_, _, outputs),) = delivery.done
    assert [o for o in outputs if o.startswith(b"[")] == [b"[2]", b"[4]", b"[-1]", b"[-2]"]
    assert len(outputs) == 6


async def test_a_failure_that_passes_soon_is_over_within_its_batch(
    opened, feed, delivery, handlers, take
):
    handlers.retry = Retry(first_delay_seconds=0.001)
    handlers.failing = {1}
    one = await opened("pass_later")

    take(one, 1, 2)
    await feed.work_all()

    assert handlers.seen == [1, 2, 1]
    assert delivery.done == [([1, 2], 3, [b"[4]", b"[2]"])]
    assert delivery.entries == [0]
    assert one.parking.count == 0


async def test_an_output_that_is_refused_closes_the_partition_and_is_reported(
    opened, feed, delivery, failures, take, steps
):
    one = await opened("double")
    refusal = OutputRefused("too large")
    delivery.errors.append(refusal)
    take(one, 1)
    take(one, 2)

    await feed.work_all()

    assert failures == [(refusal, "an output of m.handlers.in[3] cannot be written: too large")]
    assert one.is_closed
    assert not one.has_room
    assert one.idle.is_set()
    assert steps.count("open") == 1


async def test_a_partition_that_is_lost_is_closed_and_no_failure(
    opened, feed, delivery, failures, take, steps
):
    one = await opened("double")
    delivery.errors.append(OwnershipLost("another owns it"))
    take(one, 1)
    take(one, 2)

    await feed.work_all()

    assert failures == []
    assert delivery.done == []
    assert one.is_closed
    assert one.idle.is_set()
    assert steps.count("open") == 1


# --- a delivery that did not succeed


async def test_after_a_delivery_that_did_not_succeed_the_partition_is_opened_again(
    opened, feed, delivery, handlers, failures, take, at_once, steps, until
):
    one = await opened("double")
    delivery.errors.append(DeliveryError("no answer"))
    take(one, 5, 6)
    take(one, 7)

    await feed.work_all()
    assert not one.has_room
    assert one.idle.is_set()

    await until(lambda: one.has_room)
    assert steps == ["open", "read", "go on"] * 2
    assert (delivery.done, failures) == ([], [])
    assert feed.wakes == 1

    take(one, 5, 6, 7)
    await feed.work_all()
    assert handlers.seen == [5, 6, 5, 6, 7]
    assert delivery.done == [([5, 6, 7], 8, [b"[10]", b"[12]", b"[14]"])]


async def test_a_delivery_that_trusts_memory_goes_on_after_what_was_delivered(
    opened, feed, delivery, take, at_once, until
):
    one = await opened("double")
    take(one, 5, 6)
    await feed.work_all()
    delivery.errors.append(DeliveryError("no answer"))
    take(one, 7)
    await feed.work_all()

    await until(lambda: one.has_room)

    assert feed.asked == [(None, None), (7, 7)]


async def test_one_that_does_not_asks_the_group_and_says_what_is_known(
    opened, feed, delivery, take, at_once, until
):
    delivery.trusts_memory = False
    one = await opened("double")
    take(one, 5, 6)
    await feed.work_all()
    delivery.errors.append(DeliveryError("no answer"))
    take(one, 7)
    await feed.work_all()

    await until(lambda: one.has_room)

    assert feed.asked == [(None, None), (None, 7)]


async def test_what_the_group_said_is_known_before_anything_is_delivered(
    opened, feed, delivery, take, at_once, until
):
    one = await opened("double")
    delivery.errors.append(DeliveryError("no answer"))
    take(one, 5)
    await feed.work_all()

    await until(lambda: one.has_room)

    assert feed.asked == [(None, None), (5, 5)]


async def test_the_rest_of_a_cut_batch_that_was_not_delivered_is_forgotten_with_it(
    opened, feed, delivery, take, at_once, closing_soon, until
):
    one = await opened("block")
    delivery.errors.append(DeliveryError("no answer"))
    take(one, 5, 6)

    await feed.work_all()
    await until(lambda: one.has_room)

    assert feed.given == [([5, 6], 0)]
    assert one.idle.is_set()


async def test_it_is_opened_again_only_after_a_back_off(
    opened, feed, delivery, take, turns, steps, monkeypatch
):
    one = await opened("double")
    monkeypatch.setattr(partition_module, "FIRST_DELAY_SECONDS", 60.0)
    delivery.errors.append(DeliveryError("no answer"))
    take(one, 5)

    await feed.work_all()
    await turns()

    assert steps.count("open") == 1
    assert not one.has_room


async def test_the_back_off_grows_up_to_its_bound_and_starts_anew_after_a_success(
    opened, feed, delivery, take, at_once, caplog, until
):
    one = await opened("double")
    outcomes = [DeliveryError("no answer")] * 4 + [None, DeliveryError("no answer")]
    delivery.errors.extend(outcomes)

    for _ in outcomes:
        await until(lambda: one.has_room)
        take(one, 5)
        await feed.work_all()

    found = delays(caplog, "handled again")
    assert found == pytest.approx([0.001, 0.002, 0.004, 0.004, 0.001])


async def test_an_opening_alone_does_not_shorten_the_back_off(
    opened, feed, delivery, take, at_once, caplog, until
):
    one = await opened("double")
    delivery.errors.append(DeliveryError("no answer"))
    delivery.open_errors.append(DeliveryError("no answer"))
    take(one, 5)
    await feed.work_all()
    await until(lambda: one.has_room)

    delivery.errors.append(DeliveryError("no answer"))
    take(one, 5)
    await feed.work_all()

    assert delays(caplog, "") == pytest.approx([0.001, 0.002, 0.004])


async def test_back_offs_have_jitter(opened, feed, delivery, take, monkeypatch, until):
    monkeypatch.setattr(partition_module, "FIRST_DELAY_SECONDS", 0.001)
    asked = []
    monkeypatch.setattr(random, "uniform", lambda low, high: asked.append((low, high)) or 1.0)
    delivery.open_errors.append(DeliveryError("no answer"))
    one = await opened("double")
    delivery.errors.append(DeliveryError("no answer"))

    take(one, 5)
    await feed.work_all()

    assert len(asked) == 2
    assert all(low < 1 < high for low, high in asked)


async def test_what_is_tried_again_is_logged_with_its_reason(
    opened, feed, delivery, take, at_once, caplog
):
    one = await opened("double")
    delivery.errors.append(DeliveryError("no answer"))

    take(one, 5, 6)
    await feed.work_all()

    (entry,) = caplog.records
    assert entry.levelno == logging.WARNING
    assert entry.message == "m.handlers.in[3]: no answer; 2 events are handled again in 0.0 s"


# --- a partition that is taken away


async def test_a_dropped_batch_is_not_handled(opened, feed, delivery, handlers, take):
    one = await opened("double")
    take(one, 1)

    one.close()
    await feed.work_all()

    assert (handlers.seen, delivery.done) == ([], [])
    assert one.idle.is_set()
    assert not one.has_room


async def test_a_batch_that_is_dropped_while_it_is_handled_is_not_delivered(
    opened, feed, delivery, handlers, failures, take, turns
):
    one = await opened("wait")
    take(one, 1)
    take(one, 2)
    working = asyncio.ensure_future(feed.work())
    await turns()

    one.close()
    handlers.release.set()
    await working

    assert handlers.seen == [1]
    assert (delivery.asked, failures) == ([], [])
    assert feed.given == [([1], 0)]


async def test_a_batch_that_is_dropped_between_two_subscriptions_goes_no_further(
    opened, feed, delivery, handlers, take
):
    one = await opened("double", "negate")
    take(one, 1)
    await feed.work()

    one.close()
    await feed.work()

    assert handlers.seen == [1]
    assert delivery.asked == []


async def test_a_failure_of_a_dropped_batch_is_none(
    opened, feed, delivery, handlers, failures, take, turns, caplog
):
    one = await opened("wait_at_1")
    handlers.retry = Retry(tries=1)
    handlers.failing = {1}
    take(one, 1)
    working = asyncio.ensure_future(feed.work())
    await turns()

    one.close()
    handlers.release.set()
    await working

    assert (delivery.asked, failures, caplog.text) == ([], [], "")


async def test_a_batch_that_is_dropped_while_a_failure_is_waited_for_goes_no_further(
    opened, feed, delivery, handlers, take, turns
):
    one = await opened("fail", "double")
    handlers.retry = Retry(first_delay_seconds=0.05)
    handlers.failing = {1}
    take(one, 1)
    working = asyncio.ensure_future(feed.work())
    await turns()

    one.close()
    await working

    assert (delivery.asked, handlers.seen) == ([], [1])
    assert feed.given == [([1], 0)]


async def test_a_partition_that_is_closed_while_it_delivers_begins_nothing_more(
    opened, feed, delivery, take, turns
):
    one = await opened("double")
    delivery.may_end.clear()
    take(one, 1)
    take(one, 2)
    working = asyncio.ensure_future(feed.work())
    await turns()

    one.close()
    delivery.may_end.set()
    await working

    assert feed.given == [([1], 0)]
    assert one.idle.is_set()
    assert not one.has_room


async def test_a_partition_that_is_closed_while_it_delivers_does_not_go_on_with_the_rest(
    opened, feed, delivery, take, turns, closing_soon, until
):
    one = await opened("block")
    delivery.may_end.clear()
    take(one, 1, 2)
    working = asyncio.ensure_future(feed.work())
    await until(lambda: delivery.asked)

    one.close()
    delivery.may_end.set()
    await working

    assert feed.given == [([1, 2], 0)]
    assert feed.wakes == 0
    assert one.idle.is_set()


async def test_a_partition_that_is_closed_before_it_is_opened_again_is_not(
    opened, feed, delivery, take, turns, steps, monkeypatch
):
    monkeypatch.setattr(partition_module, "FIRST_DELAY_SECONDS", 60.0)
    one = await opened("double")
    delivery.errors.append(DeliveryError("no answer"))
    take(one, 5)
    await feed.work_all()

    one.close()
    await one.end()

    assert steps.count("open") == 1
    assert feed.wakes == 0


async def test_cancelling_an_agent_closes_its_partition_and_passes_on(
    opened, feed, delivery, failures, take, turns
):
    one = await opened("wait")
    take(one, 1)
    working = asyncio.ensure_future(feed.work())
    await turns()

    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working

    assert not one.has_room
    assert one.idle.is_set()
    assert (delivery.asked, failures) == ([], [])


async def test_cancelling_an_agent_that_delivers_closes_its_partition(
    opened, feed, delivery, take, turns
):
    one = await opened("double")
    delivery.may_end.clear()
    take(one, 1)
    working = asyncio.ensure_future(feed.work())
    await turns()

    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working

    assert one.is_closed
    assert one.idle.is_set()


# --- draining


async def test_while_draining_the_batch_in_work_ends_and_nothing_begins(
    opened, feed, delivery, take
):
    one = await opened("double", "negate")
    take(one, 1)
    take(one, 2)

    feed.is_feeding = False
    await feed.work_all()

    assert [found for found, *_ in delivery.done] == [[1]]
    assert one.idle.is_set()


async def test_while_draining_the_rest_of_a_batch_is_left(
    opened, feed, delivery, take, closing_soon
):
    one = await opened("block")
    take(one, 1, 2)

    feed.is_feeding = False
    await feed.work_all()

    assert delivery.done == [([1], 2, [b"[2]"])]
    assert one.idle.is_set()


async def test_while_draining_no_batch_is_begun(opened, feed, take):
    one = await opened("double")

    feed.is_feeding = False
    take(one, 1)

    assert feed.given == []
    assert one.idle.is_set()


# --- several partitions


async def test_functions_of_partitions_take_turns(opened, feed, handlers, take, turns):
    one = await opened("double")
    take(one, 1)

    async with feed.turns:
        working = asyncio.ensure_future(feed.work())
        await turns()
        assert handlers.seen == []

    await working
    assert handlers.seen == [1]


async def test_partitions_proceed_independently(opened, feed, delivery, handlers, take, turns):
    slow, fast = await opened("wait_at_1"), await opened()
    take(slow, 1)
    waiting = asyncio.ensure_future(feed.work())
    await turns()

    take(fast, 5)
    await feed.work()
    assert [position for _, position, _ in delivery.done] == [6]

    handlers.release.set()
    await waiting
    assert [position for _, position, _ in delivery.done] == [6, 2]


# --- topics of others


@pytest.mark.parametrize("is_foreign", [False, True])
async def test_of_a_topic_of_others_neither_partition_nor_time_is_passed_on(
    opened, feed, delivery, take, monkeypatch, is_foreign
):
    one = await opened("double")
    one.topic.foreign = Foreign("orders") if is_foreign else None
    emitted, deliver = [], delivery.deliver

    async def note(batch):
        emitted.extend(batch.emitted)
        await deliver(batch)

    monkeypatch.setattr(delivery, "deliver", note)

    take(one, 1, key=b"k")
    await feed.work_all()

    ((_, key, value, timestamp, inherited),) = emitted
    assert (key, value) == (b"k", b"[2]")
    assert inherited is not is_foreign
    assert (timestamp > 1_000) is is_foreign
