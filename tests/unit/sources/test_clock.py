import asyncio
import time

import pytest

from aiopype import SyncProtocol
from aiopype.errors import ConfigurationError
from aiopype.sources import TimeSource, clock


class HandMoved:
    """A clock that goes only when it is told to."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
async def ticking(collector, monkeypatch, turns):
    """Starts a source on a hand-moved clock; returns the clock and the ticks so far."""
    monkeypatch.setattr(clock, "LOOK_AGAIN_SECONDS", 0)  # it looks at the clock all the time
    tasks = []

    async def start(interval, now):
        protocol, hand_moved = SyncProtocol(), HandMoved(now)
        source = TimeSource("m.clock", protocol, interval, hand_moved)
        sink = collector("m.sink", protocol)
        source.on("cron", sink.take)
        tasks.append(asyncio.ensure_future(source.start()))
        await turns()

        async def move(to):
            hand_moved.now = to
            await turns()
            return [instant for (instant,) in sink.got]

        return move

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_it_ticks_at_every_multiple_of_the_interval(ticking):
    move = await ticking(interval=10, now=1_003.5)

    assert await move(1_009.999) == []
    assert await move(1_010.0) == [1_010]
    assert await move(1_019.0) == [1_010]
    assert await move(1_020.5) == [1_010, 1_020]


async def test_the_instant_at_which_it_starts_is_not_ticked(ticking):
    move = await ticking(interval=10, now=1_000.0)

    assert await move(1_000.0) == []
    assert await move(1_010.0) == [1_010]


async def test_a_tick_has_the_scheduled_instant_and_not_that_of_its_sending(ticking):
    move = await ticking(interval=60, now=0.0)

    assert await move(61.7) == [60]


async def test_instants_that_passed_meanwhile_are_skipped(ticking):
    move = await ticking(interval=10, now=0.0)

    assert await move(57.0) == [50]
    assert await move(60.0) == [50, 60]


async def test_a_clock_that_is_set_back_ticks_no_instant_again(ticking):
    move = await ticking(interval=10, now=0.0)
    assert await move(20.0) == [20]

    assert await move(5.0) == [20]
    assert await move(20.5) == [20]
    assert await move(30.0) == [20, 30]


async def test_a_clock_that_is_set_back_while_it_ticks_ticks_no_instant_again(
    recorder,
):
    readings = iter([0.0, 10.0, 5.0, 20.0, 20.0])

    def clock():
        try:
            return next(readings)
        except StopIteration:
            raise asyncio.CancelledError from None

    with pytest.raises(asyncio.CancelledError):
        await TimeSource("m.clock", recorder, 10, clock).start()

    assert [value for *_, value in recorder.sent] == [b"[10]", b"[20]"]


async def test_the_ticks_are_whole_numbers(ticking):
    move = await ticking(interval=1, now=0.25)

    (instant,) = await move(1.5)
    assert type(instant) is int


async def test_it_sleeps_no_longer_than_until_the_clock_may_have_been_set(monkeypatch, recorder):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            raise asyncio.CancelledError

    hand_moved = HandMoved(0.0)
    source = TimeSource("m.clock", recorder, 3_600, hand_moved)
    monkeypatch.setattr(asyncio, "sleep", sleep)

    with pytest.raises(asyncio.CancelledError):
        await source.start()

    assert slept == [clock.LOOK_AGAIN_SECONDS] * 3


async def test_it_sleeps_to_the_instant_when_that_is_near(monkeypatch, recorder):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", sleep)

    with pytest.raises(asyncio.CancelledError):
        await TimeSource("m.clock", recorder, 10, HandMoved(9.75)).start()

    assert slept == [0.25]


def test_its_clock_is_the_systems(recorder):
    source = TimeSource("m.clock", recorder, 1)

    assert source._clock is time.time


def test_its_event_has_a_topic_from_the_start(recorder):
    TimeSource("m.clock", recorder, 1)

    assert [topic.name for topic in recorder.graph.topics()] == ["m.clock.cron"]


@pytest.mark.parametrize("interval", [0, -1, 1.5, "60", None, False])
def test_an_interval_that_is_no_whole_number_from_1_on_is_refused(recorder, interval):
    with pytest.raises(ConfigurationError, match=r"'m.clock': interval=.*; give whole seconds"):
        TimeSource("m.clock", recorder, interval)
