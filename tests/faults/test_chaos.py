"""Two workers under a steady load, while they are killed, frozen and stopped at random."""

from __future__ import annotations

import time
from typing import Any

import pytest

from .trial import SESSION_SECONDS

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(300)]


SOME = {"kill": 1, "freeze": 1, "terminate": 1}
MANY = {"kill": 4, "freeze": 3, "terminate": 3}


@pytest.mark.parametrize("counts", [SOME, pytest.param(MANY, marks=pytest.mark.long)])
def test_random_faults_of_two_workers(trial: Any, counts: dict[str, int]) -> None:
    faults = [fault for fault, count in counts.items() for _ in range(count)]
    faults = trial.chance.sample(faults, len(faults))
    print(f"seed {trial.seed}: {faults}")
    trial.begin(2_000, workers=2)
    for fault in faults:
        victim = trial.chance.choice(trial.workers)
        if fault == "freeze":
            trial.freeze(victim, SESSION_SECONDS + 3)
        else:
            getattr(trial, fault)(victim)
            trial.work()
        # The next one comes soon, while the group may still be busy with this one.
        time.sleep(trial.chance.uniform(0.5, 3.0))
    trial.recovers(2 * SESSION_SECONDS + 5)
    trial.up()
    trial.finish("SIGKILL, SIGSTOP, SIGTERM of two workers at random", faults=len(faults))


def test_one_worker_becomes_three_and_one_again(trial: Any) -> None:
    trial.begin(2_000)
    for _ in range(2):
        trial.work()
        time.sleep(4)
    for worker in trial.workers[:2]:
        trial.terminate(worker)
        time.sleep(2)
    result = trial.finish("one worker, three, one again", faults=0)
    # Nobody was killed: what was finished was committed before partitions moved.
    assert result.repeated == 0
