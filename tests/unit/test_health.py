import json

import pytest

from aiopype.health import Health, Problem, manager_check, source_check, status_report
from aiopype.progress import Progress
from aiopype.restarts import RestartPolicy
from aiopype.states import State, Status
from aiopype.supervision import Supervisor

#: Of all tests: 2001-09-09T01:46:40Z.
NOW = 1e9


@pytest.fixture
def now():
    """The time of the clock, which a test moves."""
    return [NOW]


@pytest.fixture
def health(now):
    return Health("quotes", clock=lambda: now[0])


class _NoTimer:
    def cancel(self):
        pass


@pytest.fixture
def supervisor():
    """Of the manager `a`, where `a.source` runs; what fails stays down."""
    made = Supervisor({"a": RestartPolicy()}, wall=lambda: NOW, later=lambda *_: _NoTimer())
    made.add("a.source", RestartPolicy(failures=0))
    return made


# --- the report


def test_without_a_problem_it_is_ready(health):
    health.add("group", lambda: None)

    assert health.report() == {"flow": "quotes", "is_ready": True, "problems": {}}


def test_what_is_not_ready_is_named_with_reason_and_since(health):
    health.add("group", lambda: Problem("not joined", NOW - 1.5))
    health.add("broker", lambda: None)

    assert health.report() == {
        "flow": "quotes",
        "is_ready": False,
        "problems": {"group": {"reason": "not joined", "since": "2001-09-09T01:46:38.500+00:00"}},
    }


def test_a_problem_that_knows_no_time_has_that_of_its_first_report(health, now):
    problems = [Problem("no broker answers")]
    health.add("broker", lambda: problems[0] if problems else None)

    health.report()
    now[0] += 5
    assert health.problems()["broker"].since_seconds == NOW

    problems.clear()
    health.report()
    problems.append(Problem("no broker answers"))
    assert health.problems()["broker"].since_seconds == NOW + 5


def test_a_check_that_raises_is_a_problem_and_the_others_are_asked(health, caplog):
    health.add("bad", lambda: 1 / 0)
    health.add("group", lambda: Problem("not joined"))

    problems = health.report()["problems"]

    assert problems["bad"]["reason"] == "its check raised ZeroDivisionError: division by zero"
    assert "group" in problems
    assert "the check of bad raised" in caplog.text


def test_it_names_its_checks_failing_or_not(health):
    health.add("broker", lambda: Problem("no broker answers"))
    health.add("group", lambda: None)

    assert health.checks == ("broker", "group")


def test_details_stand_in_the_report(health):
    health.detail("managers", lambda: {"a": 1})

    assert health.report()["managers"] == {"a": 1}


def test_a_report_can_be_written_as_json(health, supervisor):
    supervisor.fail("a", LookupError("mine"), "what")
    health.add("manager a", manager_check(supervisor, "a"))
    health.detail("managers", lambda: status_report(supervisor.status("a")))

    assert json.loads(json.dumps(health.report())) == health.report()


# --- managers and sources


def test_a_manager_that_is_down_is_a_problem_since_it_failed(supervisor):
    check = manager_check(supervisor, "a")
    assert check() is None

    supervisor.fail("a", LookupError("mine"), "what")

    assert check() == Problem("restarting: what", NOW)


def test_a_manager_that_has_ended_is_no_problem(supervisor):
    supervisor.end("a")

    assert manager_check(supervisor, "a")() is None


def test_a_source_in_quarantine_is_a_problem_where_it_runs(supervisor):
    progress = Progress()
    check = source_check(supervisor, progress, "a.source")
    supervisor.fail("a.source", LookupError("mine"), "what")
    assert check() is None

    progress.sources.add("a.source")

    assert check() == Problem("quarantined: what", NOW)


def test_when_a_manager_is_down_its_sources_are_not_named_too(supervisor):
    progress = Progress()
    progress.sources.add("a.source")

    supervisor.fail("a", LookupError("mine"), "what")

    assert source_check(supervisor, progress, "a.source")() is None


def test_a_status_of_what_runs_says_since_when():
    assert status_report(Status(State.RUNNING, NOW)) == {
        "state": "running",
        "since": "2001-09-09T01:46:40.000+00:00",
    }


def test_a_status_of_what_is_down_says_why_and_until_when():
    status = Status(State.QUARANTINED, NOW, "what", LookupError(), NOW + 300)

    assert status_report(status) == {
        "state": "quarantined",
        "since": "2001-09-09T01:46:40.000+00:00",
        "reason": "what",
        "again": "2001-09-09T01:51:40.000+00:00",
    }
