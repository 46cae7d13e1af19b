import logging

import pytest
from aiokafka import errors as kafka_errors

from aiopype.logs import about
from aiopype.logs.repeats import KINDS, WINDOW_SECONDS, Repeats


@pytest.fixture
def repeats(clock):
    return Repeats(clock)


@pytest.fixture
def told(repeats):
    """The texts that are written when these records come."""

    def take(*records):
        return [each.getMessage() for record in records for each in repeats.take(record)]

    return take


def test_the_first_of_a_kind_passes_and_the_others_are_counted(record, told, repeats, clock):
    assert told(*(record("no %d", n) for n in range(10_000))) == ["no 0"]

    clock.now += WINDOW_SECONDS

    assert [each.getMessage() for each in repeats.due()] == [
        "9,999 more times in 60 s, the last: no 9999"
    ]


def test_one_more_is_said_as_a_person_says_it(record, told, repeats, clock):
    told(record(), record())
    clock.now += WINDOW_SECONDS

    assert [r.getMessage() for r in repeats.due()] == ["1 more time in 60 s, the last: it fails"]


def test_a_kind_that_goes_on_is_told_once_a_window(record, told, clock):
    lines = []
    for _ in range(600):
        lines += told(record())
        clock.now += 1

    assert lines == [
        "it fails",
        "59 more times in 60 s, the last: it fails",
        *["60 more times in 60 s, the last: it fails"] * 8,
    ]


def test_a_kind_that_comes_again_after_a_quiet_window_is_news(record, told, clock):
    told(record())
    clock.now += WINDOW_SECONDS + 1

    assert told(record()) == ["it fails"]


@pytest.mark.parametrize(
    "other",
    [
        {"text": "another %s"},
        {"level": "ERROR"},
        {"component": "m.other"},
        {"error": LookupError("a")},
        {"apart": 7},
        {"name": "aiopype.transport.y"},
    ],
)
def test_what_differs_in_kind_is_told_at_once(record, told, other):
    text = other.pop("text", "it fails")

    assert len(told(record(), record(text, **other))) == 2


@pytest.mark.parametrize("other", [{"topic": "a"}, {"partition": 1}, {"offset": 5}])
def test_the_same_fault_elsewhere_is_the_same(record, told, other):
    assert len(told(record(), record(**other))) == 1


def test_errors_of_one_class_are_the_same_whatever_they_say(record, told):
    assert len(told(*(record("no: %s", OSError(n)) for n in range(5)))) == 1
    assert len(told(record("no: %s", TimeoutError()))) == 1


def test_news_below_warning_is_the_same_only_if_it_says_the_same(record, told):
    lines = told(*(record("topic %s is made", n, level="INFO") for n in "abaab"))

    assert lines == ["topic a is made", "topic b is made"]


def test_what_is_critical_always_passes(record, told):
    assert len(told(record(level="CRITICAL"), record(level="CRITICAL"))) == 2


def test_what_is_for_debugging_always_passes(record, told):
    assert len(told(record(level="DEBUG"), record(level="DEBUG"))) == 2


def test_what_a_users_program_logs_always_passes(told):
    records = [
        logging.LogRecord("aiopype.m.mine", logging.ERROR, "/app/flow.py", 1, "mine", None, None)
        for _ in range(3)
    ]

    assert len(told(*records)) == 3


@pytest.mark.parametrize("name", ["aiokafka.conn", "faust.app", "mode.worker", "asyncio"])
def test_what_libraries_log_is_counted_too(told, name):
    records = [
        logging.LogRecord(name, logging.ERROR, "/lib/x.py", 1, "no %s", (n,), None)
        for n in range(3)
    ]

    assert len(told(*records)) == 1


def test_what_a_program_prints_under_faust_always_passes(told):
    records = [
        logging.LogRecord("mode.redirect", logging.WARNING, "/lib/x.py", 1, "tick", None, None)
        for _ in range(3)
    ]

    assert len(told(*records)) == 3


def test_tasks_that_raise_the_same_are_the_same(told):
    records = [
        logging.LogRecord(
            "asyncio", logging.ERROR, "/lib/x.py", 1, f"never retrieved\nfuture: {n}", None, None
        )
        for n in range(3)
    ]

    assert len(told(*records)) == 1


def test_a_sum_says_what_the_last_was_about_and_has_no_traceback(record, repeats, clock):
    error = LookupError("a")
    for n in range(3):
        repeats.take(record(error=error, **about("m.w", "m.w.e", n, 10 + n)))
    clock.now += WINDOW_SECONDS

    (found,) = repeats.due()

    assert (found.levelname, found.name) == ("WARNING", "aiopype.transport.x")
    assert (found.component, found.topic, found.partition, found.offset) == ("m.w", "m.w.e", 2, 12)
    assert (found.times, found.error, found.exc_info) == (2, "LookupError", None)


def test_what_is_counted_keeps_no_argument(record, repeats):
    class Event:
        pass

    event = Event()
    for _ in range(3):
        repeats.take(record("%s", event))
    import gc  # noqa: PLC0415

    assert not [r for r in gc.get_referrers(event) if isinstance(r, tuple)]


def test_the_rest_is_all_that_is_counted(record, told, repeats, clock):
    told(record("a %d", 1), record("a %d", 2), record("b"), record("b"), record("c"))
    clock.now += 5

    assert [each.getMessage() for each in repeats.rest()] == [
        "1 more time in 5 s, the last: a 2",
        "1 more time in 5 s, the last: b",
    ]
    assert repeats.rest() == []


def test_kinds_are_bounded_and_none_is_lost(record, told):
    told(record("kind 0"), record("kind 0"))

    lines = told(*(record(f"kind {n}") for n in range(1, KINDS + 1)))

    assert len(lines) == KINDS + 1
    assert lines[KINDS - 1] == "1 more time in 60 s, the last: kind 0"


def test_it_says_when_the_first_sum_is_due(record, repeats, clock):
    repeats.take(record("a"))
    assert repeats.seconds_left() is None

    clock.now += 20
    repeats.take(record("a"))
    assert repeats.seconds_left() == 40

    clock.now += 60
    assert repeats.seconds_left() == 0
    repeats.due()
    assert repeats.seconds_left() is None


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("Unable connect to node with id %s: %s", (1, OSError("refused"))),
        ("Failed fetch messages from %s: %s", (1, kafka_errors.NodeNotReadyError())),
        ("Unable to update metadata from %s", ([1],)),
        ("Heartbeat session expired - marking coordinator dead", ()),
    ],
)
def test_what_aiokafka_says_while_a_broker_is_away_is_one_kind(told, text, args):
    def made(level, text, *args):
        return logging.LogRecord("aiokafka.x", level, "/lib/x.py", 1, text, args, None)

    first = made(logging.ERROR, "Failed: %s", kafka_errors.KafkaConnectionError("closed"))
    refused = made(logging.ERROR, "Failed: %s", kafka_errors.TopicAuthorizationFailedError("t"))

    assert len(told(first, made(logging.WARNING, text, *args), refused)) == 2
