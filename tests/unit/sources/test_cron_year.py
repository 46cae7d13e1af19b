"""A simulated year of the real source in five time zones, against APScheduler's cron trigger.

The clock jumps by an hour or a day, forward and back, and the source is killed and started again,
at random moments. What it ticks is compared with what its policy says of the trigger's instants.
APScheduler differs by design where clocks are changed; those instants are written down by hand.
"""

import logging
import random
from bisect import bisect_left, bisect_right
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.cron import CronTrigger

from aiopype import SyncProtocol
from aiopype.sources import CronSource
from aiopype.sources.ticks import source as ticking

HOUR, DAY = 3_600, 86_400
GRACE = 60
ZONES = {
    "Europe/Lisbon": "one",
    "America/New_York": "all",
    "Australia/Lord_Howe": "skip",  # by 30 minutes
    "America/Santiago": "all",  # in the south, at midnight
    "Asia/Kolkata": "one",  # never
}
EXPRESSIONS = ["*/15 * * * *", "30 2 * * *", "0 0 * * 0", "0 9 1 * *", "15 1,2,3 * * *"]

#: In a skipped hour a fixed time comes at its end with us; with APScheduler as much later as the
#: clocks are set forward, or not at all. In a repeated hour it comes once with us, twice with it.
OURS = {
    ("Europe/Lisbon", "15 1,2,3 * * *"): {"03-30 02:00+01:00"},
    ("America/New_York", "30 2 * * *"): {"03-09 03:00-04:00"},
    ("America/New_York", "15 1,2,3 * * *"): {"03-09 03:00-04:00"},
    ("Australia/Lord_Howe", "15 1,2,3 * * *"): {"10-05 02:30+11:00"},
    ("America/Santiago", "0 0 * * 0"): {"09-07 01:00-03:00"},
}
THEIRS = {
    ("Europe/Lisbon", "15 1,2,3 * * *"): {"10-26 01:15+00:00"},
    ("America/New_York", "30 2 * * *"): {"03-09 03:30-04:00"},
    ("America/New_York", "15 1,2,3 * * *"): {"11-02 01:15-05:00"},
}


class Killed(Exception):
    """The worker is gone."""


class Stretch(NamedTuple):
    """A time in which the source ran and the clock went as it should."""

    start: float
    end: float


class Simulated:
    """A clock that goes by itself while the source sleeps, jumps, and kills the source.

    Arguments:
        now: seconds since 1970.
        until: it kills the source for good then.
        chance: decides what happens when.

    Attributes:
        stretches: what the source has seen of it.
    """

    def __init__(self, now, until, chance):
        self.now, self.elapsed, self.until = now, 0.0, until
        self.chance = chance
        self.stretches = []
        self._since = now
        self._next = self._soon()

    def _soon(self):
        return self.elapsed + self.chance.expovariate(1 / (3 * DAY)) + 1

    def time(self):
        return self.now

    def monotonic(self):
        return self.elapsed

    async def sleep(self, seconds):
        passed = max(0.0, min(seconds, self._next - self.elapsed, self.until - self.now))
        self.now += passed
        self.elapsed += passed
        if self.now >= self.until:
            self._end_stretch()
            raise Killed
        if self.elapsed >= self._next:
            self._end_stretch()
            happens = self.chance.choice([-DAY, -HOUR, HOUR, DAY, "killed", "killed", "killed"])
            if happens == "killed":
                self.now += self.chance.expovariate(1 / self.chance.choice([20, HOUR, DAY]))
            else:
                self.now += happens
            self._since, self._next = self.now, self._soon()
            if happens == "killed":
                raise Killed

    def _end_stretch(self):
        self.stretches.append(Stretch(self._since, self.now))


def expected(instants, first, stretches, missed):
    """What the policy makes of these instants, for a source that began with the first stretch."""
    ticks, until = [], first
    for start, end in stretches:
        late = bisect_left(instants, start - GRACE)
        new = bisect_right(instants, until)
        passed = instants[new:late]
        in_time = instants[max(new, late) : bisect_right(instants, end)]
        if missed == "all":
            ticks += passed
        elif missed == "one" and passed and not (in_time and in_time[0] <= start):
            ticks.append(passed[-1])
        ticks += in_time
        until = max(until, end)
    return ticks


def of_apscheduler(expression, zone, start, end):
    # It counts the days of the week from Monday; names mean the same to both.
    trigger = CronTrigger.from_crontab(expression.replace("* * 0", "* * sun"), timezone=zone)
    found, previous, now = [], None, start
    while (previous := trigger.get_next_fire_time(previous, now)) < end:
        found.append(int(previous.timestamp()))
        now = previous
    return found


def by_hand(moments):
    return {int(datetime.fromisoformat(f"2025-{moment}").timestamp()) for moment in moments}


def reference(expression, name):
    """The instants of 2025 and some days more: APScheduler's, with the differences by design."""
    zone = ZoneInfo(name)
    start = datetime(2025, 1, 1, tzinfo=zone)
    theirs = set(of_apscheduler(expression, zone, start, start + timedelta(days=370)))
    ours = by_hand(OURS.get((name, expression), ()))
    unlike = by_hand(THEIRS.get((name, expression), ()))
    assert unlike <= theirs
    assert not ours & theirs
    return sorted(theirs - unlike | ours)


async def simulate(expression, zone, missed, chance, collector):
    """Run the source for a year; return its ticks, in order, and its clock."""
    protocol = SyncProtocol()
    options = {"timezone": zone, "missed": missed, "grace_seconds": GRACE}
    source = CronSource("m.cron", protocol, expression, options)
    sink = collector("m.sink", protocol)
    source.on("cron", sink.take)
    start = datetime(2025, 1, 1, tzinfo=ZoneInfo(zone)).timestamp() + chance.random() * HOUR
    source.clock = Simulated(start, start + 365 * DAY, chance)
    while source.clock.now < source.clock.until:
        with pytest.raises(Killed):
            await source.start()
        protocol.forget("m.cron")
    return [instant for (instant,) in sink.got], source.clock


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize(("zone", "policy"), ZONES.items(), ids=ZONES)
async def test_in_a_year_each_instant_is_ticked_as_its_policy_says(
    zone, policy, expression, collector, monkeypatch, caplog
):
    caplog.set_level(logging.ERROR)
    # The simulated clock wakes the source itself when it jumps; a look each second costs an hour.
    monkeypatch.setattr(ticking, "LOOK_AGAIN_SECONDS", float("inf"))
    instants = reference(expression, zone)
    policies = [policy] if expression.startswith("*/15") else ["skip", "one", "all"]
    for missed in policies:
        seed = f"{zone} {expression} {missed}"
        ticks, clock = await simulate(expression, zone, missed, random.Random(seed), collector)

        assert len(clock.stretches) > 50
        first = clock.stretches[0].start
        assert ticks == expected(instants, first, clock.stretches, missed), seed
        assert ticks == sorted(set(ticks))
        if missed == "all":
            last = max(stretch.end for stretch in clock.stretches)
            assert ticks == [instant for instant in instants if first < instant <= last]
