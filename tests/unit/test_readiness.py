from dataclasses import replace
from types import SimpleNamespace

import pytest

from aiopype import SyncProtocol
from aiopype.health import Health, Problem
from aiopype.pipelines import Pipelines
from aiopype.readiness import Fetching, add_checks
from aiopype.restarts import RestartPolicy
from aiopype.sources import TopicSource
from aiopype.watchdog import Condition


@pytest.fixture
def pipelines(declare, numbers):
    """The pipelines of a manager `quotes` with a source."""
    declare(
        lambda manager: numbers(manager.build_processor_name("source"), manager.handler),
        name="quotes",
    )
    return Pipelines(["quotes"], SyncProtocol())


@pytest.fixture
def app():
    """An app that has had its assignment."""
    return SimpleNamespace(rebalancing=False, rebalancing_count=1, is_stopping=False)


@pytest.fixture
def seen():
    """What the consumer is at, which a test changes."""
    return [Condition()]


@pytest.fixture
def now():
    """The time of the clock, which a test moves."""
    return [0.0]


@pytest.fixture
def health(app, seen, now, pipelines):
    made = Health("flow")
    add_checks(made, app, lambda: seen[0], pipelines, lambda: now[0])
    return made


def test_a_worker_that_has_had_its_assignment_is_ready(health):
    # Also when it was an empty one.
    assert health.report() | {"managers": {}} == {
        "flow": "flow", "is_ready": True, "problems": {}, "managers": {}, "sources": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("group", {"rebalancing_count": 0}, "first assignment"),
        ("group", {"rebalancing": True}, "being assigned anew"),
        ("worker", {"is_stopping": True}, "stops"),
    ],
)
def test_what_the_app_says_makes_it_not_ready(health, app, name, change, reason):
    vars(app).update(change)

    problems = health.problems()

    assert list(problems) == [name]
    assert reason in problems[name].reason


@pytest.mark.parametrize(
    ("name", "condition"),
    [("broker", Condition(is_connected=False)), ("group", Condition(is_member=False))],
)
def test_what_the_consumer_says_makes_it_not_ready(health, seen, name, condition):
    seen[0] = condition

    assert list(health.problems()) == [name]


def test_a_worker_out_of_its_group_waits_for_no_assignment(health, app, seen):
    seen[0], app.rebalancing = Condition(is_member=False), True

    assert "out of its group" in health.problems()["group"].reason


def test_what_is_not_ready_any_more_is_told_with_the_next_look(health, seen, now):
    assert health.report()["is_ready"]

    seen[0], now[0] = Condition(is_connected=False), 1.0
    assert list(health.problems()) == ["broker"]

    seen[0], now[0] = Condition(), 2.0
    assert health.report()["is_ready"]


def test_partitions_that_are_not_fetched_make_it_not_ready(health, seen, now):
    for now[0] in (0.0, 16.0):
        seen[0] = Condition(fetches={"m.in[0]": 7})
        problems = health.problems()

    assert list(problems) == ["fetching"]


def test_all_checks_of_a_report_look_at_the_worker_once(app, pipelines):
    looks = []
    made = Health("flow")
    add_checks(made, app, lambda: looks.append(1) or Condition(), pipelines)

    made.report()

    assert len(looks) == 1


async def test_a_manager_that_is_down_makes_it_not_ready(health, pipelines):
    pipelines.supervisor.fail("quotes", LookupError(), "what")

    report = health.report()

    assert list(report["problems"]) == ["manager quotes"]
    assert report["managers"]["quotes"]["state"] == "restarting"
    pipelines.supervisor.stop()


async def test_a_source_that_is_down_makes_it_not_ready(health, pipelines):
    pipelines.protocol.progress.sources.add("quotes.source")
    pipelines.supervisor.add("quotes.source", RestartPolicy(failures=0))
    pipelines.supervisor.fail("quotes.source", LookupError(), "what")

    report = health.report()

    assert list(report["problems"]) == ["source quotes.source"]
    assert report["managers"]["quotes"]["state"] == "running"
    assert report["sources"]["quotes.source"]["state"] == "quarantined"
    pipelines.supervisor.stop()


# --- fetching


@pytest.fixture
def check(seen, now):
    return Fetching(lambda: seen[0], lambda: now[0], wall=lambda: 1e9)


def test_partitions_with_room_that_are_not_fetched_are_a_problem(check, seen, now):
    seen[0] = Condition(fetches={"m.in[1]": 7, "m.in[0]": 7, "m.in[2]": 1})
    assert check() is None

    now[0] = 16
    seen[0] = Condition(fetches={"m.in[1]": 7, "m.in[0]": 7, "m.in[2]": 2})

    assert check() == Problem("m.in[0] and 1 more: not fetched for more than 15 s", 1e9 - 16)


@pytest.mark.parametrize("reason", ["not open", "given up", "its leader is out of reach"])
def test_a_partition_that_cannot_be_fetched_is_a_problem_with_its_reason(check, seen, now, reason):
    seen[0] = Condition(unready={"m.in[0]": reason})
    assert check() is None

    now[0] = 16

    assert check() == Problem(f"m.in[0]: {reason} for more than 15 s", 1e9 - 16)


def test_without_a_broker_the_partitions_are_not_named_too(check, seen, now):
    seen[0] = Condition(unready={"m.in[0]": "not open"}, fetches={"m.in[1]": 7})
    check()

    now[0] = 16
    seen[0] = replace(seen[0], is_connected=False)
    assert check() is None

    # Nor at once when it is back.
    now[0] = 17
    seen[0] = replace(seen[0], is_connected=True)
    assert check() is None


def test_partitions_that_are_fetched_or_had_no_room_meanwhile_are_none(check, seen, now):
    for fetches in ({"m.in[0]": 1}, {}, {"m.in[0]": 1}, {"m.in[0]": 2}):
        seen[0] = Condition(fetches=fetches)
        assert check() is None
        now[0] += 20


def test_a_source_without_an_owner_is_not_checked(declare, app, seen):
    declare(lambda manager: TopicSource("orders.feed", manager.handler, "orders"), name="orders")
    made = Health("flow")
    flow = Pipelines(["orders"], SyncProtocol())
    add_checks(made, app, lambda: seen[0], flow)
    flow.protocol.progress.sources.add("orders.feed")

    assert made.report()["is_ready"]
