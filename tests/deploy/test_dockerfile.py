"""The worker's image: what its Dockerfile says, and what of it runs without an engine."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from . import compose, image
from .image import DOCKERFILE, REPOSITORY, Image, can_confine, stages, values

pytestmark = pytest.mark.deploy

GUIDE = REPOSITORY / "docs/compose.md"


@pytest.fixture(scope="module")
def final() -> list[image.Instruction]:
    return stages()[-1]


# --- what it says


def test_the_linter_finds_nothing() -> None:
    assert compose.dockerfile_findings(DOCKERFILE) == ""


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("USER 10001:10001", "USER root", "DL3002"),
        ('CMD ["run"]', "CMD run", "DL3025"),
        ("WORKDIR /flow", "WORKDIR flow", "DL3000"),
        ("EXPOSE 6066", "EXPOSE 606600", "DL3011"),
        ("RUN pip install", "RUN apt-get install gcc && pip install", "DL3008"),
        ("COPY --from=build", "COPI --from=build", "unexpected"),
    ],
)
def test_the_linter_finds_what_is_wrong(tmp_path: Path, old: str, new: str, rule: str) -> None:
    text = DOCKERFILE.read_text()
    assert old in text
    (tmp_path / "Dockerfile").write_text(text.replace(old, new))
    assert rule in compose.dockerfile_findings(tmp_path / "Dockerfile")


def test_the_base_is_a_version_and_the_last_stage_builds_nothing(
    final: list[image.Instruction],
) -> None:
    (base,) = re.findall(r"^ARG PYTHON=(.*)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert re.fullmatch(r"3\.\d+\.\d+-slim-[a-z]+", base)
    assert values(final, "FROM") == ["python:${PYTHON}"]
    assert not any("pip" in run or "apt" in run for run in values(final, "RUN"))


def test_the_user_is_a_number_and_not_root(final: list[image.Instruction]) -> None:
    assert values(final, "USER") == ["10001:10001"]


def test_it_runs_aiopype_itself_and_asks_it_for_its_health(final: list[image.Instruction]) -> None:
    assert image.command(final) == ["aiopype", "run"]
    (check,) = values(final, "HEALTHCHECK")
    assert check.endswith('CMD ["aiopype", "health", "live"]')


def test_only_what_is_copied_is_sent_to_the_engine() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().split("\n")
    taken = {line[1:] for line in lines if line.startswith("!")}
    copied = [v.split()[:-1] for v in values(stages()[0], "COPY")]
    assert "*" in lines
    assert taken == {name for names in copied for name in names}


def test_the_dockerfiles_of_the_guide_are_right(tmp_path: Path) -> None:
    found = re.findall(r"```dockerfile\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found
    for number, text in enumerate(found):
        (tmp_path / f"{number}.Dockerfile").write_text(text)
        assert compose.dockerfile_findings(tmp_path / f"{number}.Dockerfile") == ""


# --- what it does


@pytest.fixture(scope="module")
def built() -> Iterator[Image]:
    """The image's environment; pytest's own folders are closed to others than their owner."""
    folder = Path(tempfile.mkdtemp(prefix="aiopype-image-")).resolve()
    folder.chmod(0o755)
    try:
        found = Image(folder)
        found.build()
        yield found
    finally:
        shutil.rmtree(folder)


def test_it_has_the_package_and_nothing_beside_it(built: Image) -> None:
    (site,) = (built.venv / "lib").glob("python*/site-packages")
    assert list((site / "aiopype/demo").glob("*.csv"))
    for stray in ("topics", "tests", "benchmarks", "deploy", "docs"):
        assert not (site / stray).exists()


def test_versions_are_those_of_the_constraints(built: Image) -> None:
    listed = subprocess.run(
        ["pip", "freeze", "--exclude", "aiopype"], env=built.environ(), check=True,
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    pinned = {line.lower().replace("_", "-") for line in
              (REPOSITORY / "constraints.txt").read_text().split()}  # fmt: skip
    assert {line.lower().replace("_", "-") for line in listed.split()} <= pinned


def test_a_container_in_which_nothing_answers_is_not_healthy(built: Image, free_port: int) -> None:
    asked = subprocess.run(
        built.health_check(), env=built.environ(AIOPYPE_WEB_PORT=str(free_port)), check=False,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert asked.returncode == 1


def test_without_a_flow_it_says_how_one_is_named(built: Image) -> None:
    done = subprocess.run(
        built.command(), env=built.environ(), cwd=built.flow, check=False, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no flow is named: give TARGET, or set AIOPYPE_FLOW" in done.stderr


@pytest.mark.kafka
def test_the_demo_runs_as_in_a_container_and_ends_when_it_is_told_to(
    built: Image, kafka: str, free_port: int, wait_until: Callable[..., None], tmp_path: Path
) -> None:
    environ = built.environ(
        AIOPYPE_BROKER=kafka,
        AIOPYPE_NAMESPACE="image",
        AIOPYPE_FLOW="aiopype.demo.flow:dataflow",
        AIOPYPE_WEB_PORT=str(free_port),
    )
    log = tmp_path / "log.txt"

    def is_healthy(command: list[str]) -> bool:
        asked = subprocess.run(command, env=environ, check=False, capture_output=True, timeout=60)
        return asked.returncode == 0

    with log.open("wb") as output, subprocess.Popen(
        built.command(), env=environ, cwd=built.flow, stdout=output, stderr=subprocess.STDOUT
    ) as container:  # fmt: skip
        try:
            wait_until(lambda: is_healthy(["aiopype", "health", "ready"]), 90, log)
            assert is_healthy(built.health_check())
            wait_until((built.data / "demo/aapl.csv").exists, 60, log)
            worker = first_process(container.pid)
            check_confinement(worker, built)
            began = time.monotonic()
            worker.send_signal(signal.SIGTERM)
            assert container.wait(60) == 0, log.read_text()
            assert time.monotonic() - began < 30
        finally:
            container.kill()
    assert "stopped" in log.read_text()


def first_process(pid: int) -> psutil.Process:
    """Return what is process 1 in the namespace, or the process itself where there is none."""
    children = psutil.Process(pid).children() if can_confine() else []
    return children[0] if children else psutil.Process(pid)


def check_confinement(worker: psutil.Process, built: Image) -> None:
    """See that the worker has run without rights, where this user may take them away."""
    if not can_confine():
        return
    assert set(worker.uids()) == {10001}
    status = Path(f"/proc/{worker.pid}/status").read_text()
    assert re.search(r"^NSpid:\s+\d+\s+1$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    mounts = Path(f"/proc/{worker.pid}/mounts").read_text()
    writable = [m.split()[1] for m in mounts.splitlines() if " rw," in m]
    assert "/" not in writable
    assert str(built.data) in writable


@pytest.fixture
def free_port() -> Any:
    import socket  # noqa: PLC0415

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
