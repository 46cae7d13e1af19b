"""Events of a partition that failed and wait for their next try, beside its batches."""

import asyncio
import json
import logging

import pytest

from aiopype import patience
from aiopype.errors import DeliveryError, OutputRefused, OwnershipLost
from aiopype.retry import Retry
from aiopype.transport import parking as parking_module
from aiopype.transport import partition as partition_module

#: Longer than any test: nothing is tried again by itself.
LONG = Retry(first_delay_seconds=600, last_delay_seconds=600, seconds=10_000)

#: Tried again at once, as often as it takes.
SOON = Retry(first_delay_seconds=0.001, last_delay_seconds=0.001, tries=1_000)


@pytest.fixture(autouse=True)
def no_waiting_in_batches(monkeypatch):
    """What fails waits outside its batch."""
    monkeypatch.setattr(patience, "MOST_SECONDS", 0.0)


@pytest.fixture
def at_once(monkeypatch):
    """Back-offs after deliveries that failed are short."""
    monkeypatch.setattr(partition_module, "FIRST_DELAY_SECONDS", 0.001)


@pytest.fixture
async def waiting(opened, feed, delivery, handlers, take):
    """Makes a partition in which 1 failed, and these of its key wait behind it; 1 is not in work.

    The first of them is tried again when `due` says so.
    """

    async def make(*behind, method="fail", key=b"k"):
        handlers.retry = LONG
        handlers.failing = {1}
        handlers.release.set()
        one = await opened(method)
        take(one, 1, *behind, key=key)
        await feed.work_all()
        handlers.seen.clear()
        delivery.done.clear()
        delivery.asked.clear()
        delivery.entries.clear()
        feed.wakes = 0
        return one

    return make


@pytest.fixture
def due():
    """Makes what waits in a partition due now."""

    def make(one):
        for lanes in one.parking._lanes:
            for lane in lanes.values():
                lane[0].due = 0.0
        one._plan()

    return make


# --- how they come to wait


async def test_an_event_that_fails_waits_and_its_batch_goes_on(
    opened, feed, delivery, handlers, take, store
):
    one = await opened("fail")
    handlers.retry, handlers.failing = LONG, {2}

    take(one, 1, 2, 3)
    await feed.work_all()

    assert delivery.done == [([1, 2, 3], 4, [b"[2]", b"[6]"])]
    assert one.parking.count == 1
    assert one.has_room
    assert one.idle.is_set()


async def test_its_entry_is_in_the_delivery_of_its_batch(
    opened, feed, delivery, handlers, take, store
):
    one = await opened("fail")
    handlers.retry, handlers.failing = LONG, {2}

    take(one, 1, 2, 3)
    await feed.work_all()

    assert delivery.entries == [1]
    assert store.left() == [b"m.handlers.in -> m.handlers.fail 2"]
    assert store.needed == ["m.handlers.in.parked"]


async def test_later_events_of_its_key_wait_behind_it_and_are_not_tried(waiting, feed, take, store):
    one = await waiting(2)

    take(one, 5, 6, key=b"k")
    await feed.work_all()

    assert one.parking.count == 4
    assert [key.split()[-1] for key in store.left()] == [b"1", b"2", b"5", b"6"]


async def test_events_of_other_keys_go_on(waiting, feed, delivery, handlers, take):
    one = await waiting()

    take(one, 5, key=b"other")
    take(one, 6)
    await feed.work_all()

    assert [outputs for *_, outputs in delivery.done] == [[b"[10]"], [b"[12]"]]
    assert handlers.seen == [5, 6]


async def test_events_without_a_key_wait_alone(waiting, feed, delivery, take):
    one = await waiting(key=None)

    take(one, 5)
    await feed.work_all()

    assert delivery.done == [([5], 6, [b"[10]"])]
    assert one.parking.count == 1


async def test_each_subscription_has_waiting_events_of_its_own(
    opened, feed, delivery, handlers, take, store
):
    one = await opened("double", "fail")
    handlers.retry, handlers.failing = LONG, {1}

    take(one, 1, key=b"k")
    take(one, 2, key=b"k")
    await feed.work_all()

    assert [outputs for *_, outputs in delivery.done] == [[b"[2]"], [b"[4]"]]
    assert store.left() == [
        b"m.handlers.in -> m.handlers.fail 1",
        b"m.handlers.in -> m.handlers.fail 2",
    ]


async def test_what_was_not_delivered_does_not_wait(
    opened, feed, delivery, handlers, take, store, at_once, until
):
    one = await opened("fail")
    handlers.retry, handlers.failing = LONG, {1}
    delivery.errors.append(DeliveryError("no answer"))

    take(one, 1)
    await feed.work_all()
    await until(lambda: one.has_room)

    assert one.parking.count == 0
    assert store.left() == []


async def test_what_a_dropped_batch_had_does_not_wait(
    opened, feed, delivery, handlers, take, turns
):
    one = await opened("fail")
    handlers.retry, handlers.failing = LONG, {1}
    delivery.may_end.clear()
    take(one, 1)
    working = asyncio.ensure_future(feed.work())
    await turns()

    delivery.errors.append(OwnershipLost("another owns it"))
    delivery.may_end.set()
    await working

    assert one.parking.count == 0


# --- how they are tried again


async def test_an_event_that_is_due_is_tried_again_by_itself(
    opened, feed, delivery, handlers, take, store, until
):
    one = await opened("pass_later")
    handlers.retry, handlers.failing = SOON, {2}

    take(one, 1, 2, 3)
    await feed.work_all()
    await until(lambda: one.parking.count == 0)

    assert delivery.done == [([1, 2, 3], 4, [b"[2]", b"[6]"]), ([2], None, [b"[4]"])]
    assert store.left() == []


async def test_it_is_tried_again_by_itself_as_often_as_it_takes(
    opened, feed, delivery, handlers, take, store, until
):
    one = await opened("fail")
    handlers.retry, handlers.failing = SOON, {1}

    take(one, 1)
    await feed.work_all()
    await until(lambda: handlers.seen.count(1) >= 4)
    handlers.failing.clear()
    await until(lambda: one.parking.count == 0)

    assert delivery.done[-1] == ([1], None, [b"[2]"])
    assert store.left() == []


async def test_what_is_being_tried_is_not_tried_a_second_time(waiting, handlers, due, until, turns):
    one = await waiting(method="wait_at_1")
    handlers.failing.clear()
    handlers.release.clear()
    due(one)
    await until(lambda: one.busy_since is not None)

    one._try_waiting()  # as a timer would
    await turns()
    handlers.release.set()
    await until(lambda: one.parking.count == 0)

    assert handlers.seen == [1]


async def test_nothing_is_waited_for_within_a_try(
    waiting, delivery, handlers, due, until, monkeypatch
):
    one = await waiting()
    monkeypatch.setattr(patience, "MOST_SECONDS", 1.0)
    one._patience.lose(-1.0)  # a second is saved up
    handlers.retry = Retry(first_delay_seconds=0.2)

    due(one)
    await until(lambda: delivery.done)

    assert handlers.seen == [1]


async def test_its_outputs_and_the_removal_of_its_entry_are_one_delivery(
    waiting, delivery, handlers, due, store, until
):
    one = await waiting()
    handlers.failing.clear()

    due(one)
    await until(lambda: one.parking.count == 0)

    assert delivery.done == [([1], None, [b"[2]"])]
    assert delivery.entries == [1]
    assert store.left() == []


async def test_those_behind_it_come_out_in_order_after_it(
    waiting, feed, delivery, handlers, take, due, store, until
):
    one = await waiting(2)
    take(one, 5, 6, key=b"k")
    await feed.work_all()
    delivery.done.clear()
    handlers.failing.clear()

    due(one)
    await until(lambda: one.parking.count == 0)

    assert handlers.seen == [1, 2, 5, 6]
    assert delivery.done == [([1, 2, 5, 6], None, [b"[2]", b"[4]", b"[10]", b"[12]"])]
    assert store.left() == []


async def test_those_behind_it_stay_there_when_it_fails_again(
    waiting, delivery, handlers, due, store, until
):
    one = await waiting(2)

    due(one)
    await until(lambda: delivery.done and one.idle.is_set())

    assert handlers.seen == [1]
    assert one.parking.count == 2
    assert [key.split()[-1] for key in store.left()] == [b"2", b"1"]  # 1 was written again
    assert delivery.entries == [1]


async def test_the_next_try_counts_on(waiting, delivery, due, until, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Retry, "delay", lambda self, error, tries, waited: seen.append((tries, waited >= 0)) or 600
    )
    one = await waiting()

    for _ in range(3):
        delivery.done.clear()
        due(one)
        await until(lambda: delivery.done and one.idle.is_set())

    # Asked twice a failure: whether it holds its key, with 1, and how long it waits.
    assert [tries for tries, _ in seen][1::2] == [1, 2, 3, 4]
    assert all(is_after for _, is_after in seen)


async def test_those_behind_a_dead_letter_are_handled(
    waiting, delivery, handlers, due, store, until
):
    one = await waiting(2, 3)
    handlers.retry = Retry(tries=2)

    due(one)
    await until(lambda: one.parking.count == 0)

    ((offsets, position, outputs),) = delivery.done
    assert (offsets, position) == ([1, 2, 3], None)
    letter, *others = sorted(outputs, reverse=True)
    assert json.loads(letter)["message"] == "number 1"
    assert json.loads(letter)["tries"] == 2
    assert others == [b"[6]", b"[4]"]
    assert handlers.seen == [1, 2, 3]
    assert store.left() == []


async def test_a_failure_behind_a_dead_letter_waits_as_the_first(
    waiting, delivery, handlers, due, store, until
):
    one = await waiting(2, 3)
    handlers.retry = Retry(tries=2, first_delay_seconds=50)
    handlers.failing = {1, 2}

    due(one)
    await until(lambda: delivery.done and one.idle.is_set())

    assert handlers.seen == [1, 2]
    assert [attempt.record.offset for attempt in one.parking._lanes[0][b"k"]] == [2, 3]
    assert sorted(key.split()[-1] for key in store.left()) == [b"2", b"3"]


async def test_batches_go_on_beside_a_try(
    waiting, feed, delivery, handlers, take, due, until, turns
):
    one = await waiting(method="wait_at_1")
    handlers.failing.clear()
    handlers.release.clear()
    due(one)
    await until(lambda: one._trying is not None)
    await turns()

    take(one, 5, key=b"other")
    await feed.work_all()
    assert delivery.done == [([5], 6, [b"[10]"])]
    assert not one.idle.is_set()

    handlers.release.set()
    await until(one.idle.is_set)
    assert delivery.done[1:] == [([1], None, [b"[2]"])]


async def test_an_event_that_was_held_by_one_that_passed_meanwhile_is_tried_next(
    waiting, feed, delivery, handlers, take, record, due, until, turns
):
    one = await waiting(method="wait_at_1")
    handlers.failing.clear()
    delivery.may_end.clear()
    take(one, 5, key=b"k")
    working = asyncio.ensure_future(feed.work())  # holds 5, and waits for its delivery
    await until(lambda: delivery.asked)
    due(one)
    await until(lambda: handlers.seen == [1])

    delivery.may_end.set()
    await working
    await until(lambda: one.parking.count == 0)

    assert handlers.seen == [1, 5]
    assert [outputs for *_, outputs in delivery.done] == [[], [b"[2]"], [b"[10]"]]


async def test_a_second_delivery_waits_for_the_first(
    waiting, feed, delivery, handlers, take, due, until, turns
):
    one = await waiting()
    handlers.failing.clear()
    delivery.may_end.clear()
    take(one, 5)
    working = asyncio.ensure_future(feed.work())
    await until(lambda: delivery.asked)

    due(one)
    await until(lambda: handlers.seen == [5, 1])
    await turns()
    assert delivery.asked == [[5]]

    delivery.may_end.set()
    await working
    await until(lambda: one.parking.count == 0)
    assert delivery.asked == [[5], [1]]


async def test_a_try_makes_the_partition_busy(waiting, handlers, due, until):
    one = await waiting(method="wait_at_1")
    handlers.release.clear()
    assert one.busy_since is None

    due(one)
    await until(lambda: one.busy_since is not None)

    handlers.release.set()
    await until(one.idle.is_set)
    assert one.busy_since is None


# --- the room for them


async def test_a_partition_with_too_many_is_not_fetched_until_some_are_over(
    waiting, feed, handlers, take, due, until, monkeypatch
):
    monkeypatch.setattr(parking_module, "ROOM_EVENTS", 2)
    one = await waiting()
    assert one.has_room

    take(one, 2, key=b"k")
    await feed.work_all()
    assert not one.has_room

    feed.wakes = 0
    handlers.failing.clear()
    due(one)
    await until(lambda: one.has_room)
    assert feed.wakes > 0


async def test_a_partition_with_too_many_is_not_fetched_after_it_is_opened_either(
    waiting, partition, feed, until, monkeypatch
):
    await waiting(2)
    monkeypatch.setattr(parking_module, "ROOM_EVENTS", 2)

    again = partition()
    again.open()
    await until(lambda: feed.wakes > 0)

    assert not again.has_room


# --- deliveries of tries that did not succeed


async def test_after_a_try_that_was_not_delivered_the_partition_is_opened_again(
    waiting, delivery, handlers, due, steps, store, at_once, until, caplog
):
    one = await waiting(2)
    handlers.failing.clear()
    delivery.errors.append(DeliveryError("no answer"))

    due(one)
    await until(lambda: steps.count("open") == 2 and one.has_room)
    assert [key.split()[-1] for key in store.left()] == [b"1", b"2"]
    assert one.parking.count == 2
    assert "m.handlers.in[3]: no answer; 2 events are handled again" in caplog.text

    due(one)
    await until(lambda: one.parking.count == 0)
    assert delivery.done == [([1, 2], None, [b"[2]", b"[4]"])]
    assert store.left() == []


async def test_what_was_written_although_its_batch_is_handled_again_waits_once(
    opened, feed, delivery, handlers, take, store, at_once, until, monkeypatch
):
    # As at least once has it: the entries are there, the offset is not.
    one = await opened("fail")
    handlers.retry, handlers.failing = Retry(tries=3, first_delay_seconds=0.001), {1}
    deliver = delivery.deliver

    async def deliver_without_an_answer(batch):
        delivery.deliver = deliver
        await deliver(batch)
        raise DeliveryError("no answer")

    delivery.deliver = deliver_without_an_answer
    take(one, 1, key=b"k")
    await feed.work_all()
    await until(lambda: one.has_room)
    take(one, 1, 2, key=b"k")
    await feed.work_all()

    await until(lambda: one.parking.count == 0)
    assert handlers.seen.count(1) == 3
    assert handlers.seen[-1] == 2
    assert store.left() == []


async def test_with_a_try_that_was_not_delivered_the_batch_in_work_is_dropped(
    waiting, feed, delivery, handlers, take, due, steps, at_once, until, turns
):
    one = await waiting(method="wait_at_1")
    handlers.failing.clear()
    take(one, 5)
    take(one, 6)
    delivery.errors.append(DeliveryError("no answer"))

    due(one)
    await until(lambda: steps.count("open") == 2 and one.has_room)
    await feed.work_all()

    assert (5 in handlers.seen, 6 in handlers.seen) == (False, False)
    assert delivery.asked == [[1]]


async def test_a_try_that_was_under_way_when_the_partition_was_opened_again_is_delivered_once(
    waiting, feed, delivery, handlers, take, due, steps, store, at_once, until
):
    one = await waiting(method="wait_at_1")
    handlers.failing.clear()
    handlers.release.clear()
    due(one)
    await until(lambda: one.busy_since is not None)
    delivery.errors.append(DeliveryError("no answer"))
    take(one, 5)
    await feed.work_all()
    await until(lambda: steps.count("open") == 2 and one.has_room)

    handlers.release.set()
    await until(lambda: one.parking.count == 0)
    await until(one.idle.is_set)

    assert delivery.done == [([1], None, [b"[2]"])]
    assert store.left() == []


async def test_a_try_that_ends_while_the_partition_is_not_open_is_dropped(
    waiting, feed, delivery, handlers, take, due, until, monkeypatch
):
    monkeypatch.setattr(partition_module, "FIRST_DELAY_SECONDS", 60.0)
    one = await waiting(method="wait_at_1")
    handlers.failing.clear()
    handlers.release.clear()
    due(one)
    await until(lambda: one.busy_since is not None)
    delivery.errors.append(DeliveryError("no answer"))
    take(one, 5)
    await feed.work_all()

    handlers.release.set()
    await until(one.idle.is_set)

    assert handlers.seen == [5, 1]
    assert delivery.asked == [[5]]


async def test_a_partition_that_is_lost_at_a_try_is_closed_and_no_failure(
    waiting, delivery, handlers, due, failures, until
):
    one = await waiting()
    handlers.failing.clear()
    delivery.errors.append(OwnershipLost("another owns it"))

    due(one)
    await until(lambda: one.is_closed)
    await one.end()

    assert (delivery.done, failures) == ([], [])
    assert one.idle.is_set()


async def test_an_output_of_a_try_that_is_refused_closes_the_partition_and_is_reported(
    waiting, delivery, handlers, due, failures, until
):
    one = await waiting()
    handlers.failing.clear()
    refusal = OutputRefused("too large")
    delivery.errors.append(refusal)

    due(one)
    await until(lambda: failures)

    assert failures == [(refusal, "an output of m.handlers.in[3] cannot be written: too large")]
    assert one.is_closed


async def test_an_error_of_a_try_that_nobody_foresaw_closes_the_partition_and_is_reported(
    waiting, delivery, handlers, due, failures, until
):
    one = await waiting()
    delivery.errors.append(LookupError("what is this"))

    due(one)
    await until(lambda: failures)

    ((_, what),) = failures
    assert what == "try again m.handlers.in[3]: LookupError('what is this')"
    assert one.is_closed


# --- closing and draining


async def test_nothing_of_a_closed_partition_is_tried(waiting, handlers, turns):
    one = await waiting()

    one.close()
    one._try_waiting()  # as a timer that was about to fire
    await turns()

    assert handlers.seen == []
    assert one._timer.cancelled()


@pytest.mark.parametrize("step", ["handling", "delivering"])
async def test_nothing_of_a_closed_partition_is_delivered(
    waiting, delivery, handlers, due, until, turns, step
):
    one = await waiting(method="wait_at_1")
    handlers.failing.clear()
    held = handlers.release if step == "handling" else delivery.may_end
    held.clear()
    due(one)
    await until(lambda: one.busy_since is not None)
    await turns()

    one.close()
    assert one.idle.is_set()
    await one.end()
    held.set()
    await turns()

    assert delivery.done == []
    assert one.busy_since is None
    assert one.idle.is_set()


async def test_a_try_that_waited_for_a_delivery_is_not_delivered_after_the_close(
    waiting, feed, delivery, handlers, take, due, until
):
    one = await waiting()
    handlers.failing.clear()
    delivery.may_end.clear()
    take(one, 5)
    working = asyncio.ensure_future(feed.work())
    await until(lambda: delivery.asked)
    due(one)
    await until(lambda: 1 in handlers.seen)

    one.close()
    await one.end()
    delivery.may_end.set()
    await working

    assert delivery.asked == [[5]]


async def test_while_draining_nothing_is_tried(waiting, feed, handlers, due, turns):
    one = await waiting()

    feed.is_feeding = False
    due(one)
    one._try_waiting()
    await turns()

    assert handlers.seen == []
    assert one.idle.is_set()


async def test_a_partition_is_drained_when_the_try_under_way_has_ended(
    waiting, feed, delivery, handlers, due, until, turns
):
    one = await waiting(method="wait_at_1")
    handlers.failing.clear()
    handlers.release.clear()
    due(one)
    await until(lambda: one.busy_since is not None)

    feed.is_feeding = False
    await turns()
    assert not one.idle.is_set()

    handlers.release.set()
    await until(one.idle.is_set)
    assert delivery.done == [([1], None, [b"[2]"])]


# --- another worker, or a restart


async def test_whoever_opens_the_partition_next_goes_on_with_what_waits(
    waiting, partition, delivery, handlers, due, store, until
):
    first = await waiting(2, 3)
    first.close()
    await first.end()
    handlers.failing.clear()

    second = partition()
    second.open()
    await until(lambda: second.has_room)
    due(second)
    await until(lambda: second.parking.count == 0)

    assert delivery.done == [([1, 2, 3], None, [b"[2]", b"[4]", b"[6]"])]
    assert store.left() == []


async def test_what_is_due_is_tried_as_soon_as_the_partition_is_open(
    opened, partition, feed, delivery, handlers, take, store, until
):
    handlers.retry, handlers.failing = SOON, {1}
    first = await opened("fail")
    take(first, 1)
    await feed.work()
    first.close()
    await first.end()
    handlers.failing.clear()

    second = partition()
    second.open()

    await until(lambda: delivery.done[-1] == ([1], None, [b"[2]"]))


async def test_keys_of_events_that_wait_are_held_after_a_restart(
    waiting, partition, feed, delivery, handlers, take, until
):
    first = await waiting()
    first.close()

    second = partition()
    second.open()
    await until(lambda: second.has_room)
    take(second, 5, key=b"k")
    await feed.work_all()

    assert handlers.seen == []
    assert second.parking.count == 2


async def test_a_dead_letter_after_a_restart_counts_the_tries_before_it(
    waiting, partition, delivery, handlers, due, until, caplog
):
    caplog.set_level(logging.WARNING)
    first = await waiting()
    first.close()
    handlers.retry = Retry(tries=2)

    second = partition()
    second.open()
    await until(lambda: second.has_room)
    due(second)
    await until(lambda: second.parking.count == 0)

    ((_, _, (letter,)),) = delivery.done
    assert json.loads(letter)["tries"] == 2
    assert "tried 2 times, the event of m.handlers.in[3] offset 1 is a dead letter" in caplog.text
