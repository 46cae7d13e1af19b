import logging

import pytest

from aiopype.dead_letters import DeadLetter
from aiopype.letter_log import LINES_A_SECOND, LetterLog
from aiopype.logs import Lines

LETTER = DeadLetter(
    component="m.worker",
    error="ValueError",
    message="no",
    at_ms=1,
    topic="in",
    partition=3,
    offset=7,
)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(clock):
    return LetterLog("in -> m.worker.handle", clock)


def test_a_letter_is_logged(log, caplog):
    log.tell(logging.WARNING, "one", LETTER)

    assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", "one")]


def test_the_line_says_what_the_letter_is_about(log, caplog):
    log.tell(logging.WARNING, "one", LETTER)

    said = vars(caplog.records[0])
    assert {name: said[name] for name in ("component", "topic", "partition", "offset")} == {
        "component": "m.worker",
        "topic": "in",
        "partition": 3,
        "offset": 7,
    }
    assert said["dead_letter"] is LETTER


def test_a_few_a_second_are_logged_and_then_counted(log, clock, caplog):
    for n in range(100):
        log.tell(logging.WARNING, f"number {n}", LETTER)
    assert len(caplog.records) == LINES_A_SECOND
    caplog.clear()

    clock.now += 1.0
    log.tell(logging.WARNING, "later", LETTER)

    assert caplog.messages == [
        "in -> m.worker.handle: 97 more dead letters within a second",
        "later",
    ]


async def test_the_count_is_logged_though_no_letter_follows(log, clock, caplog, until):
    clock.now += 0.99
    log.tell(logging.WARNING, "first", LETTER)
    clock.now += 0.98
    for _ in range(LINES_A_SECOND + 1):
        log.tell(logging.WARNING, "more", LETTER)

    await until(lambda: "2 more dead letters" in caplog.text)


def test_few_letters_are_never_counted(log, clock, caplog):
    for n in range(10):
        clock.now += 1.0
        log.tell(logging.WARNING, f"number {n}", LETTER)

    assert caplog.messages == [f"number {n}" for n in range(10)]


def test_where_the_log_sums_up_each_letter_is_given_to_it(log, caplog, capsys, monkeypatch):
    lines = Lines()
    monkeypatch.setattr(logging.getLogger(), "handlers", [lines, caplog.handler])

    for n in range(100):
        log.tell(logging.WARNING, f"number {n}", LETTER)
    lines.close()

    assert len(caplog.records) == 100
    assert capsys.readouterr().err.splitlines() == [
        "number 0",
        "99 more times in 1 s, the last: number 99",
    ]
