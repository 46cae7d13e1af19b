import asyncio

import pytest

from aiopype import Source, silence
from aiopype.errors import SourceSilent
from aiopype.silence import run_unless_silent
from aiopype.testing.clock import FakeClock


class Feed(Source):
    """Waits for ever, or as `work` says; notes how it goes.

    Attributes:
        steps: `started`, `cancelled`, `ended`.
        tidy: awaited when it is cancelled.
    """

    expect_every = 10.0

    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.steps = []

    async def start(self):
        self.steps.append("started")
        try:
            await self.work()
        except asyncio.CancelledError:
            self.steps.append("cancelled")
            await self.tidy()
            raise
        finally:
            self.steps.append("ended")

    async def work(self):
        await asyncio.get_running_loop().create_future()

    async def tidy(self):
        pass


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def feed(recorder, clock):
    made = Feed("m.feed", recorder)
    made.clock = clock
    return made


@pytest.fixture
async def running(feed, turns):
    """Runs the source; the task of it is cancelled after the test."""
    tasks = []

    async def run():
        tasks.append(asyncio.create_task(run_unless_silent(feed), name="run"))
        await turns()
        return tasks[-1]

    yield run
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_source_without_a_limit_may_be_quiet_for_ever(feed, running, clock):
    feed.expect_every = None
    task = await running()

    await clock.advance(1e9)

    assert not task.done()


async def test_a_source_that_is_quiet_for_too_long_is_cancelled_and_has_failed(
    feed, running, clock
):
    task = await running()
    await clock.advance(9.9)
    assert not task.done()

    await clock.advance(0.2)

    with pytest.raises(SourceSilent, match=r"nothing came for more than 10 s, its `expect_every`"):
        await task
    assert feed.steps == ["started", "cancelled", "ended"]


@pytest.mark.parametrize("sign", ["heard", "emit", "emit_async", "receive", "transaction"])
async def test_each_sign_of_life_counts(feed, running, clock, sign):
    task = await running()

    for _ in range(5):
        await clock.advance(9)
        await give(feed, sign)

    assert not task.done()
    await clock.advance(10)
    assert isinstance(task.exception(), SourceSilent)


async def give(source, sign):
    if sign == "heard":
        source.heard()
    elif sign == "emit":
        source.emit("number", 1)
    elif sign == "emit_async":
        await source.emit_async("number", 1)
    elif sign == "receive":
        source.take = nothing
        await source.receive("raw")
    else:
        async with source.transaction():
            source.emit("number", 1)


async def nothing(_raw):
    pass


@pytest.mark.parametrize("way", ["emit_async", "transaction"])
async def test_a_source_that_waits_for_room_is_not_silent(feed, running, clock, recorder, way):
    room = asyncio.Event()

    async def wait(*_event):
        await room.wait()

    recorder.emit_async = recorder.emit_all = wait
    feed.work = lambda: emit_and_wait(feed, way)
    task = await running()

    await clock.advance(1_000)
    assert not task.done()

    room.set()
    await clock.advance(9.9)
    assert not task.done()
    await clock.advance(20)
    assert isinstance(task.exception(), SourceSilent)


async def emit_and_wait(source, way):
    await give(source, way)
    await asyncio.get_running_loop().create_future()


async def test_a_start_is_no_sign_of_life(feed, running, clock):
    await clock.advance(3)

    await running()

    assert feed.heard_at is None
    assert feed.vitals.began_at == 3


async def test_the_time_begins_when_the_source_starts(feed, running, clock):
    await clock.advance(100)
    task = await running()

    await clock.advance(9.9)

    assert not task.done()


async def test_a_wall_clock_that_is_set_makes_no_source_silent(feed, running, clock):
    task = await running()

    clock.set(clock.time() + 1e6)
    await clock.advance(1)

    assert not task.done()


async def test_a_source_that_ends_has_ended(feed, clock):
    feed.work = lambda: asyncio.sleep(0)

    await run_unless_silent(feed)

    assert feed.steps == ["started", "ended"]
    assert clock.next_due() is None


async def test_what_a_source_raises_is_raised(feed, clock):
    async def work():
        raise LookupError("mine")

    feed.work = work

    with pytest.raises(LookupError, match="mine"):
        await run_unless_silent(feed)
    assert clock.next_due() is None


async def test_a_source_that_ends_well_when_it_is_cancelled_as_silent_has_ended(
    feed, running, clock
):
    async def work():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return

    feed.work = work
    task = await running()

    await clock.advance(10)
    await task


async def test_what_a_silent_source_raises_while_it_ends_is_told_as_the_cause(feed, running, clock):
    async def tidy():
        raise LookupError("untidy")

    feed.tidy = tidy
    task = await running()
    await clock.advance(10)

    with pytest.raises(SourceSilent) as caught:
        await task
    assert isinstance(caught.value.__cause__, LookupError)


# --- a stop from outside


async def test_who_is_stopped_has_stopped_the_source(feed, running):
    task = await running()

    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert feed.steps == ["started", "cancelled", "ended"]


async def test_a_stop_waits_for_the_source_to_tidy_up(feed, running, turns):
    tidied = asyncio.Event()
    feed.tidy = tidied.wait
    task = await running()

    task.cancel()
    await turns()
    assert not task.done()

    tidied.set()
    await asyncio.wait([task])
    assert feed.steps[-1] == "ended"


async def test_what_a_source_raises_while_it_is_stopped_is_raised(feed, running):
    async def tidy():
        raise LookupError("untidy")

    feed.tidy = tidy
    task = await running()
    task.cancel()

    with pytest.raises(LookupError, match="untidy"):
        await task


async def test_a_second_stop_does_not_leave_a_source_that_tidies_up_behind(feed, running, turns):
    async def tidy():
        try:
            await asyncio.get_running_loop().create_future()
        finally:  # it has been told twice, and takes some turns all the same
            await turns()
            assert not task.done()
            feed.steps.append("tidied")

    feed.tidy = tidy
    task = await running()

    task.cancel()
    await turns()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert feed.steps == ["started", "cancelled", "tidied", "ended"]


async def test_a_stop_while_a_silent_source_ends_is_a_stop(feed, running, clock, turns):
    tidied = asyncio.Event()

    async def tidy():
        try:
            await tidied.wait()
        finally:
            await turns()

    feed.tidy = tidy
    task = await running()
    await clock.advance(10)
    assert not task.done()

    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert feed.steps[-1] == "ended"


async def test_a_silent_source_that_does_not_end_is_waited_for_and_told_of(
    feed, running, clock, until, monkeypatch, caplog
):
    monkeypatch.setattr(silence, "STOP_SECONDS", 0.01)
    released = asyncio.Event()
    feed.tidy = released.wait
    task = await running()

    await clock.advance(10)
    await until(lambda: "source m.feed was cancelled and does not end" in caplog.text)
    assert not task.done()

    released.set()
    with pytest.raises(SourceSilent):
        await task
