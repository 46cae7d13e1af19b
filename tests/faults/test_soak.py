"""Random faults for as long as one likes: nothing is lost, memory stays flat.

A minute without `--hours`, `--hours 0.5` for half an hour; the seed decides which faults come.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from .trial import SESSION_SECONDS, Trial

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.long]

SAMPLE_SECONDS = 10.0
FAULT_SECONDS = 30.0

#: By how much a worker's memory may grow in an hour, in MB, over the last two thirds of a run.
#: Less cannot be told from noise in half an hour.
GROWTH_MB = 20.0

#: A run that is shorter says nothing of memory: Python and the broker's client warm up.
FLAT_FROM_SECONDS = 900.0


class Memory:
    """Memory of a process, sampled from outside: (seconds since its first sample, MB)."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []

    def growth(self) -> float:
        """The slope of the last two thirds, in MB an hour."""
        late = self.samples[len(self.samples) // 3 :]
        seconds, sizes = zip(*late, strict=True)
        return statistics.linear_regression(seconds, sizes).slope * 3600


@contextmanager
def sampled(process: psutil.Process) -> Iterator[Memory]:
    """Sample a process while the block runs."""
    memory, ended = Memory(), threading.Event()

    def sample() -> None:
        began = time.monotonic()
        while not ended.wait(SAMPLE_SECONDS):
            size = process.memory_info().rss / 1e6
            memory.samples.append((time.monotonic() - began, size))

    thread = threading.Thread(target=sample, name="memory sampler")
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()


class Storm:
    """Random faults of the second worker and of the broker; the first worker only freezes."""

    def __init__(self, trial: Trial, cluster: Any) -> None:
        self.trial = trial
        self.cluster = cluster
        self.counted: dict[str, int] = {}

    def strike(self) -> None:
        """Do one fault, and see events flow again."""
        kinds = ["kill", "terminate", "freeze", "pulse", "broker_stop", "broker_kill"]
        kind = self.trial.chance.choice([*kinds, "broker_freeze"])
        self.counted[kind] = self.counted.get(kind, 0) + 1
        print(f"{time.strftime('%H:%M:%S')} {kind}")
        getattr(self, kind)()
        self.trial.recovers()
        self.trial.up()

    def kill(self) -> None:
        self.trial.kill(self.trial.workers[1])
        self.trial.work()

    def terminate(self) -> None:
        self.trial.terminate(self.trial.workers[1])
        self.trial.work()

    def freeze(self) -> None:
        self.trial.freeze(self.trial.chance.choice(self.trial.workers), SESSION_SECONDS + 3)

    def pulse(self) -> None:
        self.trial.freeze(self.trial.chance.choice(self.trial.workers), SESSION_SECONDS - 3)

    def broker_stop(self) -> None:
        self.cluster.node.stop()
        self.cluster.start()

    def broker_kill(self) -> None:
        self.cluster.node.kill()
        self.cluster.start()

    def broker_freeze(self) -> None:
        self.cluster.node.freeze(self.trial.chance.uniform(2.0, 20.0))


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """How long the faults go on."""
    return float(request.config.getoption("--hours") * 3600 or 60.0)


@pytest.mark.timeout(0)
def test_random_faults_for_a_long_time(new_cluster: Any, new_trial: Any, seconds: float) -> None:
    cluster = new_cluster()
    trial = new_trial(cluster)
    trial.begin(workers=2)
    storm = Storm(trial, cluster)
    ends = time.monotonic() + seconds
    with sampled(psutil.Process(trial.workers[0].pid)) as memory:
        while time.monotonic() < ends:
            time.sleep(trial.chance.uniform(0.1, 1.0) * min(FAULT_SECONDS, seconds / 10))
            storm.strike()
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(storm.counted.items()))
    print(f"seed {trial.seed}: {told}; {memory.samples[-1][1]:.0f} MB")
    trial.finish(
        f"random faults for {seconds / 60:.0f} min", faults=sum(storm.counted.values()), within=120
    )
    if seconds >= FLAT_FROM_SECONDS:
        assert memory.growth() < GROWTH_MB, f"{memory.growth():.1f} MB an hour more"


@pytest.mark.timeout(0)
def test_memory_is_flat_under_a_steady_load(trial: Any, seconds: float) -> None:
    trial.begin(2_000)
    worker = trial.workers[0]
    with sampled(psutil.Process(worker.pid)) as memory:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(1)
            assert worker.process.poll() is None, worker.text[-3000:]
    growth, last = memory.growth(), memory.samples[-1][1]
    print(f"{last:.0f} MB after {seconds:.0f} s, {growth:+.1f} MB an hour")
    trial.finish(f"none, for {seconds / 60:.0f} min at 2,000/s", faults=0)
    if seconds >= FLAT_FROM_SECONDS:
        assert growth < GROWTH_MB, f"{growth:.1f} MB an hour more: {memory.samples}"
