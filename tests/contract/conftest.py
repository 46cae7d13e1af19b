"""One behaviour suite, both protocols: `run` runs a manager in process or on Kafka."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiopype import AsyncProtocol, Manager, SyncProtocol
from aiopype.pipelines import Pipelines
from aiopype.settings import Settings
from aiopype.worker import Worker

SECONDS = 30


class Ran:
    """What is left of a flow when it has ended."""

    def __init__(self, pipelines: Pipelines) -> None:
        self.managers = pipelines.managers
        self.manager: Any = pipelines.managers[0]
        self.supervisor = pipelines.supervisor

    @property
    def failures(self) -> dict[str, BaseException]:
        """The errors of the managers and sources that are down."""
        return self.supervisor.failures


async def _in_process(names: list[str], until: Callable[[Ran], bool]) -> Ran:
    pipelines = Pipelines(names, SyncProtocol(), end_with_sources=True)
    ran = Ran(pipelines)
    pipelines.start_sources()
    while not (until(ran) or not any(map(pipelines.supervisor.is_running, names))):
        await asyncio.sleep(0.01)
    pipelines.supervisor.stop()
    await pipelines.stop_sources()
    return ran


async def _on_kafka(
    names: list[str], until: Callable[[Ran], bool], address: str, data_dir: Path
) -> Ran:
    pipelines = Pipelines(names, AsyncProtocol())
    ran = Ran(pipelines)
    settings = Settings(tuple(names), f"flow-{names[0]}", address, data_dir)
    worker = Worker(settings, address, pipelines)
    running = asyncio.create_task(worker.run())
    while not (until(ran) or running.done()):
        await asyncio.sleep(0.01)
    worker.stop()
    await running
    return ran


@pytest.fixture(params=["sync", "kafka"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(protocol: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Run managers until a condition holds, or until none is left, and return what they became."""
    address = request.getfixturevalue("kafka") if protocol == "kafka" else ""

    async def run_flow(*managers: type[Manager], until: Callable[[Ran], bool]) -> Ran:
        names = [str(manager.name) for manager in managers]
        async with asyncio.timeout(SECONDS):
            if protocol == "sync":
                return await _in_process(names, until)
            return await _on_kafka(names, until, address, tmp_path)

    return run_flow


@pytest.fixture
def name() -> str:
    """A manager's name that no other test has: topics of one run live on one broker."""
    return f"m{uuid.uuid4().hex[:10]}"
