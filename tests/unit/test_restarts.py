import pytest

from aiopype.restarts import Budget, Restart, RestartPolicy


@pytest.fixture
def failing():
    """Lets something fail again and again, a second after each start; returns what followed."""

    def fail(count, **values):
        now = 0.0
        budget = Budget(RestartPolicy(**values), now)
        followed = []
        for _ in range(count):
            now += 1
            followed.append(budget.fail(now))
            now += followed[-1].delay_seconds
            budget.start(now)
        return followed

    return fail


def test_the_delay_doubles_from_failure_to_failure(failing):
    assert failing(5) == [Restart(seconds, is_quarantine=False) for seconds in (1, 2, 4, 8, 16)]


def test_the_delay_has_a_longest(failing):
    delays = [seconds for seconds, _ in failing(9, failures=99)]

    assert delays[-3:] == [60, 60, 60]


def test_beyond_the_budget_there_is_quarantine_which_doubles_to_its_longest(failing):
    followed = failing(10)[5:]

    assert followed == [Restart(s, is_quarantine=True) for s in (300, 600, 1200, 1800, 1800)]


def test_without_a_budget_the_first_failure_is_quarantine(failing):
    assert failing(1, failures=0)[0].is_quarantine


def test_only_failures_of_the_window_count():
    budget = Budget(RestartPolicy(failures=2, within_seconds=100, calm_seconds=1_000), 0)

    followed = []
    for now in (0, 60, 120, 180, 240):
        budget.start(now)
        followed.append(budget.fail(now))

    assert not any(restart.is_quarantine for restart in followed)
    assert budget.fail(250).is_quarantine


def test_what_ran_well_for_a_while_begins_anew():
    budget = Budget(RestartPolicy(), 0)
    for now in (1, 2, 3, 4):
        budget.fail(now)
    budget.start(10)

    assert budget.fail(309).delay_seconds == 16
    budget.start(400)
    assert budget.fail(700) == Restart(1, is_quarantine=False)


def test_what_ran_well_after_quarantine_has_its_whole_budget_again():
    budget = Budget(RestartPolicy(failures=1), 0)
    budget.fail(1)
    assert budget.fail(2).is_quarantine
    budget.start(302)

    assert not budget.fail(602).is_quarantine
    budget.start(603)
    assert budget.fail(604).is_quarantine


def test_a_million_failures_have_a_delay():
    budget = Budget(RestartPolicy(failures=10**9, within_seconds=10), 0)

    for now in range(2_000):
        restart = budget.fail(now)
        budget.start(now)

    assert restart.delay_seconds == 60


@pytest.mark.parametrize(
    ("values", "text"),
    [({"failures": -1}, "failures=-1"), ({"jitter": 1.5}, "a share"), ({"jitter": -1}, "0 or")],
)
def test_a_policy_that_makes_no_sense_is_refused(values, text):
    with pytest.raises(ValueError, match=text):
        RestartPolicy(**values)


def test_what_is_hopeless_goes_into_quarantine_whatever_is_left_of_its_budget():
    budget = Budget(RestartPolicy(), 0)

    assert budget.fail(1, at_once=True) == Restart(300, is_quarantine=True)


def test_after_a_quarantine_at_once_the_next_failure_is_a_longer_one():
    budget = Budget(RestartPolicy(), 0)
    budget.fail(1, at_once=True)
    budget.start(301)

    assert budget.fail(302) == Restart(600, is_quarantine=True)


def test_what_ran_well_after_a_quarantine_at_once_has_its_whole_budget():
    budget = Budget(RestartPolicy(), 0)
    budget.fail(1, at_once=True)
    budget.start(301)

    assert budget.fail(601) == Restart(1, is_quarantine=False)
