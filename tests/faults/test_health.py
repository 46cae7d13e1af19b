"""What `/health/ready` and `/health/live` say of a real worker, each figure made wrong on purpose.

One broker and one worker serve all tests; each leaves them as it found them, but for the last.
What is to go wrong is told by files in the worker's folder.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .cluster import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(180)]

#: For anything that should come true; each takes a second or a few.
DEADLINE_SECONDS = 60.0

#: What the probes of a kubelet wait, unless they are told otherwise.
PROBE_SECONDS = 1.0

PROGRAM = """
    import asyncio, itertools, os, time
    from pathlib import Path
    from aiokafka.consumer.fetcher import Fetcher
    from aiokafka.consumer.group_coordinator import GroupCoordinator
    from aiopype import AsyncFlow, Manager, Processor, RestartPolicy, Source, readiness, worker
    from aiopype.transport import condition

    # What takes 15 seconds to be called a fault.
    readiness.FETCH_SECONDS = condition.ANSWER_SECONDS = 1.5

    def is_told(what):
        return Path(what).exists()

    fetch = Fetcher._proc_fetch_request
    beat, join = GroupCoordinator._do_heartbeat, GroupCoordinator._do_rejoin_group

    async def fetch_unless_told(self, assignment, *args):
        topics = {tp.topic for tp in assignment.tps}  # of others are states of sources, wishes
        while is_told("fetches not") and "whole.quiet.tick" in topics:
            await asyncio.sleep(0.05)
        return await fetch(self, assignment, *args)

    async def beat_unless_told(self):
        if not (self.group_id == "health" and is_told("is out of its group")):
            return await beat(self)
        self.reset_generation()
        return False

    async def join_unless_told(self, subscription):
        if not (self.group_id == "health" and is_told("is out of its group")):
            return await join(self, subscription)
        await asyncio.sleep(0.1)
        return False

    Fetcher._proc_fetch_request = fetch_unless_told
    GroupCoordinator._do_heartbeat = beat_unless_told
    GroupCoordinator._do_rejoin_group = join_unless_told

    ONCE = RestartPolicy(failures=0, first_quarantine_seconds=1, last_quarantine_seconds=1)

    class Quiet(Source):
        expect_every = 1.0

        async def start(self):
            for n in itertools.count():
                if is_told("blocks"):
                    Path("blocks").unlink()
                    time.sleep(3)
                if not is_told("is silent"):
                    await self.emit_async("tick", key=n)
                await asyncio.sleep(0.1)

    class Bad(Source):
        restarts = ONCE

        async def start(self):
            while not is_told("raises"):
                await asyncio.sleep(0.05)
            raise OSError("no route")

    class Step(Processor):
        async def step(self):
            while is_told("is slow"):
                Path("works").touch()
                await asyncio.sleep(0.05)

    class Whole(Manager):
        name = "whole"

        def __init__(self, handler):
            super().__init__(handler)
            quiet = Quiet(self.build_processor_name("quiet"), handler)
            self.bad = Bad(self.build_processor_name("bad"), handler)
            step = Step(self.build_processor_name("step"), handler)
            quiet.on("tick", step.step)

    class Broken(Manager):
        name = "broken"
        restarts = ONCE

    class Config:
        FLOWS = ["whole", "broken"]

    build = worker.build_app

    def watched(settings, brokers, pipelines):
        async def fail_when_told():
            while True:
                if is_told("fails") and pipelines.supervisor.is_running("broken"):
                    pipelines.supervisor.fail("broken", OSError("as told"), "as it was told")
                await asyncio.sleep(0.05)

        pipelines.told = asyncio.get_running_loop().create_task(fail_when_told())
        return build(settings, brokers, pipelines)

    worker.build_app = watched
    AsyncFlow(Config(), name="health").start()
"""


class Worker:
    """A worker, what goes wrong in it, and what its web port answers.

    Arguments:
        folder: its own.
        address: of the broker.

    Attributes:
        first: what it said not to be ready for before it was ready.
    """

    def __init__(self, folder: Path, address: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = int(free.getsockname()[1])
        self._folder = folder
        (folder / "program.py").write_text(textwrap.dedent(PROGRAM))
        environ = {k: v for k, v in os.environ.items() if not k.startswith("AIOPYPE_")}
        environ |= {"AIOPYPE_BROKER": address, "AIOPYPE_WEB_PORT": str(self._port)}
        with (folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "program.py"], cwd=folder, env=environ, stdout=log, stderr=log
            )
        self.first: set[tuple[str, str]] = set()

    def told(self, what: str) -> Path:
        """The file that tells it to go wrong in this way."""
        return self._folder / what

    def get(self, path: str, seconds: float) -> tuple[int, str]:
        """Ask it; status 0 is: nobody answers in time."""
        try:
            url = f"http://127.0.0.1:{self._port}{path}"
            with urllib.request.urlopen(url, timeout=seconds) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def live(self, seconds: float = 10.0) -> bool:
        return self.get("/health/live", seconds)[0] == 200

    def problems(self) -> dict[str, str]:
        """What it is not ready for, with the reasons; `unanswered` when it does not answer."""
        status, text = self.get("/health/ready", 10.0)
        if not status:
            return {"unanswered": ""}
        report: dict[str, Any] = json.loads(text)
        assert (status == 200) is report["is_ready"] is (not report["problems"])
        assert all(problem["since"].startswith("20") for problem in report["problems"].values())
        return {name: problem["reason"] for name, problem in report["problems"].items()}

    def until(self, condition: Callable[[dict[str, str]], Any], what: str) -> dict[str, str]:
        """Ask it until what it is not ready for is as expected."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition(problems := self.problems()):
            text = (self._folder / "log.txt").read_text()[-3000:]
            assert self.process.poll() is None, f"{what}: it has ended\n{text}"
            assert time.monotonic() < deadline, f"{what}: not after a minute: {problems}\n{text}"
            time.sleep(0.02)
        return problems

    def until_ready(self) -> None:
        """Wait until it is ready, and keep what it was not ready for."""
        self.until(lambda found: self.first.update(found.items()) or not found, "ready")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A broker of this file's own."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def new_worker(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Worker]]:
    """Start one more worker of the flow."""
    workers: list[Worker] = []

    def start() -> Worker:
        workers.append(Worker(tmp_path_factory.mktemp("worker"), cluster.address))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


@pytest.fixture(scope="module")
def one(new_worker: Callable[[], Worker]) -> Worker:
    """The worker of all tests, which is ready."""
    made = new_worker()
    made.until_ready()
    return made


def test_it_is_live_before_it_is_ready_and_ready_with_its_assignment(one: Worker) -> None:
    assert ("group", "it has not had its first assignment yet") in one.first
    assert "sources" in {name for name, _ in one.first}
    assert one.live()


def test_all_that_is_wrong_is_named_with_its_reason(one: Worker) -> None:
    for wrong in ("fetches not", "is silent", "raises", "fails"):
        one.told(wrong).touch()

    one.until(lambda found: "not fetched for more than" in found.get("fetching", ""), "fetching")
    one.until(lambda found: "silent" in found.get("source whole.quiet", "").lower(), "silent")
    one.until(lambda found: "quarantined" in found.get("source whole.bad", ""), "the source")
    found = one.until(lambda found: "quarantined" in found.get("manager broken", ""), "the manager")

    assert found["manager broken"].endswith("as it was told")
    assert "manager whole" not in found
    assert one.live()
    for wrong in ("fetches not", "is silent", "raises", "fails"):
        one.told(wrong).unlink()
    one.until_ready()


def test_a_blocked_loop_answers_no_probe(one: Worker) -> None:
    one.told("blocks").touch()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while one.live(PROBE_SECONDS):
        assert time.monotonic() < deadline, "the loop was not blocked"
        time.sleep(0.02)

    one.until_ready()
    assert one.live()


def test_while_partitions_are_assigned_anew_and_while_it_stops_it_is_not_ready(
    one: Worker, new_worker: Callable[[], Worker]
) -> None:
    one.told("is slow").touch()
    two = new_worker()
    one.until(lambda found: "assigned anew" in found.get("group", ""), "rebalancing")
    one.told("is slow").unlink()
    two.until_ready()
    one.until_ready()

    two.told("is slow").touch()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not two.told("works").exists():
        assert time.monotonic() < deadline, "it has nothing in work"
        time.sleep(0.02)
    two.process.send_signal(signal.SIGTERM)
    two.until(lambda found: found.get("worker") == "it stops", "stopping")
    two.told("is slow").unlink()
    assert two.process.wait(20) == 0
    one.until_ready()


def test_a_frozen_broker_makes_it_not_ready_until_it_goes_on(one: Worker, cluster: Cluster) -> None:
    cluster.node.send(signal.SIGSTOP)
    try:
        one.until(lambda found: found.get("broker") == "no broker answers", "frozen")
        assert one.live()
    finally:
        cluster.node.send(signal.SIGCONT)
    one.until_ready()


@pytest.mark.long
def test_a_worker_out_of_its_group_is_not_ready_until_it_is_back(one: Worker) -> None:
    one.told("is out of its group").touch()
    one.until(lambda found: "out of its group and joins again" in found.get("group", ""), "out")

    one.told("is out of its group").unlink()
    one.until_ready()


def test_without_a_broker_it_is_live_and_not_ready(one: Worker, cluster: Cluster) -> None:
    cluster.node.kill()  # the last test: nothing brings it back

    one.until(lambda found: found.get("broker") == "no broker answers", "killed")
    assert one.live(PROBE_SECONDS)
