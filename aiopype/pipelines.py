"""The managers of a flow, built for one protocol, and the tasks of their sources."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from aiopype.errors import GraphError
from aiopype.graph import manager_of
from aiopype.manager import Manager, find_managers
from aiopype.processor import Source
from aiopype.protocol.wiring import Wiring
from aiopype.supervision import Supervisor, stop_task
from aiopype.topics import TopicPlan

__all__ = ["Pipelines"]

logger = logging.getLogger(__name__)

#: Before a source that has ended and shall always run is started again.
AGAIN_SECONDS = 1.0

#: For a cancelled source to clean up.
STOP_SECONDS = 5.0


class Pipelines:
    """Builds managers and runs their sources, each in a task that the supervisor watches.

    Arguments:
        names: of the managers, as in `FLOWS`.
        protocol: a new one; it is closed for subscriptions here.
        topics: what is wanted of the flow's topics.
        end_with_sources: whether a manager has ended when its sources have. In process nothing is
            left to do then; on Kafka its topics may still hold events.

    Attributes:
        managers: the built managers, in the order of `names`.
        supervisor: knows which of them still run.

    Raises:
        GraphError: the names, components or subscriptions do not fit together.
        ConfigurationError: `topics` names what the managers do not have.
    """

    def __init__(
        self,
        names: Iterable[str],
        protocol: Wiring,
        *,
        topics: TopicPlan | None = None,
        end_with_sources: bool = False,
    ) -> None:
        self.protocol = protocol
        protocol.graph.plan = topics = topics or TopicPlan()
        self._end_with_sources = end_with_sources
        self.managers: list[Manager] = []
        for cls in find_managers(names):
            name = cls.name or ""
            if "." in name:
                raise GraphError(f"manager name {name!r}: a '.' separates manager and component")
            before = len(protocol.components)
            self.managers.append(cls(protocol))
            for component in protocol.components[before:]:
                if manager_of(component.name) != name:
                    raise GraphError(
                        f"component {component.name!r} of manager {name!r}: "
                        "name it with self.build_processor_name(...)"
                    )
        graph = protocol.graph
        known = {name: [t.event for t in graph.topics_of(name)] for name in graph.components}
        for name, event in topics.declared(known):
            graph.topic(name, event)
        protocol.freeze()
        self.supervisor = Supervisor(str(manager.name) for manager in self.managers)
        self.supervisor.on_failure(self._cancel_sources)
        self._tasks: dict[str, tuple[str, asyncio.Task[None]]] = {}

    def start_sources(self, on_start: Callable[[Source], None] | None = None) -> None:
        """Start every source that has not ended, of every manager that runs."""
        for manager in self.managers:
            name = str(manager.name)
            if not self.supervisor.is_running(name):
                continue
            for source in manager.sources:
                if source.is_done:
                    continue
                if on_start is not None:
                    on_start(source)
                run = self._run(manager, source)
                self._tasks[source.name] = (
                    name,
                    self.supervisor.start(f"source {source.name}", name, run),
                )
            self._end_if_done(manager)

    async def stop_sources(self) -> None:
        """Cancel the sources and await their end, 5 seconds at most."""
        tasks = [task for _, task in self._tasks.values()]
        self._tasks = {}
        await asyncio.gather(*(stop_task(task, STOP_SECONDS) for task in tasks))

    def _cancel_sources(self, manager: str) -> None:
        for owner, task in self._tasks.values():
            if owner == manager and task is not asyncio.current_task():
                task.cancel()

    async def _run(self, manager: Manager, source: Source) -> None:
        logger.info("source %s starts", source.name)
        await source.start()
        while manager.should_restart():
            await asyncio.sleep(AGAIN_SECONDS)
            await source.start()
        logger.info("source %s has ended", source.name)
        self.protocol.end(source.name)
        self._end_if_done(manager)

    def _end_if_done(self, manager: Manager) -> None:
        if self._end_with_sources and manager.done:
            self.supervisor.end(str(manager.name))
