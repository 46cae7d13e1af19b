"""Workers in this process, so that a test can hold a handler, and reach into the consumer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from aiopype import AsyncProtocol, Manager, Processor, Retry
from aiopype.errors import WorkerError
from aiopype.pipelines import Pipelines
from aiopype.settings import Settings
from aiopype.worker import Worker


class Step(Processor):
    """Notes what it handles; holds on those numbers it was told to."""

    retry = Retry(tries=2)

    def __init__(self, name: str, handler: Any) -> None:
        super().__init__(name, handler)
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.hold: set[int] = set()
        self.released = asyncio.Event()
        self.fail: Callable[[int], None] = lambda number: None
        self.size = 1
        self.seconds = 0.0

    async def handle(self, number: int) -> None:
        self.begun.append(number)
        self.fail(number)
        if number in self.hold:
            await self.released.wait()
        await asyncio.sleep(self.seconds)
        self.emit("done", number, "x" * self.size)
        self.ended.append(number)


class Running:
    """A worker that runs, and what a test looks at."""

    def __init__(self, worker: Worker, pipelines: Pipelines, topic: str, group: str) -> None:
        self.worker = worker
        self.pipelines = pipelines
        self.step: Any = pipelines.managers[0].step  # type: ignore[attr-defined]
        self.topic = topic
        self.group = group
        self.task = asyncio.create_task(worker.run())

    @property
    def consumer(self) -> Any:
        return self.worker.app.consumer

    @property
    def partitions(self) -> int:
        app = getattr(self.worker, "app", None)
        return 0 if app is None else len(app.consumer.partitions)

    async def stop(self) -> None:
        self.worker.stop()
        await self.task


async def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture
def name() -> str:
    return f"h{uuid.uuid4().hex[:10]}"


@pytest.fixture
async def fill(kafka: str, name: str) -> Callable[..., Any]:
    """Write numbers to the topic that the step is subscribed to."""

    async def write(numbers: Any, partitions: int = 1, partition: int = 0) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        await admin.create_topics([NewTopic(f"{name}.inlet.number", partitions, 1)])
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
            for number in numbers:
                value = number if isinstance(number, bytes) else b"[%d]" % number
                await producer.send_and_wait(f"{name}.inlet.number", value, partition=partition)

    return write


@pytest.fixture
async def start(kafka: str, name: str, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Start a worker of a flow with one subscription; those that still run end with the test."""
    workers: list[Running] = []

    async def start_worker(manager_name: str = name, guarantee: str | None = None) -> Running:
        class Held(Manager):
            def __init__(self, handler: Any) -> None:
                super().__init__(handler)
                self.inlet = Processor(self.build_processor_name("inlet"), handler)
                self.step = Step(self.build_processor_name("step"), handler)
                self.inlet.on("number", self.step.handle)

        Held.name = manager_name
        Held.guarantee = guarantee
        pipelines = Pipelines([manager_name], AsyncProtocol())
        settings = Settings((manager_name,), f"{manager_name}-flow", kafka, tmp_path)
        running = Running(
            Worker(settings, kafka, pipelines), pipelines,
            f"{manager_name}.inlet.number", f"{manager_name}-flow",
        )  # fmt: skip
        workers.append(running)
        return running

    yield start_worker
    for running in workers:
        running.step.released.set()
        running.worker.stop()
        await asyncio.wait([running.task], timeout=20)
        if running.task.done() and not running.task.cancelled():
            error = running.task.exception()
            assert error is None or isinstance(error, WorkerError)
