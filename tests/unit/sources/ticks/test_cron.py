"""Instants of cron expressions; what is expected where clocks are changed is written by hand."""

import random
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from aiopype.errors import ConfigurationError
from aiopype.sources.ticks.cron import CronSchedule


def at(text):
    """Return the instant of `2025-03-09 01:45-05:00`; of UTC where no offset is told."""
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def between(expression, zone, start, end):
    """The instants from `start` on, before `end`, as clocks in the zone show them."""
    schedule, found = CronSchedule(expression, zone), []
    instant = schedule.after(at(start) - 1)
    while instant is not None and instant < at(end):
        found.append(instant)
        instant = schedule.after(instant)
    local = [datetime.fromtimestamp(instant, ZoneInfo(zone)) for instant in found]
    return [moment.isoformat(" ", "minutes").removeprefix("2025-") for moment in local]


# --- expressions


@pytest.mark.parametrize(
    ("expression", "later"),
    [
        ("*/15 * * * *", "2025-06-04 10:30"),
        ("30 6 * * mon-fri", "2025-06-05 06:30"),
        ("0 0 * * 0", "2025-06-08 00:00"),
        ("0 0 * * 7", "2025-06-08 00:00"),
        ("0 9 1 * *", "2025-07-01 09:00"),
        ("0 0 29 feb *", "2028-02-29 00:00"),
        ("0 0 L * *", "2025-06-30 00:00"),
        ("0 0 13 * fri", "2025-06-06 00:00"),
        ("*/10 * * * * *", "2025-06-04 10:15:10"),
        ("15 30 10 * * *", "2025-06-04 10:30:15"),
        ("@hourly", "2025-06-04 11:00"),
        ("@daily", "2025-06-05 00:00"),
        ("@midnight", "2025-06-05 00:00"),
        ("@weekly", "2025-06-08 00:00"),
        ("@monthly", "2025-07-01 00:00"),
        ("@yearly", "2026-01-01 00:00"),
        ("@annually", "2026-01-01 00:00"),
    ],
)
def test_an_expression_has_its_next_instant(expression, later):
    assert CronSchedule(expression).after(at("2025-06-04 10:15")) == at(later)


def test_an_instant_is_not_after_itself():
    schedule = CronSchedule("15 10 * * *")

    assert schedule.after(at("2025-06-04 10:15") - 1) == at("2025-06-04 10:15")
    assert schedule.after(at("2025-06-04 10:15")) == at("2025-06-05 10:15")


def test_an_expression_is_read_by_the_clocks_of_its_zone():
    assert CronSchedule("0 9 * * *", "Asia/Kolkata").after(at("2025-06-04")) == at(
        "2025-06-04 03:30"
    )


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "61 * * * *", "* * * * * * *", "a b c d e", "0 0 30 2 *", "@reboot"],
)
def test_what_is_no_expression_is_refused(expression):
    with pytest.raises(ConfigurationError, match=r"^cron expression '.*': "):
        CronSchedule(expression)


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Europe/Lisabon", "did you mean 'Europe/Lisbon'"),
        ("", "give one like 'Europe/Lisbon'"),
        ("Europe", "there is no time zone 'Europe'"),
        ("/etc/localtime", "there is no time zone"),
        ("../UTC", "there is no time zone"),
        ("a\0b", "there is no time zone"),
    ],
)
def test_a_zone_that_is_not_there_is_refused(zone, hint):
    with pytest.raises(ConfigurationError, match=hint):
        CronSchedule("* * * * *", zone)


# --- clocks are set forward: New York, 9 March 2025, from 02:00 to 03:00

FORWARD = ("America/New_York", "2025-03-09 01:00-05:00", "2025-03-09 04:00-04:00")


@pytest.mark.parametrize(
    ("expression", "instants"),
    [
        # A fixed time comes when the skipped time ends.
        ("30 2 * * *", ["03-09 03:00-04:00"]),
        ("0 2 * * *", ["03-09 03:00-04:00"]),
        # Several of one hour are one instant then, also with one that is due anyway.
        ("15,45 2 * * *", ["03-09 03:00-04:00"]),
        ("0 2,3 * * *", ["03-09 03:00-04:00"]),
        ("15 1,2,3 * * *", ["03-09 01:15-05:00", "03-09 03:00-04:00", "03-09 03:15-04:00"]),
        # What goes by what clocks show has no such hour.
        ("*/30 2 * * *", []),
        ("30 * * * *", ["03-09 01:30-05:00", "03-09 03:30-04:00"]),
        ("*/30 1-3 * * *", ["03-09 01:00-05:00", "03-09 01:30-05:00", "03-09 03:00-04:00",
                            "03-09 03:30-04:00"]),
    ],
)  # fmt: skip
def test_clocks_are_set_forward(expression, instants):
    assert between(expression, *FORWARD) == instants


# --- clocks are set back: New York, 2 November 2025, from 02:00 to 01:00

BACK = ("America/New_York", "2025-11-02 00:30-04:00", "2025-11-02 02:30-05:00")


@pytest.mark.parametrize(
    ("expression", "instants"),
    [
        # A fixed time comes the first time.
        ("30 1 * * *", ["11-02 01:30-04:00"]),
        ("0 1,2 * * *", ["11-02 01:00-04:00", "11-02 02:00-05:00"]),
        # What goes by what clocks show comes both times.
        ("*/30 1 * * *", ["11-02 01:00-04:00", "11-02 01:30-04:00", "11-02 01:00-05:00",
                          "11-02 01:30-05:00"]),
        ("30 * * * *", ["11-02 00:30-04:00", "11-02 01:30-04:00", "11-02 01:30-05:00"]),
    ],
)  # fmt: skip
def test_clocks_are_set_back(expression, instants):
    assert between(expression, *BACK) == instants


def test_the_second_half_of_a_repeated_hour_has_no_fixed_time_again():
    schedule = CronSchedule("30 1 * * *", "America/New_York")

    assert schedule.after(at("2025-11-02 01:10-05:00")) == at("2025-11-03 01:30-05:00")


# --- clocks are changed by 30 minutes: Lord Howe, 02:00 to 01:30 on 6 April, back on 5 October

HALF = "Australia/Lord_Howe"


@pytest.mark.parametrize(
    ("expression", "start", "end", "instants"),
    [
        ("45 1 * * *", "2025-04-06 01:00+11:00", "2025-04-06 03:00+10:30", ["04-06 01:45+11:00"]),
        ("*/15 1 * * *", "2025-04-06 01:00+11:00", "2025-04-06 03:00+10:30",
         ["04-06 01:00+11:00", "04-06 01:15+11:00", "04-06 01:30+11:00", "04-06 01:45+11:00",
          "04-06 01:30+10:30", "04-06 01:45+10:30"]),
        ("*/15 2 * * *", "2025-04-06 01:00+11:00", "2025-04-06 03:00+10:30",
         ["04-06 02:00+10:30", "04-06 02:15+10:30", "04-06 02:30+10:30", "04-06 02:45+10:30"]),
        ("15 2 * * *", "2025-10-05 01:00+10:30", "2025-10-05 04:00+11:00", ["10-05 02:30+11:00"]),
        ("30 2 * * *", "2025-10-05 01:00+10:30", "2025-10-05 04:00+11:00", ["10-05 02:30+11:00"]),
        ("*/15 2 * * *", "2025-10-05 01:00+10:30", "2025-10-05 04:00+11:00",
         ["10-05 02:30+11:00", "10-05 02:45+11:00"]),
        ("*/15 3 * * *", "2025-10-05 01:00+10:30", "2025-10-05 04:00+11:00",
         ["10-05 03:00+11:00", "10-05 03:15+11:00", "10-05 03:30+11:00", "10-05 03:45+11:00"]),
    ],
)  # fmt: skip
def test_clocks_are_changed_by_half_an_hour(expression, start, end, instants):
    assert between(expression, HALF, start, end) == instants


# --- other changes


def test_a_midnight_that_is_skipped_comes_at_the_end_of_the_skipped_hour():
    span = ("America/Santiago", "2025-09-06 12:00-04:00", "2025-09-07 12:00-03:00")

    assert between("0 0 * * 0", *span) == ["09-07 01:00-03:00"]
    assert between("*/30 0 * * 0", *span) == []


def test_a_day_that_is_skipped_comes_at_its_end():
    # Samoa had no 30 December 2011.
    schedule = CronSchedule("0 9 30 12 *", "Pacific/Apia")

    assert schedule.after(at("2011-12-01")) == at("2011-12-31 00:00+14:00")


def test_a_time_is_skipped_or_repeated_where_clocks_are_changed_in_between():
    # The next instant is a year on: the clocks are changed twice before.
    schedule = CronSchedule("* 12 1 1 *", "Europe/Lisbon")

    assert schedule.after(at("2025-01-01 12:59")) == at("2026-01-01 12:00")


ZONES = [
    "UTC", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca",
    "Europe/Dublin", "Asia/Kathmandu", "America/St_Johns", "Antarctica/Troll",
]  # fmt: skip
#: Within 11 days of one of these every zone that changes its clocks does so.
CHANGES = ["2025-02-20", "2025-03-06", "2025-03-28", "2025-09-04", "2025-10-01", "2025-10-24"]
EXPRESSIONS = ["*/15 * * * *", "0,45 0-3 * * *", "*/15 0,1,2 * * *", "30 2 * * *", "15 * * * 0"]


def by_what_clocks_show(expression, zone, start, days):
    """The instants, found by looking at the clocks each quarter of an hour."""
    zone, quarter = ZoneInfo(zone), 900
    wanted = CronSchedule(expression)  # of UTC: the same times on a clock that is never changed
    first = at(start) // quarter * quarter
    shown = {}
    for instant in range(first, first + days * 86_400, quarter):
        local = datetime.fromtimestamp(instant, zone).replace(tzinfo=UTC)
        shown.setdefault(int(local.timestamp()), []).append(instant)
    times, time = [], min(shown) - 1
    while (time := wanted.after(time)) <= max(shown):
        times.append(time)
    if any(field.startswith("*") for field in expression.split()[:2]):
        return sorted(instant for time in times for instant in shown.get(time, []))
    clock = sorted(shown)
    return sorted({shown[clock[bisect_left(clock, time)]][0] for time in times})


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_instants_are_those_that_clocks_show(zone, expression):
    schedule = CronSchedule(expression, zone)
    for start in CHANGES:
        expected = by_what_clocks_show(expression, zone, start, 11)
        found, instant = [], at(start) - 1
        while (instant := schedule.after(instant)) <= expected[-1]:
            found.append(instant)
        assert found == expected


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe", "America/Santiago"])
@pytest.mark.parametrize("expression", ["15,45 0-3 * * *", "*/15 0-3 * * *"])
def test_the_instants_are_the_same_from_whatever_moment_one_asks(zone, expression):
    schedule = CronSchedule(expression, zone)
    for day in ("2025-03-09", "2025-04-06", "2025-09-07", "2025-10-05", "2025-11-02"):
        start = at(day) - 86_400
        instants = [start := schedule.after(start) for _ in range(40)]
        chance = random.Random(day)
        for before, after in pairwise(instants):
            asked = [before, after - 1, chance.randrange(before, after)]
            assert [schedule.after(instant) for instant in asked] == [after] * 3


def test_an_expression_is_read_for_years():
    schedule, instant = CronSchedule("30 2 1 * *", "America/New_York"), at("2025-01-01")
    instants = [instant := schedule.after(instant) for _ in range(120)]

    assert instants == sorted(set(instants))
    assert datetime.fromtimestamp(instants[-1], ZoneInfo("America/New_York")) - timedelta(
        hours=2, minutes=30
    ) == datetime(2034, 12, 1, tzinfo=ZoneInfo("America/New_York"))
