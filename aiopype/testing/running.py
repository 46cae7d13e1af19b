"""Runs managers, or a flow, for a test: in process or on Kafka, with the same code."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from aiopype.clock import SYSTEM_CLOCK, Clock
from aiopype.errors import ConfigurationError
from aiopype.flow import AsyncFlow, Flow
from aiopype.manager import Manager
from aiopype.pipelines import Pipelines
from aiopype.protocol.kafka import AsyncProtocol
from aiopype.settings import Settings
from aiopype.testing.clock import FakeClock
from aiopype.testing.in_process import InProcess
from aiopype.testing.run import Run
from aiopype.testing.seen import Seen
from aiopype.topics import TopicPlan

__all__ = ["run_flow", "run_managers"]


@asynccontextmanager
async def run_managers(
    *managers: type[Manager],
    broker: str | None = None,
    clock: Clock | None = None,
    namespace: str | None = None,
) -> AsyncIterator[Run]:
    """Run managers during an `async with` statement.

    In process everything waits by a `FakeClock`, which goes on by itself while the test waits for
    something: polls, back-off and restarts take no time. Events whose handler failed are tried
    again at once.

    On Kafka the same test runs in a real worker, in real time.

    Arguments:
        managers: classes; other tests may have some of the same names.
        broker: `host:port,...` of a Kafka, or `embedded` for one that is started for this run
            (some seconds; give an address where several tests share one). In process if None.
        clock: of the sources, in process also of their restarts. Give `SystemClock()` to sources
            that talk to a real server, whose answers take real time.
        namespace: in front of every topic on Kafka; a new one if None, so that no test sees another
            one's events, and none if empty.

    Raises:
        ConfigurationError: the managers are wrong.
        BrokerError: the broker cannot be started or reached.
    """
    if broker is None:
        build = partial(Pipelines, managers, end_with_sources=True)
        async with _in_process(build, clock) as run:
            yield run
        return
    names = tuple(str(manager.name) for manager in managers)

    def settings(address: str, folder: Path, namespace: str | None) -> Settings:
        return Settings(names, "test", address, folder, namespace=namespace, web_port=0)

    def build_for_kafka(settings: Settings) -> Pipelines:
        return Pipelines(managers, AsyncProtocol(), topics=TopicPlan(settings.namespace))

    async with _on_kafka(broker, namespace, settings, build_for_kafka, clock) as run:
        yield run


@asynccontextmanager
async def run_flow(
    flow: Flow,
    *,
    broker: str | None = None,
    clock: Clock | None = None,
    namespace: str | None = None,
) -> AsyncIterator[Run]:
    """Run a flow during an `async with` statement, with its settings and its topics' files.

    The arguments are those of `run_managers`. On Kafka the flow's own broker, data directory and
    namespace are not used.

    Raises:
        ConfigurationError: the flow is wrong, or is one in process and shall run on Kafka.
        BrokerError: the broker cannot be started or reached.
    """
    if broker is None:
        async with _in_process(flow.build, clock) as run:
            yield run
        return
    if not isinstance(flow, AsyncFlow):
        raise ConfigurationError(f"flow {flow.name!r} is a Flow, which runs in process only")
    found: AsyncFlow = flow

    def settings(address: str, folder: Path, namespace: str | None) -> Settings:
        return found.settings(broker=address, data_dir=folder, namespace=namespace, web_port=0)

    async with _on_kafka(broker, namespace, settings, flow.build_for_kafka, clock) as run:
        yield run


@asynccontextmanager
async def _in_process(build: Callable[..., Pipelines], clock: Clock | None) -> AsyncIterator[Run]:
    seen = Seen()
    async with Run(InProcess(build, clock or FakeClock(), seen), seen) as run:
        yield run


@asynccontextmanager
async def _on_kafka(
    broker: str,
    namespace: str | None,
    settings: Callable[[str, Path, str | None], Settings],
    build: Callable[[Settings], Pipelines],
    clock: Clock | None,
) -> AsyncIterator[Run]:
    from aiopype.testing.on_kafka import OnKafka, broker_for  # noqa: PLC0415 - loads Faust

    seen = Seen()
    if namespace is None:
        namespace = f"test-{uuid.uuid4().hex[:8]}"
    async with AsyncExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="aiopype-test-"))
        address = await broker_for(broker, Path(folder) / "kafka", opened)
        found = settings(address, Path(folder), namespace or None)
        world = OnKafka(lambda: build(found), found, clock or SYSTEM_CLOCK, seen)
        yield await opened.enter_async_context(Run(world, seen))
