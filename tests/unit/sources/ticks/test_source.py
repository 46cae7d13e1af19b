import asyncio
import contextlib

import pytest

from aiopype import SyncProtocol
from aiopype.errors import CircuitOpen, PermanentError, StateCorrupt, TemporaryError
from aiopype.inputs import RawInput
from aiopype.sources.ticks import TickingSource, TickOptions, source
from aiopype.sources.ticks.schedule import Interval, Span

TEN = Interval(10)


@pytest.fixture
def make(collector):
    """Makes a source and its sink; `sink.instants` are the ticks so far."""

    def make_source(cls=TickingSource, schedule=TEN, position=None, **options):
        protocol = SyncProtocol()
        made = cls("m.clock", protocol, schedule, TickOptions(**options))
        made.sink = collector("m.sink", protocol)
        made.on("cron", made.sink.take)
        if position is not None:
            protocol.checkpoint("m.clock", position)
            asyncio.get_running_loop().create_task(protocol.flush("m.clock"))
        return made

    return make_source


def ticks(made):
    return [instant for (instant,) in made.sink.got]


# --- instants


async def test_it_ticks_when_an_instant_is_due(make, ticking):
    made = make()
    move = await ticking(made, 1_003.5)

    await move(1_009.999)
    assert ticks(made) == []
    await move(1_010.0)
    assert ticks(made) == [1_010]
    await move(1_019.0)
    assert ticks(made) == [1_010]
    await move(1_020.5)
    assert ticks(made) == [1_010, 1_020]


async def test_the_instant_at_which_it_starts_for_the_first_time_is_not_ticked(make, ticking):
    made = make()
    move = await ticking(made, 1_000.0)

    assert ticks(made) == []
    await move(1_010.0)
    assert ticks(made) == [1_010]


async def test_a_tick_has_the_scheduled_instant_and_not_that_of_its_sending(make, ticking):
    made = make()
    move = await ticking(made, 1_000.0)

    await move(1_011.7)

    assert ticks(made) == [1_010]
    assert type(ticks(made)[0]) is int


async def test_where_it_started_is_durable_before_its_first_tick(make, ticking):
    made = make()
    await ticking(made, 1_003.5)

    assert made.handler.position("m.clock") == b"1003"


async def test_the_position_is_the_last_instant(make, ticking):
    made = make()
    move = await ticking(made, 1_000.0)
    await move(1_020.5)

    assert made.position == 1_020


async def test_the_position_is_durable_together_with_its_tick(make, ticking, collector):
    class Looking(collector):
        def take(self, _instant):
            self.got.append(self.handler._positions["m.clock"])

    made = make()
    looking = Looking("m.looking", made.handler)
    made.on("cron", looking.take)
    move = await ticking(made, 1_000.0)
    await move(1_010.0)

    assert looking.got == [b"1000"]
    assert made.handler._positions["m.clock"] == b"1010"


async def test_started_again_it_goes_on_after_the_last_instant(make, ticking):
    made = make(position=b"1010")
    move = await ticking(made, 1_010.0)

    await move(1_020.0)

    assert ticks(made) == [1_020]


async def test_it_ends_with_its_schedule(make, ticking):
    made = make(schedule=Span(10, 10, 25))
    move = await ticking(made, 0.0)

    await move(30.0)

    assert ticks(made) == [10, 20]
    await move.task


async def test_a_position_of_another_kind_of_source_fails_it(make):
    made = make()
    made.handler.checkpoint("m.clock", b'"cursor"')

    with pytest.raises(StateCorrupt, match=r"'m.clock'"):
        await made.start()


# --- the clock


async def test_it_sleeps_no_longer_than_until_the_clock_may_have_been_set(make, ticking):
    made = make(schedule=Interval(3_600))
    move = await ticking(made, 0.0)
    await move(10.0)

    assert made.clock.slept == [source.LOOK_AGAIN_SECONDS] * 2


async def test_it_sleeps_to_the_instant_when_that_is_near(make, ticking):
    made = make()
    await ticking(made, 9.75)

    assert made.clock.slept == [0.25]


async def test_a_clock_that_is_set_back_ticks_no_instant_again(make, ticking, caplog):
    made = make()
    move = await ticking(made, 0.0)
    await move(20.0)
    assert ticks(made) == [10, 20]

    await move(5.0)
    await move(10.5)
    await move(20.5)
    assert ticks(made) == [10, 20]
    (line,) = caplog.messages
    assert line == (
        "the clock shows 1970-01-01 00:00:05Z, and instants up to 1970-01-01 00:00:20Z are ticked "
        "already: it was set back, or was ahead before; the next tick is at 1970-01-01 00:00:30Z"
    )
    await move(30.0)
    assert ticks(made) == [10, 20, 30]


async def test_another_workers_clock_that_is_a_little_behind_is_no_trouble(make, ticking, caplog):
    made = make(position=b"1010")
    move = await ticking(made, 1_008.0)
    await move(1_012.0)

    assert ticks(made) == []
    assert caplog.messages == []


# --- missed instants


async def test_what_is_late_but_not_too_late_is_ticked_whatever_the_policy(make, ticking, caplog):
    made = make(position=b"1000", missed="skip", grace_seconds=30)
    await ticking(made, 1_040.0)

    assert ticks(made) == [1_010, 1_020, 1_030, 1_040]
    assert caplog.messages == []


POLICIES = [
    # Of 1010 to 1040, at 1045 with 10 seconds of grace, 1040 is in time.
    ("skip", 1_045.0, [1_040], "they are left out"),
    ("one", 1_045.0, [1_040], "the next one, which is in time, makes up for them"),
    ("all", 1_045.0, [1_010, 1_020, 1_030, 1_040], "these are ticked now"),
]


@pytest.mark.parametrize(("missed", "now", "expected", "done"), POLICIES)
async def test_missed_instants_follow_the_policy(
    make, ticking, caplog, missed, now, expected, done
):
    made = make(position=b"1000", missed=missed, grace_seconds=10)
    await ticking(made, now)

    assert ticks(made) == expected
    (line,) = caplog.messages
    assert line == (
        f"instants were missed: 3, from 1970-01-01 00:16:50Z to 1970-01-01 00:17:10Z; "
        f"missed is {missed!r}: {done}"
    )


async def test_missed_instants_without_one_in_time_are_made_up_for_by_the_last(
    make, ticking, caplog
):
    made = make(position=b"1000", grace_seconds=4)
    move = await ticking(made, 1_045.0)

    assert ticks(made) == [1_040]
    assert "instants were missed: 4, " in caplog.text
    assert "missed is 'one': the last one is ticked now" in caplog.text
    await move(1_050.0)
    assert ticks(made) == [1_040, 1_050]


async def test_a_clock_that_is_set_forward_misses_what_it_skips(make, ticking, caplog):
    made = make()
    move = await ticking(made, 1_000.0)
    await move(4_605.0)
    assert ticks(made) == [4_550, 4_560, 4_570, 4_580, 4_590, 4_600]
    assert "instants were missed: 354, " in caplog.text

    await move(1_005.0)
    await move(4_605.0)
    await move(4_610.0)
    assert ticks(made)[-2:] == [4_600, 4_610]


async def test_instants_that_were_left_out_stay_left_out_where_it_runs_next(make, ticking):
    made = make(position=b"1000", missed="skip", grace_seconds=4)
    await ticking(made, 1_045.0)
    assert ticks(made) == []
    assert made.handler._positions["m.clock"] == b"1040"


async def test_of_too_many_missed_instants_the_last_are_ticked(make, ticking, caplog):
    made = make(position=b"1000", missed="all", missed_limit=2, grace_seconds=4)
    await ticking(made, 1_045.0)

    assert ticks(made) == [1_030, 1_040]
    assert caplog.messages == [
        "instants were missed: 2, from 1970-01-01 00:17:10Z to 1970-01-01 00:17:20Z, and earlier "
        "ones, which are left out; missed is 'all': these are ticked now"
    ]


async def test_a_catch_up_lets_others_run(make, ticking):
    made = make(position=b"1000", missed="all", grace_seconds=1)
    await ticking(made, 3_005.0)

    # `ticking` gives the loop 20 turns; two hundred ticks want more of them.
    assert 0 < len(ticks(made)) < 100


async def test_ticks_are_paced(make, ticking, monkeypatch):
    made = make(position=b"1000", rate_limit=5.0)
    paced = []

    async def pace():
        paced.append(len(made.sink.got))

    monkeypatch.setattr(made, "pace", pace)
    await ticking(made, 1_020.0)

    assert paced == [0, 1]
    assert made.rate_limit == 5.0


# --- inputs


async def test_a_tick_is_an_input_that_can_be_played_again(make, ticking):
    made = make()
    tapped = []
    made.tap = lambda name, raw: tapped.append((name, raw))
    move = await ticking(made, 1_000.0)
    await move(1_010.5)
    assert tapped == [("m.clock", RawInput("tick", b"1010", 1_010.5))]

    again = make()
    await again.take(tapped[0][1])
    assert ticks(again) == ticks(made) == [1_010]
    assert again.position == 1_010


async def test_its_expect_every_is_that_of_the_options(make):
    assert make(expect_every=90.0).expect_every == 90.0


# --- run


class Working(TickingSource):
    """Works on each instant, as its tests tell it: `errors` are raised first."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.errors = []
        self.began = []

    async def run(self, instant):
        self.began.append(instant)
        await self.emit_async("cron", instant)
        self.emit("cron", -instant)
        if self.errors:
            raise self.errors.pop(0)


async def test_what_a_run_emits_is_written_when_it_has_ended_well(make, ticking):
    made = make(Working)
    move = await ticking(made, 1_000.0)
    await move(1_010.0)

    assert ticks(made) == [1_010, -1_010]
    assert made.handler._positions["m.clock"] == b"1010"


async def test_a_run_that_fails_is_done_again_and_leaves_nothing_of_its_first_try(
    make, ticking, caplog
):
    made = make(Working)
    made.errors = [OSError("no answer")]
    move = await ticking(made, 1_000.0)
    await move(1_010.0)
    assert ticks(made) == []
    assert made.position == 1_000
    assert "the run of 1970-01-01 00:16:50Z: OSError: no answer; again in" in caplog.text
    assert 0.8 <= made.clock.slept[-1] <= 1.2

    await move(1_011.0)
    assert made.began == [1_010, 1_010]
    assert ticks(made) == [1_010, -1_010]
    assert made.position == 1_010


async def test_a_temporary_error_says_how_long_to_wait(make, ticking):
    made = make(Working)
    made.errors = [TemporaryError(30)]
    move = await ticking(made, 1_000.0)
    await move(1_010.0)

    assert 30.0 in made.clock.slept


async def test_a_permanent_error_gives_the_instant_up(make, ticking, collector):
    made = make(Working)
    made.errors = [PermanentError("never")]
    letters = collector("m.letters", made.handler)
    made.on("error", letters.take)
    move = await ticking(made, 1_000.0)
    await move(1_010.0)
    assert ticks(made) == []
    assert made.position == 1_010
    ((letter,),) = letters.got
    assert (letter["component"], letter["message"]) == ("m.clock", "never")

    await move(1_020.0)
    assert ticks(made) == [1_020, -1_020]


async def test_too_many_errors_in_a_row_open_the_circuit(make, ticking):
    made = make(Working, exception_threshold=2)
    made.errors = [OSError("no"), OSError("still no")]
    move = await ticking(made, 1_000.0)
    await move(1_010.0)
    await move(1_012.0)

    with pytest.raises(CircuitOpen, match="2 errors in a row, the last: OSError: still no") as info:
        await move.task
    assert isinstance(info.value.__cause__, OSError)
    assert made.position == 1_000


async def test_a_run_that_goes_well_ends_the_row_of_errors(make, ticking):
    made = make(Working, exception_threshold=2)
    move = await ticking(made, 1_000.0)
    for instant in range(1_010, 1_040, 10):
        made.errors = [OSError("no")]
        await move(instant)
        await move(instant + 2)

    assert ticks(made)[-1] == -1_030


async def test_a_run_that_takes_too_long_is_cancelled_and_has_failed(make, ticking, until, caplog):
    class Hanging(Working):
        async def run(self, instant):
            await super().run(instant)
            if len(self.began) == 1:
                await asyncio.sleep(3_600)

    made = make(Hanging, run_seconds=0.01)
    move = await ticking(made, 1_000.0)
    await move(1_010.0)

    await until(lambda: "took longer than 0.01 s, its `run_seconds`" in caplog.text)
    await move(1_012.0)
    assert ticks(made) == [1_010, -1_010]


async def test_a_run_without_events_is_durable_when_it_has_ended(make, ticking):
    class Silent(TickingSource):
        async def run(self, instant):
            pass

    made = make(Silent)
    move = await ticking(made, 1_000.0)
    await move(1_010.0)

    assert made.handler._positions["m.clock"] == b"1010"


async def test_a_cancelled_source_cancels_its_run(make, ticking):
    ended = []

    class Hanging(TickingSource):
        async def run(self, instant):
            try:
                await asyncio.sleep(3_600)
            finally:
                ended.append(instant)

    made = make(Hanging)
    move = await ticking(made, 1_000.0)
    await move(1_010.0)
    move.task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await move.task
    assert ended == [1_010]
    assert made.position == 1_000


# --- runs that overlap


class Slow(TickingSource):
    """Works on each instant until its test says that it is over."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.began = []
        self.over = {}

    async def run(self, instant):
        self.began.append(instant)
        await self.over.setdefault(instant, asyncio.Event()).wait()
        await self.emit_async("cron", instant)


async def end(made, move, instant):
    made.over[instant].set()
    await move(made.clock.now)


async def run_over(made, ticking, *moves):
    move = await ticking(made, 1_000.0)
    for now in moves or (1_010.0, 1_020.0, 1_030.0):
        await move(now)
    return move


async def test_with_skip_instants_that_fall_into_a_run_are_made_up_for_by_the_last(
    make, ticking, caplog
):
    made = make(Slow)
    move = await run_over(made, ticking)
    assert made.began == [1_010]

    await end(made, move, 1_010)
    assert made.began == [1_010, 1_030]
    assert caplog.messages == [
        "instants came while the run of 1970-01-01 00:16:50Z was not over: 1 are left out, the "
        "last one 1970-01-01 00:17:00Z; overlap is 'skip', missed is 'one'"
    ]
    assert made.position == 1_029
    await end(made, move, 1_030)
    assert ticks(made) == [1_010, 1_030]
    assert made.position == 1_030


async def test_with_skip_and_skip_they_are_left_out(make, ticking, caplog):
    made = make(Slow, missed="skip")
    move = await run_over(made, ticking)

    await end(made, move, 1_010)
    assert made.began == [1_010]
    assert "was not over: 2 are left out" in caplog.text
    assert made.position == 1_030
    await move(1_040.0)
    assert made.began == [1_010, 1_040]


@pytest.mark.parametrize(
    "options", [{"missed": "all"}, {"overlap": "queue"}, {"overlap": "queue", "missed": "skip"}]
)
async def test_with_queue_they_wait(make, ticking, options, caplog):
    made = make(Slow, **options)
    move = await run_over(made, ticking)
    assert made.began == [1_010]

    for instant in (1_010, 1_020, 1_030):
        await end(made, move, instant)
        assert made.position == (1_030 if instant == 1_030 else instant + 9)
    assert ticks(made) == [1_010, 1_020, 1_030]
    assert caplog.messages == []


async def test_a_queue_that_is_full_is_not_added_to(make, ticking):
    made = make(Slow, overlap="queue", missed_limit=1, missed="skip", grace_seconds=5)
    move = await run_over(made, ticking, 1_010.0, 1_020.0, 1_030.0, 1_040.0, 1_050.0)
    assert made.began == [1_010]

    await end(made, move, 1_010)
    await end(made, move, 1_020)
    await end(made, move, 1_030)
    # 1030 was waited with; 1040 was missed meanwhile, 1050 is in time.
    assert made.began == [1_010, 1_020, 1_030, 1_050]


async def test_with_allow_they_run_beside_each_other(make, ticking):
    made = make(Slow, overlap="allow")
    move = await run_over(made, ticking)
    assert made.began == [1_010, 1_020, 1_030]

    await end(made, move, 1_020)
    assert ticks(made) == [1_020]
    assert made.position == [1_030, 1_010, 1_030]
    await end(made, move, 1_010)
    assert made.position == [1_030, 1_030]
    await end(made, move, 1_030)
    assert made.position == 1_030


async def test_with_allow_so_many_run_from_the_first_that_is_not_over(make, ticking):
    made = make(Slow, overlap="allow", concurrency=2)
    move = await run_over(made, ticking)
    assert made.began == [1_010, 1_020]

    await end(made, move, 1_020)
    assert made.began == [1_010, 1_020]
    assert made.position == [1_029, 1_010]
    await end(made, move, 1_010)
    assert made.began == [1_010, 1_020, 1_030]


async def test_started_again_it_works_on_what_was_not_over_and_on_nothing_else(make, ticking):
    made = make(Slow, overlap="allow", position=b"[1030,1010]")
    move = await ticking(made, 1_035.0)
    assert made.began == [1_010]

    await move(1_040.0)
    assert made.began == [1_010, 1_040]
    await end(made, move, 1_040)
    assert made.position == [1_040, 1_010]
    await end(made, move, 1_010)
    assert made.position == 1_040


async def test_started_again_too_late_what_was_not_over_follows_the_policy(make, ticking):
    made = make(Slow, overlap="allow", position=b"[1030,1010]", grace_seconds=5, missed="skip")
    await ticking(made, 1_036.0)

    assert made.began == []
    assert made.position == 1_030


async def test_a_run_that_fails_for_good_cancels_those_beside_it(make, ticking):
    class Failing(Slow):
        async def run(self, instant):
            if instant == 1_020:
                raise OSError("no")
            await super().run(instant)

    made = make(Failing, overlap="allow", exception_threshold=1)
    move = await run_over(made, ticking, 1_010.0, 1_020.0)

    with pytest.raises(CircuitOpen):
        await move.task
    assert made.position == 1_000


async def test_no_run_begins_any_more_when_one_has_failed_for_good(make, ticking):
    class Stubborn(Slow):
        async def run(self, instant):
            if instant == 1_020:
                await super().run(instant)
                raise OSError("no")
            with contextlib.suppress(asyncio.CancelledError):
                await super().run(instant)

    made = make(Stubborn, overlap="allow", concurrency=2, exception_threshold=1)
    move = await run_over(made, ticking)
    assert made.began == [1_010, 1_020]

    await end(made, move, 1_020)
    with pytest.raises(CircuitOpen):
        await move.task
    assert made.began == [1_010, 1_020]


async def test_a_run_is_durable_before_the_next_one_begins(make, ticking, monkeypatch):
    made = make(Slow, overlap="queue")
    flushed = asyncio.Event()

    async def flush():
        await flushed.wait()

    move = await ticking(made, 1_000.0)
    monkeypatch.setattr(made, "flush", flush)
    await move(1_010.0)
    await move(1_020.0)
    await end(made, move, 1_010)
    assert made.began == [1_010]

    flushed.set()
    await move(1_020.0)
    assert made.began == [1_010, 1_020]


async def test_runs_that_end_together_are_written_one_after_the_other(make, ticking, collector):
    written = asyncio.Event()

    class Writing(collector):
        async def take(self, instant):
            self.got.append(instant)
            if instant == 1_010:
                await written.wait()

    made = make(Slow, overlap="allow")
    writing = Writing("m.writing", made.handler)
    made.on("cron", writing.take)
    move = await run_over(made, ticking, 1_010.0, 1_020.0)
    await end(made, move, 1_010)
    await end(made, move, 1_020)
    # Were 1020 written now, its position would say that 1010 is to be done again.
    assert writing.got == [1_010]

    written.set()
    await move(1_020.0)
    assert writing.got == [1_010, 1_020]
    assert made.position == 1_020


async def test_started_again_it_keeps_what_was_dealt_with_beyond(make, ticking):
    made = make(Slow, overlap="allow", position=b"[1030,1010]")
    move = await ticking(made, 1_035.0)

    await end(made, move, 1_010)
    assert made.position == 1_030


async def test_started_again_with_a_queue_it_keeps_what_was_dealt_with_beyond(make, ticking):
    made = make(Slow, overlap="queue", position=b"[1030,1010,1020]")
    move = await ticking(made, 1_035.0)

    await end(made, move, 1_010)
    assert made.position == [1_030, 1_020]
    await end(made, move, 1_020)
    assert made.position == 1_030
    assert ticks(made) == [1_010, 1_020]


async def test_what_was_dealt_with_does_not_count_as_missed(make, ticking, caplog):
    made = make(Slow, overlap="allow", position=b"[1030,1010]", grace_seconds=5)
    await ticking(made, 1_036.0)

    assert made.began == [1_010]
    assert "instants were missed: 1, " in caplog.text
