"""A source that does what a test has written down, its failures included."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from aiopype.emitter import MessageHandler
from aiopype.errors import AiopypeError
from aiopype.event import Key
from aiopype.inputs import RawInput
from aiopype.source import Source

__all__ = [
    "Crash",
    "Crashed",
    "Emit",
    "End",
    "Fail",
    "Pause",
    "Receive",
    "ScriptedSource",
    "Silence",
    "Step",
]


class Crashed(AiopypeError):
    """A `Crash` of a script; a run of this package builds its managers anew then."""


class Step(Protocol):
    """One step of a script; those of this module, or one of your own."""

    async def play(self, source: ScriptedSource) -> bool | None:
        """Do it; return True to end the source."""


class ScriptedSource(Source):
    """Goes through a script, a step after the other, and ends.

        ScriptedSource(name, handler, [
            Emit("price", "AAPL", 1.5),
            Fail(OSError("no route")),
            Emit("price", "AAPL", 1.6),
        ])

    Its position is the number of the next step, durable with each event and before each failure:
    started again, after whatever end, it goes on behind the last step, and no step comes twice.

    Arguments:
        name, handler: as for every component.
        script: the steps.
    """

    def __init__(self, name: str, handler: MessageHandler, script: Sequence[Step]) -> None:
        super().__init__(name, handler)
        self.script = script

    async def start(self) -> None:
        """Go through the steps that are left."""
        for number in range(self.position or 0, len(self.script)):
            self.checkpoint(number + 1)
            if await self.script[number].play(self):
                return


class Emit:
    """Emits an event; the arguments are those of `emit_async`."""

    def __init__(self, event: str, /, *args: Any, key: Key | None = None, **kwargs: Any) -> None:
        self._event = event
        self._args = args
        self._key = key
        self._kwargs = kwargs

    async def play(self, source: ScriptedSource) -> None:
        """Emit it."""
        await source.emit_async(self._event, *self._args, key=self._key, **self._kwargs)


class Receive:
    """Hands an input to `receive`, for a subclass that has a `take` of its own."""

    def __init__(self, raw: RawInput) -> None:
        self._raw = raw

    async def play(self, source: ScriptedSource) -> None:
        """Hand it over."""
        await source.receive(self._raw)


class Fail:
    """Raises an error: the source is started again as its `restarts` says."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def play(self, source: ScriptedSource) -> None:
        """Raise it, what was emitted before being durable."""
        await source.flush()
        raise self._error


class Crash:
    """Is the end of the process: what the components have in memory is gone.

    In a run of this package the managers are built anew; what is durable stays, positions too.
    Elsewhere it is a failure.
    """

    async def play(self, source: ScriptedSource) -> None:
        """Crash, what was emitted before being durable."""
        await source.flush()
        raise Crashed(f"{source.name} has come to a Crash() in its script")


class Pause:
    """Waits so many seconds by the source's clock."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def play(self, source: ScriptedSource) -> None:
        """Wait."""
        await source.clock.sleep(self._seconds)


class Silence:
    """Does nothing more until the source is cancelled, as `expect_every` has it."""

    async def play(self, source: ScriptedSource) -> None:
        """Wait for ever."""
        await source.flush()
        await asyncio.Event().wait()


class End:
    """Ends the source. What follows is for the next start: `run_always`, or after a crash."""

    async def play(self, source: ScriptedSource) -> bool:
        """End."""
        return True
