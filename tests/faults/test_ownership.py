"""Ten sources and three workers that are killed, frozen and stopped: each runs on one of them."""

from __future__ import annotations

import random
import signal
import time
from typing import Any

import pytest

from .owners import Owners, check, takeovers
from .report import Result

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(400)]

SESSION_SECONDS = 10.0

#: How long nobody may run a source: after a stop that was asked for, and after one that was not.
HANDOVER_SECONDS, FAILOVER_SECONDS = 3.0, SESSION_SECONDS + 5.0


@pytest.fixture
def owners(kafka: str, start: Any, records: Any, wait_until: Any) -> Owners:
    return Owners(kafka, start, records, wait_until)


def test_ten_sources_are_spread_over_three_workers_and_survive_each_of_their_ends(
    owners: Owners, record: Any, seed: int
) -> None:
    _run(owners, record, seed, ["terminate", "kill", "freeze"])


@pytest.mark.long
def test_ten_random_faults_of_owners(owners: Owners, record: Any, seed: int) -> None:
    faults = ["kill"] * 4 + ["freeze"] * 3 + ["terminate"] * 3
    _run(owners, record, seed, random.Random(seed).sample(faults, len(faults)))


def _run(owners: Owners, record: Any, seed: int, faults: list[str]) -> None:
    chance = random.Random(seed)
    for _ in range(3):
        owners.work()
    owners.up()
    owners.spreads(4, 3, 3)
    done = []
    for fault in faults:
        running = set(owners.owners(time.time() - 2).values())
        victim = chance.choice([worker for worker in owners.workers if worker.pid in running])
        done.append((time.time(), fault))
        if fault == "freeze":
            victim.send(signal.SIGSTOP)
            time.sleep(SESSION_SECONDS + 3)
            victim.send(signal.SIGCONT)
        else:
            getattr(owners, fault)(victim)
        if fault == "kill":
            owners.spreads(5, 5, seconds=20)
        if fault != "freeze":
            owners.work()
        owners.up()
        owners.spreads(4, 3, 3)
    for worker in list(owners.workers):
        owners.terminate(worker)

    written = owners.read()
    lost, repeated, interleaved = check(written)
    for fault in sorted(set(faults)):
        # Sources that are moved for evenness alone are handed over while their owner lives.
        gaps = [
            takeover.gap_seconds
            for at, kind in done
            if kind == fault
            for takeover in takeovers(written)
            if at <= takeover.at_seconds <= at + FAILOVER_SECONDS
        ]
        record(
            Result(
                fault=f"owner of sources: {fault}", guarantee="exactly_once", seed=seed,
                faults=faults.count(fault), events=sum(map(len, written.values())), lost=lost,
                repeated=repeated, out_of_order=interleaved, dead_letters=0, aborted=0,
                seconds=max(gaps),
            )
        )  # fmt: skip
        assert max(gaps) < (HANDOVER_SECONDS if fault == "terminate" else FAILOVER_SECONDS)
    assert (lost, repeated, interleaved) == (0, 0, 0)
