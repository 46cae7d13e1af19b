"""Ten sources and three workers, and every end an owner can have: each runs on one of them."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from .owners import Owners, takeovers

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(400)]

SESSION_SECONDS = 10.0

#: How long nobody may run a source: after a stop that was asked for, and after one that was not.
HANDOVER_SECONDS, FAILOVER_SECONDS = 3.0, SESSION_SECONDS + 5.0


@pytest.fixture
def new_owners(start: Any, records: Any, wait_until: Any) -> Callable[[str], Owners]:
    """Start three workers on a broker; return when each has its share."""

    def make(broker: str) -> Owners:
        owners = Owners(broker, start, records, wait_until)
        for _ in range(3):
            owners.work()
        owners.up()
        owners.spreads(4, 3, 3)
        return owners

    return make


@pytest.fixture
def owners(new_owners: Any, kafka: str) -> Owners:
    return new_owners(kafka)


def test_each_end_of_an_owner(owners: Owners, record: Any, seed: int) -> None:
    chance = random.Random(seed)
    gaps = {fault: _do(owners, fault, chance) for fault in ("terminate", "kill", "freeze")}

    for fault, gap in gaps.items():
        record(owners.result(f"{NAMES[fault]} of an owner of sources", seed, 1, gap))
    assert gaps["terminate"] < HANDOVER_SECONDS
    assert max(gaps.values()) < FAILOVER_SECONDS
    owners.ended().check()


@pytest.mark.long
def test_ten_random_ends_of_owners(owners: Owners, record: Any, seed: int) -> None:
    chance = random.Random(seed)
    faults = ["kill"] * 4 + ["freeze"] * 3 + ["terminate"] * 3
    gaps: dict[str, float] = {}
    for fault in chance.sample(faults, len(faults)):
        gaps[fault] = max(gaps.get(fault, 0.0), _do(owners, fault, chance))

    for fault, gap in gaps.items():
        what = f"{NAMES[fault]} of owners of sources, among ten faults at random"
        record(owners.result(what, seed, faults.count(fault), gap))
    assert gaps["terminate"] < HANDOVER_SECONDS
    assert max(gaps.values()) < FAILOVER_SECONDS
    owners.ended().check()


@pytest.mark.long
def test_owners_are_frozen_again_and_again_for_less_than_their_session(
    owners: Owners, record: Any, seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(20):
        victim = chance.choice(owners.workers)
        victim.send(signal.SIGSTOP)
        time.sleep(chance.uniform(0.1, 6.0))
        victim.send(signal.SIGCONT)
        time.sleep(chance.uniform(0.0, 1.0))
    owners.spreads(4, 3, 3)

    owners.ended().check()
    record(owners.result("SIGSTOP of owners of sources, 0.1 to 6 s", seed, 20, None))


@pytest.mark.long
@pytest.mark.parametrize("seconds", [1, 20])
def test_the_broker_is_killed_and_comes_back(
    new_owners: Any, new_cluster: Any, record: Any, seed: int, seconds: int
) -> None:
    cluster = new_cluster()
    owners = new_owners(cluster.address)
    cluster.node.kill()
    time.sleep(seconds)
    cluster.start()
    back = time.time()
    owners.spreads(4, 3, 3, seconds=60)

    gap = min(event.seconds for event in owners.read()[0] if event.seconds > back) - back
    owners.ended().check()
    what = f"kill -9 of the only broker under sources, back after {seconds} s"
    record(owners.result(what, seed, 1, gap))


@pytest.mark.long
def test_the_broker_is_frozen(new_owners: Any, new_cluster: Any, record: Any, seed: int) -> None:
    cluster = new_cluster()
    owners = new_owners(cluster.address)
    cluster.node.freeze(30)
    owners.spreads(4, 3, 3, seconds=60)

    owners.ended().check()
    record(owners.result("SIGSTOP of the only broker under sources, 30 s", seed, 1, None))


@pytest.mark.long
def test_an_owner_that_is_cut_off_stops_before_another_begins(
    new_owners: Any, proxied: Any, record: Any, seed: int
) -> None:
    cluster, proxy = proxied
    owners = new_owners(cluster.address)
    cut_off = owners.work(proxy.address)
    owners.up()
    owners.spreads(3, 3, 2, 2)

    proxy.cut()
    at = time.time()
    owners.spreads(4, 3, 3)
    assert cut_off.pid not in owners.owners(since=at + 1).values()
    stopped = owners.last_run(cut_off)
    first = min(t.at_seconds for t in takeovers(owners.read()) if t.at_seconds > at + 3)
    proxy.heal()
    owners.spreads(3, 3, 2, 2)

    assert at < stopped < first
    owners.ended().check()
    record(owners.result("network of an owner of sources cut", seed, 1, first - at))


NAMES = {"terminate": "SIGTERM", "kill": "SIGKILL", "freeze": "SIGSTOP"}


def _do(owners: Owners, fault: str, chance: random.Random) -> float:
    """Do this to an owner; return how long nobody wrote of the source that waited longest.

    Sources that move only so that all have their share are handed over by a living owner.
    """
    running = set(owners.owners(since=time.time() - 2).values())
    victim = chance.choice([worker for worker in owners.workers if worker.pid in running])
    at = time.time()
    if fault == "freeze":
        victim.send(signal.SIGSTOP)
        time.sleep(SESSION_SECONDS + 3)
        victim.send(signal.SIGCONT)
    else:
        getattr(owners, fault)(victim)
        owners.spreads(5, 5, seconds=FAILOVER_SECONDS + 5)
        owners.work()
        owners.up()
    owners.spreads(4, 3, 3)
    return max(t.gap_seconds for t in takeovers(owners.read()) if t.at_seconds >= at)
