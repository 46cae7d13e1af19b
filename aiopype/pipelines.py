"""The managers of a flow, built for one protocol, and the tasks of their sources."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from aiopype.errors import GraphError
from aiopype.graph import manager_of
from aiopype.logs import about
from aiopype.manager import Manager, find_managers
from aiopype.protocol.wiring import Wiring
from aiopype.replays import REQUEST, Replays, replays_of
from aiopype.silence import run_unless_silent
from aiopype.source import Source
from aiopype.supervision import Supervisor, stop_task
from aiopype.topics import ERROR, TopicPlan

__all__ = ["Pipelines"]

logger = logging.getLogger(__name__)

#: Before a source that has ended and shall always run is started again.
AGAIN_SECONDS = 1.0

#: For a cancelled source to clean up; one that takes longer is not started again beside itself.
STOP_SECONDS = 5.0


#: Makes a source ready to run.
Prepare = Callable[[Source], Awaitable[None]]


class Pipelines:
    """Builds managers and runs their sources, each in a task that the supervisor watches.

    A source that raises is started again as its manager's `restarts` says; so are the sources of a
    manager that failed.

    Arguments:
        names: of the managers, as in `FLOWS`; or the managers themselves.
        protocol: a new one; it is closed for subscriptions here.
        topics: what is wanted of the flow's topics.
        end_with_sources: whether a manager has ended when its sources have. In process nothing is
            left to do then; on Kafka its topics may still hold events.
        with_replays: whether each manager gets the component that runs dead letters again.
        supervise: makes the supervisor; one in a test has a clock of its own.

    Attributes:
        managers: the built managers, in the order of `names`.
        supervisor: knows which of them, and of the sources here, run.
        run_source: what is run of a source; it has ended when this returns. Replays and tests have
            another than `run_start`.

    Raises:
        GraphError: the names, components or subscriptions do not fit together.
        ConfigurationError: `topics` names what the managers do not have.
    """

    def __init__(
        self,
        names: Iterable[str | type[Manager]],
        protocol: Wiring,
        *,
        topics: TopicPlan | None = None,
        end_with_sources: bool = False,
        with_replays: bool = False,
        supervise: Callable[..., Supervisor] = Supervisor,
    ) -> None:
        self.protocol = protocol
        protocol.graph.plan = topics = topics or TopicPlan()
        self._end_with_sources = end_with_sources
        self.managers: list[Manager] = []
        for cls in _classes(names):
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
                if component.name == replays_of(name):
                    raise GraphError(
                        f"component {component.name!r}: aiopype has one of its own of that name, "
                        "which runs dead letters again; rename yours"
                    )
            if with_replays:
                Replays(replays_of(name), protocol, protocol.graph)
        graph = protocol.graph
        # A file may name them in process as well, where there are none.
        known = {replays_of(str(manager.name)): [REQUEST, ERROR] for manager in self.managers}
        known |= {name: [t.event for t in graph.topics_of(name)] for name in graph.components}
        for name, event in topics.declared(known):
            if name in graph.components:
                graph.topic(name, event)
        protocol.freeze()
        self.supervisor = supervise(
            {str(manager.name): manager.restarts for manager in self.managers},
            gives_up=end_with_sources,
        )
        self.run_source: Callable[[Source], Awaitable[None]] = self.run_start
        self.supervisor.on_failure(self._cancel)
        self.supervisor.on_restart(self._start_again)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._here: dict[str, Prepare] = {}

    @property
    def sources(self) -> dict[str, Source]:
        """The sources of all managers that have a `start`, by full name."""
        found = [source for manager in self.managers for source in manager.sources]
        return {source.name: source for source in found if source.is_owned}

    def start_sources(self) -> None:
        """Start every source."""
        for name in self.sources:
            self.start_source(name)
        for manager in self.managers:
            self._end_if_done(manager)
            for source in manager.sources:
                if not source.is_owned:
                    text = "%s gets nothing in process but what it is fed"
                    logger.warning(text, source.name, extra=about(source.name))

    def start_source(self, name: str, prepare: Prepare | None = None) -> None:
        """Start a source unless it has ended or its manager is down; that one's restart starts it.

        Arguments:
            prepare: awaited with the source before it runs, each time it is started; what it
                raises is a failure of the source.
        """
        source = self.sources[name]
        if not source.is_done:
            manager = self._manager_of(name)
            self._here[name] = prepare or _as_it_is
            self.supervisor.add(name, source.restarts or manager.restarts)
            self._start(manager, source)

    async def stop_source(self, name: str) -> None:
        """Cancel a source and await its end, 5 seconds at most."""
        self._here.pop(name, None)
        if name in self._tasks:
            self._note_ending(self._tasks.pop(name))
        tasks = [task for task in self._ending if task.get_name() == _task_name(name)]
        await asyncio.gather(*(stop_task(task, STOP_SECONDS) for task in tasks))

    async def stop_sources(self) -> None:
        """Cancel the sources and await their end, 5 seconds at most."""
        await asyncio.gather(*(self.stop_source(name) for name in self.sources))

    def _start(self, manager: Manager, source: Source) -> None:
        if not self.supervisor.is_running(source.name):
            return
        name = _task_name(source.name)
        before = {task for task in self._ending if task.get_name() == name}
        run = self._run(manager, source, before)
        self._tasks[source.name] = self.supervisor.start(name, source.name, run)

    def _start_again(self, name: str) -> None:
        for manager in self.managers:
            for source in manager.sources:
                if source.name in self._here and name in (manager.name, source.name):
                    self._start(manager, source)

    def _manager_of(self, source: str) -> Manager:
        return next(each for each in self.managers if each.name == manager_of(source))

    def _cancel(self, name: str) -> None:
        for source, task in self._tasks.items():
            if name in (source, manager_of(source)) and task is not asyncio.current_task():
                task.cancel()
                self._note_ending(task)

    def _note_ending(self, task: asyncio.Task[None]) -> None:
        """Keep a task of a source until its end, so that the source is not started beside it."""
        if not task.done():
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _run(self, manager: Manager, source: Source, before: set[asyncio.Task[None]]) -> None:
        if before:
            _, pending = await asyncio.wait(before, timeout=STOP_SECONDS)
            if pending:
                raise TimeoutError(
                    f"its last run has not ended {STOP_SECONDS:g} s after it was cancelled"
                )
        self.protocol.forget(source.name)
        await self._here[source.name](source)
        if source.is_done:  # what it emitted before could not be sent, and now it is
            self.supervisor.end(source.name)
            return
        logger.info("source %s starts", source.name, extra=about(source.name))
        await self.run_source(source)
        await source.flush()
        logger.info("source %s has ended", source.name, extra=about(source.name))
        self.protocol.end(source.name)
        self.supervisor.end(source.name)
        self._end_if_done(manager)

    async def run_start(self, source: Source) -> None:
        """Run a source's `start`, and again when it has ended if its manager says so."""
        manager = self._manager_of(source.name)
        await run_unless_silent(source)
        while manager.should_restart():
            await source.flush()
            await source.clock.sleep(AGAIN_SECONDS)
            await run_unless_silent(source)

    def _end_if_done(self, manager: Manager) -> None:
        if self._end_with_sources and manager.done:
            self.supervisor.end(str(manager.name))


def _classes(names: Iterable[str | type[Manager]]) -> list[type[Manager]]:
    wanted = list(names)
    found = iter(find_managers(name for name in wanted if isinstance(name, str)))
    return [next(found) if isinstance(name, str) else name for name in wanted]


def _task_name(source: str) -> str:
    return f"source {source}"


async def _as_it_is(_source: Source) -> None:
    pass
