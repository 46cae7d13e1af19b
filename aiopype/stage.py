"""What a source has in place of its protocol and its clock while a recording is played to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import msgspec

from aiopype.emitter import MessageHandler, check_record
from aiopype.event import Emitted, Key, key_bytes
from aiopype.source import Source
from aiopype.topics import Topic

__all__ = ["Stage", "Where", "on_stage"]


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Where a replay is; it is stored as the position of its source.

    Attributes:
        recording: the id of what is played.
        next: the number of the next input of the source, from 0 on.
        position: the source's own position.
    """

    recording: str
    next: int
    position: msgspec.Raw = msgspec.Raw(b"null")

    @classmethod
    def read(cls, stored: bytes | None, recording: str) -> Where:
        """Return where a replay of this recording is: at its beginning if another was stored."""
        try:
            where = cls(recording="", next=0) if stored is None else _decode(stored)
        except msgspec.MsgspecError:
            where = cls(recording="", next=0)  # the position of a source that ran for real
        return where if where.recording == recording else cls(recording=recording, next=0)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Where).decode


class Stage:
    """Stands between a source that is played to and its protocol, and is its clock.

    What an input makes the source emit is held until the input is over, so that it becomes durable
    together with the place of the replay. The stamps of events are new ones: with those of the
    recording, retention would take them at once.

    Arguments:
        handler: the source's protocol.
        source: its full name.
        recording: the id of what is played.

    Attributes:
        number: of the input that is played, or is the next.
    """

    def __init__(self, handler: MessageHandler, source: str, recording: str) -> None:
        where = Where.read(handler.position(source), recording)
        own = bytes(where.position)
        self.number = where.next
        self._recording = recording
        self._handler = handler
        self._source = source
        self._position = None if own == b"null" else own
        self._left = self._position
        self._events: list[Emitted] = []
        self._now = self._latest = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)

    # --- who plays

    def begin(self, at: float) -> None:
        """Let the clock show the time at which an input was recorded."""
        self._now = at
        self._latest = max(self._latest, at)

    def drop(self) -> None:
        """Forget what the input has left so far: it cannot be used."""
        self._events.clear()
        self._position = self._left

    async def end(self) -> None:
        """Hand over what the input has left, if anything, and go on to the next one.

        A source may make an event of several inputs. So the place becomes durable with what is
        emitted, and not with an input that left nothing: it is played again.
        """
        self.number += 1
        if self._events or self._position != self._left:
            await self._hand_over()

    def close(self) -> None:
        """Note that there are no more inputs."""
        self._handler.checkpoint(self._source, self._where())

    async def _hand_over(self) -> None:
        events, self._events = self._events, []
        self._left = self._position
        await self._handler.emit_all(self._source, events, self._where())

    def _where(self) -> bytes:
        own = msgspec.Raw(self._position or b"null")
        return _encode(Where(recording=self._recording, next=self.number, position=own))

    # --- what the source calls

    def emit(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Hold an event."""
        raw = None if key is None else key_bytes(key)
        check_record(topic, raw, len(raw or b"") + len(value))
        self._events.append((topic, raw, value, int(time.time() * 1000), False))

    async def emit_async(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Hold an event."""
        self.emit(topic, key, value)

    async def emit_all(
        self, component: str, events: Sequence[Emitted], position: bytes | None
    ) -> None:
        """Hold events, and a position."""
        now = int(time.time() * 1000)
        self._events += [(topic, key, value, now, False) for topic, key, value, _, _ in events]
        self._position = self._position if position is None else position

    def position(self, component: str) -> bytes | None:
        """Return the source's own position."""
        return self._position

    def checkpoint(self, component: str, position: bytes) -> None:
        """Hold a position."""
        self._position = position

    async def flush(self, component: str) -> None:
        """Hand over what is held and wait until it is durable; the input counts as under way."""
        await self._hand_over()
        await self._handler.flush(component)

    # --- its clock

    def time(self) -> float:
        """Return the time at which the input was recorded, in seconds since 1970."""
        return self._now

    def monotonic(self) -> float:
        """Return the latest time of an input so far."""
        return self._latest

    async def sleep(self, seconds: float) -> None:
        """Return at once: how long an input takes is nobody's to wait for."""
        await asyncio.sleep(0)


@contextmanager
def on_stage(source: Source, recording: str) -> Iterator[Stage]:
    """Put a source on a stage as long as a `with` statement lasts."""
    handler, clock = source.handler, source.clock
    stage = Stage(handler, source.name, recording)
    source.handler, source.clock = cast("MessageHandler", stage), stage
    try:
        yield stage
    finally:
        source.handler, source.clock = handler, clock
