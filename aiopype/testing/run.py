"""A flow under test, as a test sees it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from aiopype.dead_letters import DeadLetter
from aiopype.errors import ConfigurationError
from aiopype.event import Key
from aiopype.inputs import RawInput
from aiopype.manager import Manager
from aiopype.playback import Playback
from aiopype.recording import Recording
from aiopype.settings.files import nearest
from aiopype.source import Source
from aiopype.states import State
from aiopype.supervision import Supervisor, stop_task
from aiopype.testing.scripted import Crashed
from aiopype.testing.seen import Record, Seen
from aiopype.testing.world import World

__all__ = ["Run"]

_OVER = {State.ENDED, State.QUARANTINED}


class Run:
    """A flow that runs for a test; `run_managers` and `run_flow` make it.

    Its sources are ready and do nothing by themselves: `start_sources` has them do what they do,
    `feed`, `emit` and `replay` do it in their place. Whatever waits here waits in real time for 10
    seconds at most, on Kafka 30, and raises TimeoutError then. In process a `FakeClock` goes on
    meanwhile to whatever is due next.

    Attributes:
        clock: of the sources.
    """

    def __init__(self, world: World, seen: Seen) -> None:
        self.clock = world.clock
        self._world = world
        self._seen = seen
        self._up: set[str] = set()
        self._gates: dict[str, asyncio.Event] = {}
        self._crashed = asyncio.Event()

    async def __aenter__(self) -> Run:
        await self._world.start(self._run_source)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._world.stop()

    # --- what is there

    @property
    def managers(self) -> list[Manager]:
        """The managers, in the order in which they were given; others after a restart."""
        return self._world.pipelines.managers

    @property
    def manager(self) -> Any:
        """The first manager: most tests have one."""
        return self.managers[0]

    @property
    def supervisor(self) -> Supervisor:
        """Knows the states of managers and sources."""
        return self._world.pipelines.supervisor

    @property
    def failures(self) -> dict[str, BaseException]:
        """The errors of managers and sources that are down, by full name."""
        return self.supervisor.failures

    def source(self, name: str) -> Source:
        """Return a source.

        Raises:
            ConfigurationError: there is none of that full name.
        """
        sources = {found.name: found for manager in self.managers for found in manager.sources}
        if name not in sources:
            raise ConfigurationError(f"there is no source {name!r}; {nearest(name, sources)}")
        return sources[name]

    # --- what is done

    def start_sources(self, *names: str) -> None:
        """Have sources run their `start`, and be started again when it fails; all without names.

        Raises:
            ConfigurationError: there is no source of that full name.
        """
        for name in names or self._world.pipelines.sources:
            if self.source(name).is_owned:  # others have no `start`
                self._gate(name).set()

    async def feed(self, source: str, raw: RawInput) -> None:
        """Have a source `receive` an input; return when all that came of it is handled.

        Raises:
            ConfigurationError: there is no source of that full name.
            Exception: what its `take` raised.
        """
        await self._do(source, lambda found: found.receive(raw))

    async def emit(
        self, source: str, event: str, /, *args: Any, key: Key | None = None, **kwargs: Any
    ) -> None:
        """Emit an event in the name of a source; return when all that came of it is handled.

        Raises:
            ConfigurationError: there is no source of that full name.
        """
        await self._do(source, lambda found: found.emit_async(event, *args, key=key, **kwargs))

    async def replay(self, file: Path | str, speed: float = 0) -> None:
        """Play a recording to the sources, from its beginning; return when all is handled.

        Arguments:
            file: what `aiopype record` wrote.
            speed: as fast as it goes, or so many times as fast as it was recorded.

        Raises:
            RecordingError: it cannot be read, or has a source that is not here.
        """
        sources = self._world.pipelines.sources
        with Recording(Path(file)) as recording:
            # With an id of its own: what is played again is not taken for played.
            playback = Playback(
                recording,
                sources,
                speed=speed,
                in_order=True,
                clock=self.clock,
                id=uuid.uuid4().hex,
            )
            await self.until(lambda: self._up.issuperset(sources))
            await self._all([playback.run(source) for source in sources.values()])
        await self._flush(*sources.values())

    async def until(
        self, condition: Callable[[], Any], within_seconds: float | None = None
    ) -> None:
        """Wait until a condition holds.

        Arguments:
            condition: asked again and again.
            within_seconds: of real time; 10, on Kafka 30, if None.

        Raises:
            TimeoutError: it does not hold; the text says how the sources are.
        """
        seconds = self._world.patience_seconds if within_seconds is None else within_seconds
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    await self._world.step(lambda: condition() or self._crashed.is_set())
                    if self._crashed.is_set():
                        await self.restart()
        except TimeoutError as error:
            raise self._late(seconds) from error

    async def ended(self, within_seconds: float | None = None) -> None:
        """Wait until every source that was started has ended, or is in quarantine, and everything
        is handled.

        Raises:
            TimeoutError: one still runs; the text says how the sources are.
        """
        await self.until(self._are_over, within_seconds)
        await self._settle()

    async def restart(self) -> None:
        """Build and start everything anew, as after a crash: what was in memory is gone.

        Positions and events stay. Sources that were started are started again.
        """
        self._crashed.clear()
        self._up.clear()
        await self._world.stop()
        await self._world.start(self._run_source)

    # --- what came of it

    def events(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of all events of a full name, `<manager>.<component>.<event>`.

        Of those of one key, and of a source without keys, in order. Named arguments are a dict at
        the end.

        Raises:
            ConfigurationError: there is no such component.
        """
        return self._seen.arguments(self._checked(name))

    def records(self, name: str) -> list[Record]:
        """Return all events of a full name as they are in their topic: key, value and partition.

        Raises:
            ConfigurationError: there is no such component.
        """
        return self._seen.records(self._checked(name))

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """What has failed for good."""
        return self._seen.letters()

    # --- how it works

    async def _run_source(self, source: Source) -> None:
        self._up.add(source.name)
        try:
            await self._gate(source.name).wait()
            await self._world.pipelines.run_start(source)
        except Crashed:
            self._crashed.set()
            await asyncio.Event().wait()  # until `restart` cancels it
        finally:
            self._up.discard(source.name)

    def _gate(self, source: str) -> asyncio.Event:
        return self._gates.setdefault(source, asyncio.Event())

    async def _do(self, name: str, call: Callable[[Source], Coroutine[Any, Any, None]]) -> None:
        source = self.source(name)
        await self.until(lambda: name in self._up or source.is_done or not source.is_owned)
        await self._all([call(source)])
        await self._flush(source)

    async def _all(self, works: list[Coroutine[Any, Any, None]]) -> None:
        tasks = [asyncio.create_task(work, name="step of a test") for work in works]
        try:
            await self.until(lambda: all(task.done() for task in tasks))
        finally:
            for task in tasks:
                if not task.done():
                    await stop_task(task, 5.0)
        for task in tasks:
            task.result()

    async def _flush(self, *sources: Source) -> None:
        await self._all([source.flush() for source in sources])
        await self._settle()

    async def _settle(self) -> None:
        seconds = self._world.patience_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._world.settle()
        except TimeoutError as error:
            raise self._late(seconds) from error

    def _late(self, seconds: float) -> TimeoutError:
        states = {name: str(status.state) for name, status in self.supervisor.sources.items()}
        return TimeoutError(
            f"not so after {seconds:g} s; sources: {states}, failures: {self.failures}"
        )

    def _are_over(self) -> bool:
        sources, states = self._world.pipelines.sources, self.supervisor.sources
        return not self._crashed.is_set() and all(
            sources[name].is_done or (name in states and states[name].state in _OVER)
            for name, gate in self._gates.items()
            if gate.is_set()
        )

    def _checked(self, event: str) -> str:
        known = self._world.pipelines.protocol.graph.components
        if not any(event.startswith(f"{component}.") for component in known):
            raise ConfigurationError(
                f"{event!r} is no event of a component; write <manager>.<component>.<event>: "
                f"{nearest(event.rpartition('.')[0], known)}"
            )
        return event
