"""Workers with too few descriptors, too little memory, too little of a processor."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from .load import Load, program

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(180)]

LIMIT = """
    import resource
    resource.setrlimit(resource.RLIMIT_{what}, ({value}, {value}))
    """


def test_64_descriptors_are_enough(trial: Any) -> None:
    trial.program = program(head=LIMIT.format(what="NOFILE", value=64))
    trial.begin(workers=2)
    time.sleep(5)
    trial.finish("at most 64 open files")


def test_a_handler_that_leaks_descriptors_loses_nothing(trial: Any) -> None:
    head = LIMIT.format(what="NOFILE", value=64)
    hook = "OPEN.append(open(os.devnull))"
    trial.begin()
    starved = trial.work(program(hook, head=head + "OPEN = []\n", tries=1))
    trial.until(lambda: "Too many open files" in starved.text, 60, "they are used up")
    time.sleep(10)
    if starved.process.poll() is not None:  # it may end rather than go on with dead letters
        assert starved.process.poll() > 0
        trial.workers.remove(starved)
    trial.finish("a handler of one of two workers leaks descriptors, up to 64", letters=1)


def test_a_worker_without_descriptors_ends_with_a_status(kafka: str, start: Any) -> None:
    load = Load(kafka)
    worker = start(program(head=LIMIT.format(what="NOFILE", value=10)), **load.env)
    assert worker.wait(60) > 0
    assert "open files" in worker.text


def test_a_handler_that_asks_for_too_much_memory_fails_alone(trial: Any) -> None:
    head = LIMIT.format(what="AS", value=4_000_000_000)
    hook = "if (key, n) == (7, 20): bytearray(8_000_000_000)"
    trial.program = program(hook, head=head, tries=2)
    trial.begin()
    time.sleep(3)
    trial.finish("a handler asks for 8 GB where 4 are allowed", letters=1)


def test_a_tenth_of_a_processor_is_slow_but_right(trial: Any) -> None:
    trial.begin(200, workers=2)
    ends = time.monotonic() + 30
    while time.monotonic() < ends:  # as the kernel does with a quota
        for number, seconds in ((signal.SIGSTOP, 0.09), (signal.SIGCONT, 0.01)):
            for worker in trial.workers:
                worker.send(number)
            time.sleep(seconds)
    trial.recovers()
    trial.finish("a tenth of a processor for each of two workers, 30 s")
