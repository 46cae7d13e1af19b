import pytest

from aiopype import SyncProtocol
from aiopype.clock import SYSTEM_CLOCK
from aiopype.errors import ConfigurationError
from aiopype.sources import (
    CronJob,
    HistoryTimeEmitter,
    OffsetCronJob,
    OffsetTimeSource,
    TimeSource,
)


@pytest.fixture
def make(collector):
    """Makes a source of a class, with its arguments; `source.sink.got` are its ticks."""

    def make_source(cls, *arguments, **options):
        protocol = SyncProtocol()
        source = cls("m.clock", protocol, *arguments, options)
        source.sink = collector("m.sink", protocol)
        source.on("cron", source.sink.take)
        return source

    return make_source


async def ticks(source, ticking, *moves):
    """The timestamps of a source that starts at the first of these times."""
    start, *moves = moves
    move = await ticking(source, start)
    for now in moves:
        await move(now)
    return [timestamp for (timestamp,) in source.sink.got]


def test_its_clock_is_the_systems(recorder):
    assert TimeSource("m.clock", recorder, 1).clock is SYSTEM_CLOCK


def test_its_event_has_a_topic_from_the_start(recorder):
    TimeSource("m.clock", recorder, 1)

    assert [topic.name for topic in recorder.graph.topics()] == ["m.clock.cron"]


# --- TimeSource


async def test_a_time_source_ticks_at_every_multiple_of_its_interval(make, ticking):
    source = make(TimeSource, 10)

    assert await ticks(source, ticking, 1_003.5, 1_009.9, 1_010.0, 1_015.0, 1_020.5) == [
        1_010,
        1_020,
    ]


async def test_the_ticks_are_whole_numbers(make, ticking):
    (timestamp,) = await ticks(make(TimeSource, 1.0), ticking, 0.25, 1.5)

    assert type(timestamp) is int


async def test_options_say_what_becomes_of_missed_instants(make, ticking):
    source = make(TimeSource, 10, missed="all", grace_seconds=1)

    assert await ticks(source, ticking, 1_000.0, 1_035.0) == [1_010, 1_020, 1_030]


@pytest.mark.parametrize("interval", [0, -1, 1.5, "60", None, False])
def test_an_interval_that_is_no_whole_number_from_1_on_is_refused(recorder, interval):
    with pytest.raises(ConfigurationError, match=r"'m.clock': interval=.*; give whole seconds"):
        TimeSource("m.clock", recorder, interval)


def test_an_unknown_option_is_refused(recorder):
    with pytest.raises(ConfigurationError, match="no option 'mised'; did you mean 'missed'"):
        TimeSource("m.clock", recorder, 10, {"mised": "all"})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("missed", "some"),
        ("missed_limit", 0),
        ("grace_seconds", 0.5),
        ("overlap", "wait"),
        ("concurrency", 0),
        ("concurrency", 1_001),
        ("run_seconds", 0),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(recorder, option, value):
    with pytest.raises(ConfigurationError, match=f"'m.clock': {option}="):
        TimeSource("m.clock", recorder, 10, {option: value})


# --- the others of the first aiopype


async def test_an_offset_time_source_tells_earlier_times(make, ticking):
    source = make(OffsetTimeSource, 10, 25)

    assert await ticks(source, ticking, 1_000.0, 1_010.0, 1_020.0) == [985, 995]


async def test_a_cron_job_tells_the_start_of_the_last_whole_interval(make, ticking):
    source = make(CronJob, 10, 30)

    assert await ticks(source, ticking, 1_010.0, 1_020.0, 1_030.0, 1_040.0, 1_050.0) == [
        990,
        990,
        990,
        1_020,
    ]


async def test_an_offset_cron_job_tells_earlier_times(make, ticking):
    source = make(OffsetCronJob, 10, 30, 5)

    assert await ticks(source, ticking, 1_040.0, 1_050.0) == [1_015]


@pytest.mark.parametrize(
    ("cls", "arguments", "wrong"),
    [
        (CronJob, (0, 10), "frequency=0"),
        (CronJob, (10, 0), "interval=0"),
        (OffsetCronJob, (10, 10, 0.5), "offset=0.5"),
        (OffsetTimeSource, (10, "5"), "offset='5'"),
        (HistoryTimeEmitter, (0.5, 10, 20), "start=0.5"),
        (HistoryTimeEmitter, (0, 0, 20), "interval=0"),
        (HistoryTimeEmitter, (0, 10, None), "end=None"),
    ],
)
def test_arguments_that_are_no_whole_seconds_are_refused(recorder, cls, arguments, wrong):
    with pytest.raises(ConfigurationError, match=f"'m.clock': {wrong}; give whole seconds"):
        cls("m.clock", recorder, *arguments)


# --- HistoryTimeEmitter


async def test_a_history_is_ticked_at_once_and_ends(make, ticking):
    source = make(HistoryTimeEmitter, 1_003, 10, 1_033)
    move = await ticking(source, 5_000.0)

    await move.task
    assert source.sink.got == [(1_003,), (1_013,), (1_023,)]


async def test_a_history_goes_on_where_it_was(make, ticking):
    source = make(HistoryTimeEmitter, 1_003, 10, 1_033)
    source.handler.checkpoint("m.clock", b"1013")
    await source.flush()

    await source.start()
    assert source.sink.got == [(1_023,)]
    await source.start()
    assert source.sink.got == [(1_023,)]


async def test_a_history_leaves_nothing_out_however_late_it_is(make):
    source = make(HistoryTimeEmitter, 0, 1, 1_000, missed="skip", overlap="skip")

    await source.start()
    assert len(source.sink.got) == 1_000


async def test_the_work_of_a_history_is_done_one_instant_after_the_other(collector):
    class Working(HistoryTimeEmitter):
        async def run(self, instant):
            await self.clock.sleep(0)
            await self.emit_async("cron", instant)

    protocol = SyncProtocol()
    source, sink = Working("m.clock", protocol, 0, 10, 50), collector("m.sink", protocol)
    source.on("cron", sink.take)

    await source.start()
    assert sink.got == [(0,), (10,), (20,), (30,), (40,)]


async def test_a_history_in_the_future_does_not_wait_for_it(make):
    source = make(HistoryTimeEmitter, 10_000_000_000, 10, 10_000_000_020)

    await source.start()
    assert source.sink.got == [(10_000_000_000,), (10_000_000_010,)]
