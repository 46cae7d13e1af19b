"""Several workers under one command: one web port tells of all of them."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.kafka

TOKEN = "sesame"

PROGRAM = """
    from aiopype import AsyncFlow, Manager, Processor

    class Shows(Processor):
        def show(self, n):
            pass

    class Fleet(Manager):
        name = "fleet"

        def __init__(self, handler):
            super().__init__(handler)
            shows = Shows(self.build_processor_name("shows"), handler)
            shows.on("number", shows.show)

    class Config:
        FLOWS = ["fleet"]

    dataflow = AsyncFlow(Config(), name="fleet-flow")
"""


class Command:
    """`aiopype run --workers 2`, and what its web port answers to who has the token."""

    def __init__(self, start: Any, kafka: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.program = start(
            PROGRAM,
            command=("-m", "aiopype", "run", "program.py", "--workers", "2", "--broker", kafka,
                     "--web-port", str(self.port)),
            AIOPYPE_WEB_TOKEN=TOKEN,
        )  # fmt: skip

    def get(self, path: str, token: str = TOKEN) -> tuple[int, str]:
        """Ask; status 0 is: nobody answers."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    @property
    def metrics(self) -> str:
        return self.get("/metrics")[1]

    @property
    def problems(self) -> dict[str, Any]:
        """What the workers are not ready for."""
        found: dict[str, Any] = json.loads(self.get("/health/ready")[1])["problems"]
        return found

    def worker(self, number: int) -> psutil.Process:
        """The process of a worker."""
        (found,) = (
            child
            for child in psutil.Process(self.program.pid).children()
            if f"--worker-number {number}" in " ".join(child.cmdline())
        )
        return found


def counts(metrics: str) -> list[float]:
    """How many workers are up and down."""
    lines = (line for line in metrics.splitlines() if line.startswith("aiopype_workers{"))
    return [float(line.rpartition(" ")[2]) for line in lines]


@pytest.fixture
def command(kafka: str, start: Any, wait_until: Callable[..., None]) -> Command:
    """Two workers that are ready."""
    made = Command(start, kafka)
    wait_until(lambda: made.get("/health/ready")[0] == 200, seconds=60, what=made.program)
    return made


def test_one_scrape_sees_all_workers_also_when_one_hangs_or_was_killed(
    command: Command, wait_until: Callable[..., None]
) -> None:
    text = command.metrics
    for number in (1, 2):
        labels = f'{{worker="{number}",flow="fleet-flow",manager="fleet",state="running"}}'
        assert f"aiopype_manager_state{labels} 1.0" in text
    assert counts(text) == [2, 0]
    assert command.get("/metrics", token="wrong")[0] == 401
    assert command.get("/health/ready", token="") == (200, "ready\n")
    place = Path(command.worker(2).cmdline()[-3].removeprefix("unix:"))
    assert place.is_socket()

    command.worker(2).suspend()
    text = command.metrics
    assert counts(text) == [1, 1]
    assert 'worker="2"' not in text
    assert command.problems["worker 2"]["reason"] == "it does not answer in 2 s"
    assert command.get("/health/live")[0] == 200
    command.worker(2).resume()
    wait_until(lambda: counts(command.metrics) == [2, 0], what=command.program)

    killed = command.worker(2)
    killed.kill()
    assert "it starts, or has ended" in command.problems["worker 2"]["reason"]
    wait_until(lambda: counts(command.metrics) == [2, 0], seconds=60, what=command.program)
    assert command.worker(2).pid != killed.pid

    command.program.send(signal.SIGTERM)
    assert command.program.wait(30) == 0
    assert not place.parent.exists()
    assert TOKEN not in command.program.text
