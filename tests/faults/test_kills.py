"""Workers that are killed, frozen and stopped under load."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from .trial import SESSION_SECONDS

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(300)]

EVENTS = 30_000
BACKLOG = 100_000
PAST_THE_SESSION = SESSION_SECONDS + 3  # its partitions have moved by then


def test_the_only_worker_is_killed_and_another_takes_its_place(trial: Any) -> None:
    trial.begin(4_000)
    time.sleep(trial.chance.uniform(0.5, 2.0))
    trial.kill(trial.workers[0])
    trial.work()
    trial.recovers()
    trial.finish("SIGKILL of the only worker, a new one at once")


def test_three_kills_in_the_middle_of_a_backlog(trial: Any) -> None:
    """At full speed batches are large, and one is in work nearly all the time."""
    trial.checker.fill(BACKLOG)
    for share in (0.15, 0.4, 0.65):
        worker = trial.work()
        wanted = BACKLOG * share * trial.chance.uniform(0.8, 1.2)
        trial.until(lambda w=wanted: trial.checker.counts.total >= w, 60, "a part is out")
        trial.kill(worker)
    trial.work()
    trial.up()
    trial.finish("SIGKILL of the only worker in the middle of a backlog of 100,000", faults=3)


@pytest.mark.long
def test_a_frozen_worker_wakes_after_its_partitions_have_moved(trial: Any) -> None:
    trial.begin(workers=2)
    trial.freeze(trial.workers[0], PAST_THE_SESSION)
    trial.recovers()
    trial.finish("SIGSTOP of one of two workers, 13 s")


@pytest.mark.long
def test_five_kills_six_seconds_apart(trial: Any) -> None:
    trial.begin(1_000, EVENTS)
    for _ in range(5):
        time.sleep(6)
        trial.kill(trial.workers[0])
        trial.work()
    trial.checker.wait_fed(60)
    trial.finish("SIGKILL of the only worker every 6 s", faults=5)


@pytest.mark.long
def test_five_kills_each_when_events_flow_again(trial: Any) -> None:
    trial.begin(1_000)
    for _ in range(5):
        time.sleep(trial.chance.uniform(0.5, 3.0))
        trial.kill(trial.workers[0])
        trial.work()
        trial.recovers()
    trial.finish("SIGKILL of the only worker, each time events flow", faults=5)


@pytest.mark.long
def test_five_kills_of_one_of_two_workers(trial: Any) -> None:
    trial.begin(1_000, workers=2)
    for _ in range(5):
        time.sleep(trial.chance.uniform(0.5, 3.0))
        trial.kill(trial.chance.choice(trial.workers))
        trial.recovers()  # with the one that is left
        trial.work()
        trial.up()
    trial.finish("SIGKILL of one of two workers", faults=5)


@pytest.mark.long
def test_five_freezes_past_the_session(trial: Any) -> None:
    trial.begin(4_000, workers=2)
    for _ in range(5):
        time.sleep(trial.chance.uniform(0.5, 3.0))
        trial.freeze(trial.chance.choice(trial.workers), PAST_THE_SESSION)
        trial.recovers()
    trial.finish("SIGSTOP of one of two workers past its session, at 4,000/s", faults=5)


@pytest.mark.long
def test_the_only_worker_is_frozen_past_its_session(trial: Any) -> None:
    trial.begin(1_000)
    for _ in range(2):
        trial.freeze(trial.workers[0], PAST_THE_SESSION)
        trial.recovers()
    trial.finish("SIGSTOP of the only worker past its session", faults=2)


def test_sigterm_under_load_ends_a_worker_in_time_and_repeats_nothing(trial: Any) -> None:
    trial.begin(4_000)
    trial.terminate(trial.workers[0])
    trial.work()
    trial.recovers(5.0 + 5.0)  # nobody waits for the session of one that left the group
    result = trial.finish("SIGTERM of the only worker, a new one at once")
    # What was in work was finished and committed.
    assert result.repeated == 0


@pytest.mark.long
def test_a_second_sigterm_changes_nothing(trial: Any) -> None:
    trial.begin(4_000, workers=2)
    worker = trial.workers.pop(0)
    worker.send(signal.SIGTERM)
    time.sleep(0.02)
    worker.send(signal.SIGTERM)
    # When the second one comes, everything may be done but the end of the interpreter.
    assert worker.wait(15) == 0 or "aiopype.worker: stopped" in worker.text, worker.text[-3000:]
    trial.recovers()
    trial.finish("SIGTERM twice, 0.02 s apart, of one of two workers")


@pytest.mark.long
def test_sigterm_while_a_worker_starts_ends_it(trial: Any) -> None:
    trial.begin(workers=1)
    for tenths in range(2, 22, 2):
        worker = trial.work()
        time.sleep(tenths / 10)
        trial.terminate(worker)
    trial.recovers()
    trial.finish("SIGTERM of a second worker 0.2 to 2 s after its start", faults=10)


@pytest.mark.long
def test_sigterm_during_a_rebalance_ends_a_worker(trial: Any) -> None:
    trial.begin(workers=2)
    for _ in range(3):
        newcomer = trial.work()
        trial.until(lambda w=newcomer: "partitions" in w.text or "joining" in w.text.lower(), 30,
                    "the newcomer joins")  # fmt: skip
        trial.terminate(trial.workers[0])
        trial.recovers()
    trial.finish("SIGTERM of a worker while another one joins", faults=3)
