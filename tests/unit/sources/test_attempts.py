import pytest

from aiopype.errors import CircuitOpen
from aiopype.sources.attempts import JITTER, Attempts
from aiopype.sources.options import SourceOptions
from aiopype.vitals import Vitals

REFUSED = OSError("refused")


@pytest.fixture
def make():
    """Makes attempts with these options, without jitter."""

    def attempts(jitter=lambda least, most: 1.0, **options):
        return Attempts(SourceOptions(**options), Vitals(), jitter)

    return attempts


def test_the_delay_doubles_from_error_to_error_up_to_the_longest(make):
    attempts = make(first_delay_seconds=2, last_delay_seconds=15)

    assert [attempts.failed(REFUSED) for _ in range(6)] == [2, 4, 8, 15, 15, 15]


def test_a_longest_delay_below_the_first_is_the_delay(make):
    attempts = make(first_delay_seconds=60, last_delay_seconds=5)

    assert attempts.failed(REFUSED) == 5


def test_a_success_begins_anew(make):
    attempts = make()
    for _ in range(5):
        attempts.failed(REFUSED)

    attempts.succeeded()

    assert attempts.failures == 0
    assert attempts.failed(REFUSED) == 1


def test_errors_are_counted(make):
    attempts = make()

    for _ in range(3):
        attempts.failed(REFUSED)

    assert attempts.failures == 3


def test_delays_are_spread(make):
    asked = []
    attempts = make(lambda least, most: asked.append((least, most)) or most)

    assert attempts.failed(REFUSED) == pytest.approx(1 + JITTER)
    assert asked == [(1 - JITTER, 1 + JITTER)]


def test_without_a_jitter_of_the_tests_two_sources_do_not_come_at_once():
    delays = {Attempts(SourceOptions(), Vitals()).failed(REFUSED) for _ in range(10)}

    assert len(delays) > 1
    assert all(1 - JITTER <= delay <= 1 + JITTER for delay in delays)


def test_who_is_asked_to_wait_longer_waits_longer(make):
    attempts = make()

    assert attempts.failed(REFUSED, at_least_seconds=30) == 30
    assert attempts.failed(REFUSED, at_least_seconds=0.5) == 2


def test_ten_thousand_errors_have_a_delay(make):
    attempts = make(exception_threshold=20_000)

    for _ in range(10_000):
        delay = attempts.failed(REFUSED)

    assert delay == 60


# --- what is counted


def test_each_attempt_is_counted_once_and_each_error():
    vitals, errors = Vitals(), []
    vitals.begin(errors.append)
    attempts = Attempts(SourceOptions(exception_threshold=2), vitals)

    attempts.succeeded()
    attempts.connected()
    attempts.recovered()
    attempts.failed(REFUSED)  # the connection's, which was made
    with pytest.raises(CircuitOpen):
        attempts.failed(REFUSED)

    assert (vitals.ok, vitals.failures, vitals.reconnects) == (2, 1, 0)
    assert errors == [REFUSED, REFUSED]


def test_a_connection_that_was_only_made_closes_no_circuit(make):
    attempts = make()
    attempts.failed(REFUSED)

    attempts.connected()
    assert attempts.failures == 1

    attempts.recovered()
    assert attempts.failures == 0


# --- the circuit


def test_one_error_too_many_opens_the_circuit_and_says_why(make):
    attempts = make(exception_threshold=3)
    attempts.failed(REFUSED)
    attempts.failed(REFUSED)

    with pytest.raises(
        CircuitOpen, match=r"3 errors in a row, the last: OSError: refused"
    ) as open_:
        attempts.failed(REFUSED)
    assert open_.value.__cause__ is REFUSED


def test_an_open_circuit_knows_how_long_the_upstream_wants_to_be_left_alone(make):
    with pytest.raises(CircuitOpen) as circuit:
        make(exception_threshold=1).failed(REFUSED, at_least_seconds=3_600)

    assert circuit.value.at_least_seconds == 3_600


def test_with_a_threshold_of_one_the_first_error_opens_it(make):
    with pytest.raises(CircuitOpen):
        make(exception_threshold=1).failed(REFUSED)


def test_only_errors_in_a_row_open_it(make):
    attempts = make(exception_threshold=3)

    for _ in range(5):
        attempts.failed(REFUSED)
        attempts.failed(REFUSED)
        attempts.succeeded()

    assert attempts.failures == 0


def test_an_open_circuit_is_on_trial_the_next_error_opens_it_again(make):
    attempts = make(exception_threshold=3)
    open_it(attempts, 3)

    with pytest.raises(CircuitOpen, match="4 errors in a row"):
        attempts.failed(REFUSED)


def test_a_success_closes_an_open_circuit(make):
    attempts = make(exception_threshold=3)
    open_it(attempts, 3)

    attempts.succeeded()

    assert attempts.failed(REFUSED) == 1
    open_it(attempts, 2)


def open_it(attempts, errors):
    for _ in range(errors - 1):
        attempts.failed(REFUSED)
    with pytest.raises(CircuitOpen):
        attempts.failed(REFUSED)
