"""What fails is started again, and the worker tells of it on its web port."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kafka

PROGRAM = """
    import asyncio, os
    from pathlib import Path
    from aiopype import AsyncFlow, Manager, Processor, RestartPolicy, Source

    class Ticks(Source):
        async def start(self):
            print("started", self.name, flush=True)
            while True:
                if self.name.startswith("bad") and Path("broken").exists():
                    raise OSError("no route")
                await self.emit_async("tick")
                await asyncio.sleep(0.02)

    class Shows(Processor):
        def show(self):
            with open(f"{self.name}.txt", "a") as file:
                file.write("tick\\n")

    def wire(manager):
        manager.source = Ticks(manager.build_processor_name("source"), manager.handler)
        manager.shows = Shows(manager.build_processor_name("shows"), manager.handler)
        manager.source.on("tick", manager.shows.show)

    class Bad(Manager):
        name = "bad" + os.environ["NAME"]
        restarts = RestartPolicy(
            first_delay_seconds=0.1, failures=3,
            first_quarantine_seconds=3, last_quarantine_seconds=3,
        )

        def __init__(self, handler):
            super().__init__(handler)
            wire(self)

    class Good(Manager):
        name = "good" + os.environ["NAME"]

        def __init__(self, handler):
            super().__init__(handler)
            wire(self)

    class Config:
        FLOWS = [Bad.name, Good.name]

    dataflow = AsyncFlow(Config(), name="flow" + os.environ["NAME"])

    if __name__ == "__main__":
        dataflow.start()
"""


@pytest.fixture
def port() -> int:
    """A free port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def get(port: int, path: str) -> tuple[int, str]:
    """Ask a worker; status 0 is: nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def ready(port: int) -> tuple[int, dict[str, Any]]:
    status, text = get(port, "/health/ready")
    return status, json.loads(text or "{}")


def ticks(folder: Path, component: str) -> int:
    file = folder / f"{component}.txt"
    return len(file.read_text().split()) if file.exists() else 0


def test_a_source_that_raises_is_restarted_quarantined_and_tried_again(
    kafka: str, start: Any, wait_until: Callable[..., None], tmp_path: Path, port: int
) -> None:
    worker = start(PROGRAM, AIOPYPE_BROKER=kafka, AIOPYPE_WEB_PORT=str(port), NAME="1")
    wait_until(lambda: get(port, "/health/live")[0] == 200, what="alive")
    wait_until(lambda: ready(port)[0] == 200, what="ready")
    wait_until(lambda: ticks(tmp_path, "bad1.shows"), what=worker)

    (tmp_path / "broken").touch()
    wait_until(lambda: "quarantine" in worker.text, what="in quarantine")

    status, report = ready(port)
    assert status == 503
    assert list(report["problems"]) == ["source bad1.source"]
    problem = report["problems"]["source bad1.source"]
    assert problem["reason"].startswith("quarantined: source bad1.source raised OSError")
    assert problem["since"].startswith("20")
    assert report["managers"]["good1"]["state"] == "running"
    assert report["managers"]["bad1"]["state"] == "running"
    assert worker.text.count("started bad1.source") == 4
    text = get(port, "/metrics")[1]
    labels = 'component="source",flow="flow1",manager="bad1"'
    assert f'aiopype_source_state{{{labels},state="quarantined"}} 1.0' in text
    assert f'aiopype_source_state{{{labels},state="running"}} 0.0' in text
    assert f"aiopype_source_restarts_total{{{labels}}} 3.0" in text
    assert 'aiopype_manager_state{flow="flow1",manager="good1",state="running"} 1.0' in text
    good, bad = ticks(tmp_path, "good1.shows"), ticks(tmp_path, "bad1.shows")
    wait_until(lambda: ticks(tmp_path, "good1.shows") > good + 20, what="the neighbour goes on")

    (tmp_path / "broken").unlink()
    wait_until(lambda: ready(port)[0] == 200, what="ready again")
    wait_until(lambda: ticks(tmp_path, "bad1.shows") > bad, what="the source goes on")
    worker.send(signal.SIGTERM)
    assert worker.wait(15) == 0
    assert worker.text.count("started good1.source") == 1


def test_a_manager_that_fails_is_not_fetched_until_it_runs_again(
    kafka: str, start: Any, wait_until: Callable[..., None], tmp_path: Path, port: int
) -> None:
    failing = PROGRAM.replace(
        "dataflow.start()",
        """
        import aiopype.flow, threading
        from aiopype import hosting

        build = hosting.build_app

        def watched(settings, brokers, pipelines):
            app = build(settings, brokers, pipelines)

            async def fail_when_told():
                while not Path("fail").exists():
                    await asyncio.sleep(0.02)
                pipelines.supervisor.fail(Bad.name, OSError("as told"), "it was told to")

            pipelines.told = asyncio.get_running_loop().create_task(fail_when_told())
            return app

        from aiopype import worker
        worker.build_app = watched
        dataflow.start()
        """,
    ).replace("first_delay_seconds=0.1", "first_delay_seconds=2")
    worker = start(failing, AIOPYPE_BROKER=kafka, AIOPYPE_WEB_PORT=str(port), NAME="2")
    wait_until(lambda: ticks(tmp_path, "bad2.shows"), what=worker)

    (tmp_path / "fail").touch()
    wait_until(lambda: "manager 'bad2' is down" in worker.text, what="down")

    status, report = ready(port)
    assert status == 503
    assert list(report["problems"]) == ["manager bad2"]
    wait_until(lambda: ready(port)[0] == 200, what=worker)
    bad = ticks(tmp_path, "bad2.shows")
    wait_until(lambda: ticks(tmp_path, "bad2.shows") > bad + 20, what="it handles again")
    assert worker.text.count("started bad2.source") == 2
    assert worker.text.count("started good2.source") == 1
    worker.send(signal.SIGTERM)
    assert worker.wait(15) == 0


def test_a_web_port_that_was_given_and_is_taken_ends_the_worker(kafka: str, start: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        worker = start(PROGRAM, AIOPYPE_BROKER=kafka, AIOPYPE_WEB_PORT=str(port), NAME="3")
        assert worker.wait(30) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in worker.text
    assert "set AIOPYPE_WEB_PORT" in worker.text
