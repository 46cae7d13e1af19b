import pytest

from aiopype.vitals import Vitals


@pytest.fixture
def errors():
    return []


@pytest.fixture
def vitals(errors):
    made = Vitals()
    made.begin(errors.append)
    return made


def test_attempts_are_counted_by_how_they_went(vitals, errors):
    vitals.succeeded()
    vitals.succeeded()
    vitals.failed(OSError("refused"))

    assert (vitals.ok, vitals.failures) == (2, 1)
    assert [str(error) for error in errors] == ["refused"]


def test_a_connection_that_breaks_is_an_error_and_no_attempt_that_failed(vitals, errors):
    vitals.connected()
    vitals.failed(OSError("cut"))
    vitals.failed(OSError("refused"))
    vitals.connected()

    assert (vitals.ok, vitals.failures, vitals.reconnects) == (2, 1, 1)
    assert len(errors) == 2


def test_what_goes_wrong_beside_is_an_error_alone(vitals, errors):
    vitals.note(LookupError())

    assert (vitals.ok, vitals.failures, len(errors)) == (0, 0, 1)


def test_a_start_after_a_failure_reconnects(vitals):
    vitals.starts(1.0)
    vitals.connected()
    vitals.starts(2.0)
    vitals.failed(OSError())
    vitals.connected()

    assert vitals.reconnects == 1
    assert vitals.failures == 1
    assert vitals.began_at == 1.0


def test_the_first_connection_of_a_worker_is_no_reconnect(vitals, errors):
    vitals.starts(1.0)
    vitals.connected()

    vitals.begin(errors.append)
    vitals.starts(9.0)
    vitals.connected()

    assert vitals.reconnects == 0
    assert vitals.ok == 2
    assert vitals.began_at == 9.0


def test_without_a_worker_errors_are_nobodys():
    vitals = Vitals()

    vitals.failed(OSError())

    assert vitals.failures == 1
