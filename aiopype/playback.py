"""Playing a recording: each input goes to its source's `take`, as if it had come from outside."""

from __future__ import annotations

import asyncio
import base64
import heapq
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aiopype.clock import SYSTEM_CLOCK, Clock
from aiopype.errors import DeliveryError, OwnershipLost, RecordingError
from aiopype.inputs import RawInput
from aiopype.logs import about
from aiopype.recording import EMITTED, Recording
from aiopype.settings.files import nearest
from aiopype.source import Source
from aiopype.stage import Stage, Where, on_stage

__all__ = ["Playback", "Replay", "playing"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a flow plays in place of its sources' `start`.

    Attributes:
        file: the recording.
        speed: 1 is as it was recorded, 10 ten times as fast, 0 as fast as the pipeline takes it.
        name: on Kafka, of one replay among several: each has topics and positions of its own.
    """

    file: Path
    speed: float = 1.0
    name: str | None = None

    @property
    def namespace(self) -> str:
        """What goes in front of the topics and groups of a replay on Kafka."""
        return "replay" if self.name is None else f"replay.{self.name}"


class Playback:
    """Plays a recording to the sources of a flow; `run` is what `Pipelines` runs of each.

    Inputs of one source are played one after the other, in the order of the file. What one makes
    its source emit, and where the replay is then, become durable together: a replay that is cut off
    goes on behind the last input that left something, on whichever worker.

    While an input is played the source's `clock` shows the time at which it was recorded, and does
    not wait. An input that `take` raises for becomes a dead letter of the source.

    Arguments:
        recording: what to play.
        sources: full names of the flow's sources.
        speed: as in `Replay`.
        in_order: whether the inputs of all sources are played one after the other. All of them have
            to run here then.
        clock: of the time that passes between inputs.
        id: by which a replay is known that goes on; the recording's if not given.

    Raises:
        RecordingError: the recording has a source that the flow has not.
    """

    def __init__(
        self,
        recording: Recording,
        sources: Iterable[str],
        *,
        speed: float = 1.0,
        in_order: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        id: str | None = None,  # noqa: A002 - as the recording's
    ) -> None:
        known = list(sources)
        for name in recording.sources:
            if name not in known:
                raise RecordingError(
                    f"{recording.path} has inputs of source {name!r}, which the flow has not; "
                    f"{nearest(name, known)}"
                )
        self._recording = recording
        self._id = id or recording.id
        self._pace = _Pace(recording.first_at, speed, clock)
        heads = {name: recording.places(name)[0] for name in recording.sources}
        self._turns = _Turns(heads) if in_order else None

    def is_through(self, positions: Mapping[str, bytes | None]) -> bool:
        """Say whether nothing is left to play, the positions of sources being these."""
        recording = self._recording
        return all(
            Where.read(positions.get(name), self._id).next >= len(recording.places(name))
            for name in recording.sources
        )

    async def run(self, source: Source) -> None:
        """Play what is left for a source.

        Raises:
            RecordingError: the file has become another.
            DeliveryError, OwnershipLost, EmitError: what it emits cannot leave now, or not here.
        """
        file, name = self._recording.path, source.name
        places = self._recording.places(name)
        if not places:
            logger.info("%s has no inputs of source %s, which ends", file, name, extra=about(name))
            return
        with on_stage(source, self._id) as stage:
            left = range(stage.number, len(places))
            if self._turns is not None:
                self._turns.seat(name, places[stage.number] if left else None)
            if not left:
                logger.info(
                    "all inputs of source %s in %s are played already; --as NAME plays them anew",
                    name, file,
                    extra=about(name),
                )  # fmt: skip
                return
            text = "source %s: %d of its %d inputs are left"
            logger.info(text, name, len(left), len(places), extra=about(name))
            if stage.number:
                self._pace.begin(self._recording.read(places[stage.number]).at)
            for number in left:
                await self._play(source, stage, places[number])
                if self._turns is not None:
                    self._turns.seat(name, places[number + 1] if number + 1 in left else None)
            stage.close()

    async def _play(self, source: Source, stage: Stage, place: int) -> None:
        if self._turns is not None:
            await self._turns.wait(source.name)
        raw = self._recording.read(place)
        await self._pace.wait(raw.at)
        stage.begin(raw.at)
        try:
            await _take(source, raw)
        except (DeliveryError, OwnershipLost):
            raise  # it is not the input's fault
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises
            stage.drop()
            await source.reject(raw, error)
        await stage.end()


class _Pipelines(Protocol):
    """What is needed of `Pipelines`, whose `run_source` is replaced."""

    run_source: Callable[[Source], Awaitable[None]]

    @property
    def sources(self) -> dict[str, Source]:
        """The sources, by full name."""


@contextmanager
def playing(
    replay: Replay | None, pipelines: _Pipelines, *, in_order: bool = False
) -> Iterator[Playback | None]:
    """Have a recording played in place of the sources, if there is one; it is open meanwhile.

    Arguments:
        in_order: as for `Playback`.

    Raises:
        RecordingError: it cannot be read, or does not fit the flow.
    """
    if replay is None:
        yield None
        return
    with Recording(replay.file) as recording:
        speed = replay.speed
        playback = Playback(recording, pipelines.sources, speed=speed, in_order=in_order)
        pipelines.run_source = playback.run
        logger.info(
            "playing %s: %d inputs of %d sources, recorded of flow %s",
            replay.file, len(recording), len(recording.sources), recording.flow,
        )  # fmt: skip
        yield playback


async def _take(source: Source, raw: RawInput) -> None:
    if raw.kind != EMITTED:
        await source.take(raw)
        return
    topic = source.handler.topic(source.name, raw.meta["event"])
    key = raw.meta.get("key")
    if "key_base64" in raw.meta:
        key = base64.b64decode(raw.meta["key_base64"])
    await source.handler.emit_async(topic, key, raw.data)


class _Pace:
    """Waits until it is an input's time.

    Arguments:
        at: the recorded time of the beginning.
        speed: as in `Replay`.
        clock: of the time that passes.
    """

    def __init__(self, at: float, speed: float, clock: Clock) -> None:
        self._at = at
        self._speed = speed
        self._clock = clock
        self._began: float | None = None

    def begin(self, at: float) -> None:
        """Begin at another recorded time, unless it has begun."""
        if self._began is None:
            self._at = at
            self._began = self._clock.monotonic()

    async def wait(self, at: float) -> None:
        """Wait until it is the time of an input recorded at `at`; others run meanwhile."""
        self.begin(self._at)
        assert self._began is not None
        if not self._speed:
            await asyncio.sleep(0)
            return
        due = self._began + (at - self._at) / self._speed
        await self._clock.sleep(max(0.0, due - self._clock.monotonic()))


class _Turns:
    """Lets sources play one input at a time, that with the lowest place first.

    Arguments:
        heads: the place of the next input of each source.
    """

    def __init__(self, heads: Mapping[str, int]) -> None:
        self._heads = dict(heads)
        self._order = [(place, name) for name, place in heads.items()]
        heapq.heapify(self._order)
        self._called = {name: asyncio.Event() for name in heads}

    def seat(self, source: str, place: int | None) -> None:
        """Note the place of a source's next input; None when there is no more."""
        if place is None:
            self._heads.pop(source, None)
        elif self._heads.get(source) != place:
            self._heads[source] = place
            heapq.heappush(self._order, (place, source))
        first = self._first()
        if first is not None:
            self._called[first].set()

    async def wait(self, source: str) -> None:
        """Wait until it is a source's turn."""
        while self._first() != source:
            self._called[source].clear()
            await self._called[source].wait()

    def _first(self) -> str | None:
        while self._order:
            place, source = self._order[0]
            if self._heads.get(source) == place:
                return source
            heapq.heappop(self._order)
        return None
