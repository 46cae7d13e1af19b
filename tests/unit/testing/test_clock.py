import asyncio
from datetime import UTC, datetime

import pytest

from aiopype.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def sleep(clock):
    """Starts a task that sleeps again and again; returns the times at which it woke up."""
    tasks = []

    def start(*seconds, name=None, woken=None):
        times = [] if woken is None else woken

        async def run():
            for each in seconds:
                await clock.sleep(each)
                times.append(clock.monotonic() if name is None else name)

        tasks.append(asyncio.create_task(run()))
        return times

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_it_stands_still(clock):
    before = clock.time(), clock.monotonic()

    await asyncio.sleep(0.01)

    assert (clock.time(), clock.monotonic()) == before


def test_it_begins_at_a_round_time_or_at_the_given_one(clock):
    assert datetime.fromtimestamp(clock.time(), UTC).isoformat() == "2026-01-01T00:00:00+00:00"
    assert clock.monotonic() == 0
    assert FakeClock(1_000).time() == 1_000


async def test_advancing_moves_both_clocks(clock):
    before = clock.time()

    await clock.advance(1.5)
    await clock.advance(0.5)

    assert (clock.time(), clock.monotonic()) == (before + 2, 2)


async def test_who_sleeps_is_woken_when_it_is_due_and_not_before(clock, sleep):
    woken = sleep(10)

    await clock.advance(9.999)
    assert woken == []
    await clock.advance(0.001)
    assert woken == [10]


async def test_each_runs_on_at_its_own_time_before_the_next_is_woken(clock, sleep):
    ticks = sleep(*[3] * 5)
    other = sleep(7, 7)

    await clock.advance(14)

    assert ticks == [3, 6, 9, 12]
    assert other == [7, 14]


async def test_they_are_woken_in_the_order_of_their_times_then_of_their_calls(clock, sleep):
    woken = []
    for seconds, name in ((5, "e"), (2, "b"), (1, "a"), (2, "c"), (2, "d")):
        sleep(seconds, name=name, woken=woken)
        await asyncio.sleep(0)

    await clock.advance(5)

    assert woken == list("abcde")


async def test_what_one_hands_on_has_run_before_the_next_is_woken(clock, sleep):
    queue, seen = asyncio.Queue(), []

    async def produce():
        await clock.sleep(1)
        await queue.put("made at 1")

    async def consume():
        seen.append((await queue.get(), clock.monotonic()))

    sleep(2)
    tasks = [asyncio.create_task(produce()), asyncio.create_task(consume())]
    await clock.advance(2)

    assert seen == [("made at 1", 1)]
    await asyncio.gather(*tasks)


async def test_a_year_of_minutes_does_not_drift(clock, sleep):
    woken = sleep(*[0.1] * 1_000)

    await clock.advance(100.05)

    assert len(woken) == 1_000
    assert clock.time() == 1_767_225_600 + 100.05


async def test_no_time_lets_others_run(clock):
    ran = []
    task = asyncio.create_task(clock.sleep(0))
    other = asyncio.create_task(asyncio.sleep(0))
    other.add_done_callback(lambda _: ran.append(True))

    await clock.sleep(-5)
    await asyncio.gather(task, other)

    assert ran == [True]
    assert clock.monotonic() == 0


async def test_a_sleeper_that_is_cancelled_is_forgotten(clock):
    task = asyncio.create_task(clock.sleep(5))
    await clock.settle()
    assert clock.next_due() == 5

    task.cancel()
    await asyncio.wait([task])

    assert clock.next_due() is None
    await clock.advance(10)


async def test_the_wall_clock_can_be_set_and_nobody_wakes(clock, sleep):
    woken = sleep(10)
    await clock.advance(4)

    clock.set(0)
    assert (clock.time(), clock.monotonic()) == (0, 4)
    await clock.advance(5)
    assert (clock.time(), woken) == (5, [])
    await clock.advance(1)
    assert woken == [10]


async def test_time_does_not_go_back(clock):
    with pytest.raises(ValueError, match="use set"):
        await clock.advance(-1)


async def test_it_jumps_to_the_next_time_somebody_is_woken(clock, sleep):
    woken = sleep(100, 50)

    assert await clock.jump()
    assert (woken, clock.monotonic()) == ([100], 100)
    assert await clock.jump()
    assert (woken, clock.monotonic()) == ([100, 150], 150)
    assert not await clock.jump()
    assert clock.monotonic() == 150


async def test_it_does_not_jump_when_what_can_run_now_is_enough(clock, sleep):
    ran = []
    sleep(100)
    task = asyncio.create_task(asyncio.sleep(0))
    task.add_done_callback(lambda _: ran.append(True))

    assert not await clock.jump(unless=lambda: ran)
    assert clock.monotonic() == 0


async def test_a_function_is_called_later_unless_it_is_cancelled(clock):
    called = []
    clock.call_later(2, lambda: called.append(clock.monotonic()))
    clock.call_later(1, lambda: called.append("cancelled")).cancel()

    await clock.advance(3)

    assert called == [2]


async def test_a_test_can_wait_until_somebody_sleeps_who_was_elsewhere(clock):
    async def ask_and_sleep():
        await asyncio.to_thread(lambda: None)
        await clock.sleep(30)

    task = asyncio.create_task(ask_and_sleep())
    await clock.asleep()
    await clock.advance(30)
    await task


async def test_waiting_for_sleepers_ends(clock, sleep):
    sleep(5)

    with pytest.raises(TimeoutError):
        await clock.asleep(2, within_seconds=0.01)
