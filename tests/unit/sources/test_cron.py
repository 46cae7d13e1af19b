from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from aiopype import SyncProtocol
from aiopype.errors import ConfigurationError
from aiopype.sources import CronSource
from aiopype.sources.cron import CronOptions


def at(text, zone="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.fixture
def make(collector):
    def make_source(expression, **options):
        protocol = SyncProtocol()
        source = CronSource("m.cron", protocol, expression, options)
        source.sink = collector("m.sink", protocol)
        source.on("cron", source.sink.take)
        return source

    return make_source


async def test_it_ticks_as_the_expression_says(make, ticking):
    source = make("*/15 9 * * mon-fri")
    move = await ticking(source, at("2025-06-06 09:29:30"))  # a Friday

    await move(at("2025-06-06 09:29:59"))
    assert source.sink.got == []
    await move(at("2025-06-06 09:30:00.2"))
    await move(at("2025-06-06 09:45:00"))
    await move(at("2025-06-06 10:00:00"))
    assert source.sink.got == [(at("2025-06-06 09:30"),), (at("2025-06-06 09:45"),)]
    assert all(type(instant) is int for (instant,) in source.sink.got)


async def test_it_reads_the_expression_by_the_clocks_of_its_time_zone(make, ticking):
    source = make("0 9 * * *", timezone="Europe/Lisbon")
    move = await ticking(source, at("2025-06-06 07:30"))

    await move(at("2025-06-06 08:00"))
    assert source.sink.got == [(at("2025-06-06 09:00", "Europe/Lisbon"),)]


async def test_a_tick_that_was_missed_over_night_is_made_up_for(make, ticking):
    source = make("0 0 * * *")
    source.handler.checkpoint("m.cron", b"%d" % at("2025-06-05 00:00"))
    await source.flush()

    await ticking(source, at("2025-06-06 08:00"))
    assert source.sink.got == [(at("2025-06-06 00:00"),)]


async def test_the_hour_that_is_repeated_has_a_fixed_time_once(make, ticking):
    source = make("30 1 * * *", timezone="Europe/Lisbon")
    start = at("2025-10-26 00:00")  # UTC; clocks show 01:00, and again an hour later
    move = await ticking(source, start)

    for minutes in range(0, 181, 5):
        await move(start + minutes * 60)
    assert source.sink.got == [(at("2025-10-26 00:30"),)]


def test_its_time_zone_is_utc(recorder):
    assert CronSource("m.cron", recorder, "@daily").options.timezone == "UTC"


def test_options_may_be_given_as_such(recorder):
    options = CronOptions(timezone="Asia/Kolkata", missed="all")

    assert CronSource("m.cron", recorder, "@daily", options).options is options


@pytest.mark.parametrize(
    ("expression", "options", "error"),
    [
        ("every day", {}, r"source 'm.cron': cron expression 'every day': "),
        ("@daily", {"timezone": "Mars"}, r"source 'm.cron': there is no time zone 'Mars'"),
        ("@daily", {"timezone": 3}, r"source 'm.cron': timezone=3: "),
        ("@daily", {"time_zone": "UTC"}, r"no option 'time_zone'; did you mean 'timezone'"),
    ],
)
def test_what_makes_no_sense_is_refused(recorder, expression, options, error):
    with pytest.raises(ConfigurationError, match=error):
        CronSource("m.cron", recorder, expression, options)


def test_a_source_that_is_refused_leaves_no_component(recorder):
    with pytest.raises(ConfigurationError):
        CronSource("m.cron", recorder, "every day")

    assert recorder.components == []
