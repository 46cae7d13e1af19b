"""The parts of the fault suite as fixtures, and its results at the end of the run.

`pytest tests/faults -m faults` runs everything, without `-m` the short selection; `--guarantee`,
`--seed` and `--hours` are explained by `pytest --help`. Results are lines of JSON in the file that
AIOPYPE_FAULTS_REPORT names, or in each test's own folder; `python -m tests.faults.report FILE`
makes a table of them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from . import report
from .cluster import Cluster, free_ports
from .load import Load
from .proxy import Proxy
from .trial import Trial

RESULTS = pytest.StashKey[list[report.Result]]()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    results = config.stash.get(RESULTS, [])
    if results:
        terminalreporter.section("faults")
        for result in results:
            terminalreporter.write_line(str(result))


@pytest.fixture
def guarantee(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--guarantee"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    given = request.config.getoption("--seed")
    return random.randrange(10_000) if given is None else int(given)


@pytest.fixture
def record(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[report.Result], None]:
    """Keep a result."""
    path = Path(os.environ.get("AIOPYPE_FAULTS_REPORT", tmp_path / "faults.jsonl"))

    def keep(result: report.Result) -> None:
        print(result)
        report.append(path, result)
        request.config.stash.setdefault(RESULTS, []).append(result)

    return keep


@pytest.fixture
def load(kafka: str, guarantee: str) -> Load:
    return Load(kafka, guarantee)


@pytest.fixture
def new_trial(
    kafka: str, guarantee: str, start: Any, record: Any, seed: int
) -> Iterator[Callable[..., Trial]]:
    """Make a trial; on the run's broker if no cluster is given, other options as for `Trial`."""
    trials: list[Trial] = []

    def make(cluster: Cluster | None = None, **options: Any) -> Trial:
        load = Load(cluster.address, guarantee, replication=cluster.replication) if cluster else (
            Load(kafka, guarantee)
        )  # fmt: skip
        trials.append(Trial(load, start, record, seed, **options))
        return trials[-1]

    yield make
    for trial in trials:
        trial.checker.close()


@pytest.fixture
def trial(new_trial: Callable[..., Trial]) -> Trial:
    """A trial on the run's broker."""
    return new_trial()


@pytest.fixture
def new_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cluster]]:
    """Start brokers of this test's own; options as for `Cluster`."""
    clusters: list[Cluster] = []

    def make(**options: Any) -> Cluster:
        cluster = Cluster(tmp_path_factory.mktemp("cluster"), **options)
        clusters.append(cluster)
        cluster.start()
        return cluster

    yield make
    for cluster in clusters:
        cluster.close()


@pytest.fixture
def proxied(new_cluster: Callable[..., Cluster]) -> Iterator[tuple[Cluster, Proxy]]:
    """A broker with two listeners, of which one has a proxy before it."""
    own, shown = free_ports(2)
    # The braces are for the cluster, which knows a broker's own ports.
    plain, controller = "PLAINTEXT://127.0.0.1:{port}", "CONTROLLER://127.0.0.1:{controller}"
    cluster = new_cluster(
        settings=(
            f"listeners={plain},CUT://127.0.0.1:{own},{controller}",
            f"advertised.listeners={plain},CUT://127.0.0.1:{shown}",
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CUT:PLAINTEXT",
            "inter.broker.listener.name=PLAINTEXT",
        )
    )
    proxy = Proxy(shown, own)
    yield cluster, proxy
    proxy.close()
