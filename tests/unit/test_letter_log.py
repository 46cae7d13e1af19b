import logging

import pytest

from aiopype.letter_log import LINES_A_SECOND, LetterLog


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
    log.tell(logging.WARNING, "one")

    assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", "one")]


def test_a_few_a_second_are_logged_and_then_counted(log, clock, caplog):
    for n in range(100):
        log.tell(logging.WARNING, f"number {n}")
    assert len(caplog.records) == LINES_A_SECOND
    caplog.clear()

    clock.now += 1.0
    log.tell(logging.WARNING, "later")

    assert caplog.messages == [
        "in -> m.worker.handle: 97 more dead letters within a second",
        "later",
    ]


async def test_the_count_is_logged_though_no_letter_follows(log, clock, caplog, until):
    clock.now += 0.99
    log.tell(logging.WARNING, "first")
    clock.now += 0.98
    for _ in range(LINES_A_SECOND + 1):
        log.tell(logging.WARNING, "more")

    await until(lambda: "2 more dead letters" in caplog.text)


def test_few_letters_are_never_counted(log, clock, caplog):
    for n in range(10):
        clock.now += 1.0
        log.tell(logging.WARNING, f"number {n}")

    assert caplog.messages == [f"number {n}" for n in range(10)]
