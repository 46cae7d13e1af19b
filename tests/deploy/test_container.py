"""What Kubernetes would start is started here: files, environment, command, probes and stop."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .charts import container, merged, one, render, workload

pytestmark = [pytest.mark.deploy, pytest.mark.kafka]

PARTITIONS = 3

PROGRAM = """
import asyncio
from aiopype import AsyncFlow, Manager, Processor, Source

class Ticks(Source):
    async def start(self):
        while True:
            await self.emit_async("tick", 1)
            await asyncio.sleep(0.05)

class Printer(Processor):
    def show(self, number):
        print("handled", flush=True)

class Ticking(Manager):
    name = "ticking"
    def __init__(self, handler):
        super().__init__(handler)
        self.ticks = Ticks(self.build_processor_name("ticks"), handler)
        self.printer = Printer(self.build_processor_name("printer"), handler)
        self.ticks.on("tick", self.printer.show)

class Config:
    FLOWS = ["ticking"]

dataflow = AsyncFlow(Config())
"""


class Container:
    """A container of a rendered pod as a process of this machine.

    Attributes:
        port: where its probes ask; the web port.
        grace_seconds: between SIGTERM and SIGKILL.
    """

    def __init__(self, documents: list[dict[str, Any]], folder: Path) -> None:
        pod = workload(documents)["spec"]["template"]["spec"]
        self._spec = container(documents)
        self.port = self._spec["ports"][0]["containerPort"]
        self.grace_seconds = pod["terminationGracePeriodSeconds"]
        self.log = folder / "log.txt"
        (volume,) = (v["configMap"] for v in pod["volumes"] if v["name"] == "flow")
        mount = _mounted(folder / "flow", volume, one(documents, "ConfigMap")["data"])
        env = {each["name"]: each["value"] for each in self._spec["env"]}
        program, *rest = [*self._spec["command"], *self._spec["args"]]
        assert program == "aiopype"
        command = [sys.executable, "-m", "aiopype", *(_filled_in(each, env) for each in rest)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=mount,
                env={**env, "PATH": os.environ["PATH"], "PYTHONPATH": _PACKAGE},
                stdout=log,
                stderr=log,
            )

    def probe(self, which: str) -> int | None:
        """Return the status a probe gets; None while nobody answers."""
        path = self._spec[f"{which}Probe"]["httpGet"]["path"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None


_PACKAGE = str(Path(__file__).parents[2])


def _filled_in(argument: str, env: dict[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda match: env[match[1]], argument)


def _mounted(folder: Path, volume: dict[str, Any], data: dict[str, str]) -> Path:
    """Lay out a ConfigMap as the kubelet does: links to a folder that changes as one."""
    real = folder / "..2026_01_01"
    for item in volume["items"]:
        (real / item["path"]).parent.mkdir(parents=True, exist_ok=True)
        (real / item["path"]).write_text(data[item["key"]])
    (folder / "..data").symlink_to(real.name)
    for name in {Path(item["path"]).parts[0] for item in volume["items"]}:
        (folder / name).symlink_to(Path("..data", name))
    return folder


@pytest.fixture
def values(tmp_path: Path, kafka: str) -> dict[str, Any]:
    """What `aiopype deploy kubernetes --embed` writes, and what is of this machine."""
    project = tmp_path / "project"
    (project / "topics").mkdir(parents=True)
    (project / "ticks.py").write_text(PROGRAM)
    (project / "topics/ticking.toml").write_text(f"[defaults]\npartitions = {PARTITIONS}\n")
    command = ["deploy", "kubernetes", "ticks.py", "--embed", "--broker", kafka, "--out", "v.yaml"]
    subprocess.run(
        [sys.executable, "-m", "aiopype", *command],
        cwd=project, env={**os.environ, "PYTHONPATH": _PACKAGE}, timeout=60, check=True,
    )  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mine = {"web": {"port": port}, "dataDir": {"path": str(tmp_path / "data")}}
    return merged(yaml.safe_load((project / "v.yaml").read_text()), mine)


@pytest.fixture
def start_container(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    started: list[Container] = []

    def start(values: dict[str, Any]) -> Container:
        started.append(Container(render(values), tmp_path))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


async def test_the_container_gets_ready_works_and_stops_in_its_time(
    values: dict[str, Any],
    start_container: Callable[..., Container],
    committed: Callable[[str, str], Awaitable[dict[int, int | None]]],
    wait_until: Callable[..., None],
) -> None:
    worker = start_container(merged(values, {"flow": {"namespace": "pod"}}))

    wait_until(lambda: worker.probe("readiness") == 200, 60, what=worker.log)
    assert worker.probe("startup") == worker.probe("liveness") == 200
    wait_until(lambda: b"handled" in worker.log.read_bytes(), 30)

    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(worker.grace_seconds) == 0, worker.log.read_text()
    assert len(await committed("pod.ticks", "pod.ticking.ticks.tick")) == PARTITIONS


def test_a_target_that_the_image_does_not_have_ends_the_container(
    values: dict[str, Any], start_container: Callable[..., Container]
) -> None:
    worker = start_container(merged(values, {"flow": {"target": "prices.py"}}))

    assert worker.process.wait(60) == 1
    assert "there is no file 'prices.py'" in worker.log.read_text()
