import time
from types import SimpleNamespace

import pytest

from aiopype import SyncProtocol
from aiopype.health import Health
from aiopype.pipelines import Pipelines
from aiopype.restarts import RestartPolicy
from aiopype.source_health import STUCK_SECONDS, add_source_checks
from aiopype.testing.clock import FakeClock

NAME = "quotes.source"


@pytest.fixture
def pipelines(declare, numbers):
    """The pipelines of a manager `quotes` whose source runs here."""
    declare(
        lambda manager: numbers(manager.build_processor_name("source"), manager.handler),
        name="quotes",
    )
    made = Pipelines(["quotes"], SyncProtocol())
    made.protocol.progress.sources.add(NAME)
    made.supervisor.add(NAME, RestartPolicy())
    yield made
    made.supervisor.stop()


@pytest.fixture
def clock():
    return FakeClock(1_000.0)


@pytest.fixture
def source(pipelines, clock):
    """The source, which may be quiet for 10 s and has started; its outbox has nothing to do."""
    made = pipelines.sources[NAME]
    made.clock = clock
    made.expect_every = 10.0
    made.vitals.starts(clock.monotonic())
    made.vitals.outbox = SimpleNamespace(stuck_since=None, count=0)
    return made


@pytest.fixture
def problem(pipelines, source):
    """What keeps the source from its work."""
    health = Health("flow")
    add_source_checks(health, pipelines)
    return lambda: health.problems().get(f"source {NAME}")


# --- silence


async def test_a_source_that_hears_something_is_fine(problem, source, clock):
    await clock.advance(9.0)
    assert problem() is None
    source.heard()
    await clock.advance(9.0)

    assert problem() is None


async def test_a_silent_source_is_a_problem_since_it_heard_something(problem, source, clock):
    source.heard()
    await clock.advance(11.0)

    found = problem()

    assert found.reason == "silent: nothing has come for more than 10 s, its `expect_every`"
    assert found.since_seconds == 1_000.0


async def test_one_that_has_never_heard_anything_is_silent_since_its_start(problem, clock):
    await clock.advance(11.0)

    assert problem().since_seconds == 1_000.0


async def test_one_that_is_started_again_and_hears_nothing_is_silent_all_the_time(
    problem, pipelines, source, clock
):
    await clock.advance(11.0)
    pipelines.supervisor.fail(NAME, LookupError(), "what")
    assert problem().reason == "restarting: what"
    pipelines.supervisor.add(NAME, RestartPolicy())

    source.vitals.starts(clock.monotonic())
    assert problem().since_seconds == 1_000.0

    source.heard()
    assert problem() is None


async def test_a_source_without_a_limit_may_be_quiet_for_ever(problem, source, clock):
    source.expect_every = None
    await clock.advance(1e6)

    assert problem() is None


async def test_a_source_that_has_not_begun_is_not_silent(problem, source, clock):
    source.vitals.begin(lambda error: None)
    await clock.advance(11.0)

    assert problem() is None


async def test_while_a_source_waits_for_room_its_silence_is_not_the_upstreams(
    problem, source, clock
):
    source.waiting = 1
    await clock.advance(11.0)

    assert problem() is None


# --- what cannot be written


@pytest.mark.parametrize(
    ("count", "reason"), [(1_200, "1,200 of its events are not written"), (0, "its position is")]
)
def test_what_is_not_written_for_long_is_a_problem(problem, source, count, reason):
    since = time.monotonic() - STUCK_SECONDS - 1
    outbox = SimpleNamespace(stuck_since=since, count=count, trouble="")
    source.vitals.outbox = outbox

    found = problem()

    assert reason in found.reason
    assert found.reason.endswith("for more than 15 s: the brokers do not answer")
    outbox.trouble = "disk full"
    assert problem().reason.endswith(": disk full")
    assert found.since_seconds == pytest.approx(time.time() - STUCK_SECONDS - 1, abs=1)


def test_what_is_not_written_for_a_while_is_none(problem, source):
    source.vitals.outbox = SimpleNamespace(stuck_since=time.monotonic() - 1, count=9, trouble="")

    assert problem() is None


# --- whose it is


@pytest.mark.parametrize("why", ["elsewhere", "ended", "its manager is down"])
async def test_a_source_that_does_not_run_here_is_no_problem(problem, pipelines, clock, why):
    await clock.advance(11.0)
    assert problem()

    if why == "elsewhere":
        pipelines.protocol.progress.sources.clear()
    elif why == "ended":
        pipelines.supervisor.end(NAME)
    else:
        pipelines.supervisor.fail("quotes", LookupError(), "what")

    assert problem() is None
