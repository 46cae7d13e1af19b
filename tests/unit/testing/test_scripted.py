import asyncio

import pytest

from aiopype import SyncProtocol
from aiopype.inputs import RawInput
from aiopype.testing import (
    Crash,
    Crashed,
    Emit,
    End,
    Fail,
    FakeClock,
    Pause,
    Receive,
    ScriptedSource,
    Silence,
)


@pytest.fixture
def source(collector):
    """Builds a source of a script; what it emits is kept in `got`."""

    def make(*script, cls=ScriptedSource):
        protocol = SyncProtocol()
        found = cls("m.source", protocol, list(script))
        sink = collector("m.sink", protocol)
        found.on("n", sink.take)
        found.got = sink.got
        found.clock = FakeClock()
        return found

    return make


async def test_it_goes_through_its_script_and_ends(source):
    found = source(Emit("n", 1), Emit("n", 2, by="two"), Emit("n"))

    await found.start()

    assert found.got == [(1,), ((2,), {"by": "two"}), ()]
    assert found.position == 3


async def test_an_empty_script_is_over_at_once(source):
    await source().start()


async def test_a_failure_is_raised_and_the_next_start_goes_on_behind_it(source):
    found = source(Emit("n", 1), Fail(OSError("no route")), Emit("n", 2))

    with pytest.raises(OSError, match="no route"):
        await found.start()
    assert found.got == [(1,)]

    await found.start()
    assert found.got == [(1,), (2,)]


async def test_two_failures_are_two(source):
    found = source(Fail(OSError("first")), Fail(OSError("second")))

    for text in ("first", "second"):
        with pytest.raises(OSError, match=text):
            await found.start()
    await found.start()


async def test_a_crash_is_an_error_where_nothing_makes_more_of_it(source):
    found = source(Crash(), Emit("n", 1))

    with pytest.raises(Crashed, match="has come to a Crash"):
        await found.start()
    await found.start()

    assert found.got == [(1,)]


async def test_a_pause_is_one_of_its_clock(source):
    found = source(Emit("n", 1), Pause(60), Emit("n", 2))
    run = asyncio.create_task(found.start())

    await found.clock.advance(59)
    assert found.got == [(1,)]
    await found.clock.advance(1)
    assert found.got == [(1,), (2,)]
    await run


async def test_a_silence_lasts_until_it_is_cancelled_and_is_not_entered_again(source):
    found = source(Emit("n", 1), Silence(), Emit("n", 2))
    run = asyncio.create_task(found.start())
    await found.clock.advance(10**6)
    assert not run.done()
    run.cancel()
    await asyncio.wait([run])

    await found.start()

    assert found.got == [(1,), (2,)]


async def test_an_end_is_one_and_what_follows_is_for_the_next_start(source):
    found = source(Emit("n", 1), End(), Emit("n", 2))

    await found.start()
    assert found.got == [(1,)]
    await found.start()
    assert found.got == [(1,), (2,)]


async def test_an_input_goes_through_receive_and_take(source):
    class Doubles(ScriptedSource):
        async def take(self, raw):
            await self.emit_async("n", 2 * int(raw.data))

    found = source(Receive(RawInput("frame", b"21", 0.0)), cls=Doubles)
    taps = []
    found.tap = lambda name, raw: taps.append((name, raw.kind))

    await found.start()

    assert found.got == [(42,)]
    assert taps == [("m.source", "frame")]


async def test_a_step_of_ones_own_is_played(source):
    class Twice:
        async def play(self, source):
            for _ in range(2):
                await source.emit_async("n", "twice")

    found = source(Twice())

    await found.start()

    assert found.got == [("twice",), ("twice",)]
