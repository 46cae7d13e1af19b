import pytest

from aiopype import PermanentError, Retry, TemporaryError
from aiopype.errors import CodecError, EmitError, OutputTooLarge


def test_delays_double_up_to_the_longest():
    retry = Retry(tries=99, seconds=1_000, first_delay_seconds=1, last_delay_seconds=5)

    assert [retry.delay(OSError(), tries, 0) for tries in range(1, 6)] == [1, 2, 4, 5, 5]


def test_the_default_tries_ten_times_in_about_fifty_seconds():
    waited, tries = 0.0, 1
    while (delay := Retry().delay(OSError(), tries, waited)) is not None:
        waited += delay
        tries += 1

    assert tries == 10
    assert 45 < waited < 55


def test_there_is_no_try_after_the_last():
    assert Retry(tries=3).delay(OSError(), 3, 0) is None


def test_no_try_begins_after_the_time_is_over():
    retry = Retry(seconds=10, first_delay_seconds=4)

    assert retry.delay(OSError(), 1, 6.0) == 4
    assert retry.delay(OSError(), 1, 6.1) is None


@pytest.mark.parametrize("error", [PermanentError, CodecError, EmitError, OutputTooLarge])
def test_what_will_never_succeed_is_not_tried_again(error):
    assert Retry().delay(error("no"), 1, 0) is None


def test_a_temporary_error_says_the_delay():
    assert Retry().delay(TemporaryError(30), 1, 0) == 30
    assert Retry().delay(TemporaryError("busy", delay=3), 5, 0) == 3
    assert Retry().delay(TemporaryError("busy"), 1, 0) == 0.1


def test_the_delay_of_a_temporary_error_is_bounded_as_any():
    assert Retry(seconds=20).delay(TemporaryError(30), 1, 0) is None
    assert Retry(tries=1).delay(TemporaryError(1), 1, 0) is None


def test_a_delay_is_never_negative():
    assert Retry().delay(TemporaryError(-5), 1, 0) == 0


def test_a_great_number_of_tries_has_a_delay_too():
    assert Retry(tries=10**9).delay(OSError(), 10**6, 0) == 30


@pytest.mark.parametrize(
    "arguments",
    [{"tries": 0}, {"seconds": -1}, {"first_delay_seconds": -1}, {"last_delay_seconds": -0.1}],
)
def test_what_makes_no_sense_is_refused(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"Retry\({name}="):
        Retry(**arguments)
