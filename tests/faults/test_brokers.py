"""Brokers that restart, are killed, freeze, and have no more room on their disk."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiopype.broker.properties import DATA

from .cluster import Cluster
from .load import AdminClient

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(420)]


def test_the_only_broker_restarts(new_cluster: Any, new_trial: Any) -> None:
    cluster = new_cluster()
    trial = new_trial(cluster)
    trial.begin(workers=2)
    cluster.node.stop()
    time.sleep(1)
    cluster.start()
    trial.recovers()
    trial.finish("restart of the only broker")


@pytest.mark.long
def test_the_only_broker_restarts_five_times_killed_or_not(
    new_cluster: Any, new_trial: Any
) -> None:
    cluster = new_cluster()
    trial = new_trial(cluster)
    trial.begin(workers=2)
    for round_ in range(5):
        time.sleep(trial.chance.uniform(1.0, 4.0))
        (cluster.node.stop if round_ % 2 else cluster.node.kill)()
        time.sleep(trial.chance.uniform(0.0, 3.0))
        cluster.start()
        trial.recovers()
    trial.finish("kill -9 and restart of the only broker, in turn", faults=5)


@pytest.mark.long
@pytest.mark.parametrize("seconds", [5, 30, 90])
def test_the_only_broker_freezes(new_cluster: Any, new_trial: Any, seconds: int) -> None:
    cluster = new_cluster()
    trial = new_trial(cluster)
    trial.begin(workers=2)
    cluster.node.freeze(seconds)
    trial.recovers()
    trial.finish(f"SIGSTOP of the only broker, {seconds} s")


@pytest.mark.long
@pytest.mark.parametrize("topic", ["__consumer_offsets", "__transaction_state"])
def test_the_broker_that_coordinates_is_killed(
    new_cluster: Any, new_trial: Any, topic: str
) -> None:
    cluster = new_cluster(size=3)
    trial = new_trial(cluster)
    if topic == "__transaction_state" and trial.load.guarantee != "exactly_once":
        pytest.skip("at least once there are no transactions")
    trial.begin(workers=2)

    async def leader() -> Any:
        async with AdminClient(cluster.address) as admin:
            return await cluster.leader(admin, topic)

    for _ in range(3):
        node = trial.checker.run(leader())
        assert node is not None, f"{topic} has no leader"
        node.kill()
        # The two that are left are enough: the fault ends when the cluster has noticed.
        trial.recovers()
        cluster.start()
        time.sleep(5)  # until its replicas are in sync, or the next kill leaves too few
    trial.finish(f"kill -9 of the leader of {topic}, one of three brokers", faults=3)


@pytest.mark.long
def test_three_brokers_restart_one_after_the_other(new_cluster: Any, new_trial: Any) -> None:
    cluster = new_cluster(size=3)
    trial = new_trial(cluster)
    trial.begin(workers=2)
    for node in cluster.nodes:
        node.stop()
        time.sleep(2)
        cluster.start()
        time.sleep(5)
        trial.recovers()
    trial.finish("restart of three brokers, one after the other", faults=3)


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], None]]:
    """Mount a file system of 96 MB on a folder; needs root."""
    mounted: list[Path] = []

    def mount(folder: Path) -> None:
        command = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)

    if os.geteuid():
        pytest.skip("mounting a small file system for the broker needs root")
    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until there is no more room."""
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 65_536)


@pytest.mark.long
def test_the_brokers_disk_is_full_for_a_while(
    small_disk: Any, tmp_path: Path, new_trial: Any
) -> None:
    cluster = Cluster(tmp_path / "cluster")
    disk = cluster.node.folder / DATA
    small_disk(disk)
    try:
        cluster.start()
        trial = new_trial(cluster)
        trial.begin(workers=2)
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space left"):
            fill(filler)
        # Kafka takes a folder it cannot write for broken, and without any it ends.
        trial.until(lambda: not cluster.node.runs, 60, "the broker ends")
        filler.unlink()
        cluster.node.stop()
        cluster.start()
        trial.recovers()
        trial.finish("the broker's disk is full until it ends; room, and a restart")
    finally:
        cluster.close()
