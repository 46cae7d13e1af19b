"""Sources that run to be recorded: without Kafka, and without a handler behind them."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from aiopype.emitter import current_outbox
from aiopype.errors import RecordingError
from aiopype.event import Emitted, Key, key_bytes
from aiopype.inputs import RawInput
from aiopype.protocol.wiring import Wiring
from aiopype.recording import EMITTED, RecordingWriter
from aiopype.source import Source
from aiopype.topics import Topic

__all__ = ["Capture", "CaptureProtocol"]

#: Whether what is emitted now is made of an input, which is recorded itself.
_is_taking: ContextVar[bool] = ContextVar("is_taking", default=False)


class CaptureProtocol(Wiring):
    """Keeps what sources emit by themselves, not of an input; no handler runs.

    Positions are kept as long as this is: a source that fails goes on where it was.

    Attributes:
        keep: called with a source's full name and what it emitted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.keep: Callable[[str, RawInput], None] = lambda source, raw: None
        self._positions: dict[str, bytes] = {}

    def emit(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Keep an event of a source, unless it is made of an input."""
        if not _is_taking.get():
            meta = {"event": topic.event} | ({} if key is None else _as_text(key_bytes(key)))
            self.keep(topic.component, RawInput(EMITTED, value, time.time(), meta))

    async def emit_async(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Keep an event of a source, unless it is made of an input."""
        self.emit(topic, key, value)

    async def emit_all(
        self, component: str, events: Sequence[Emitted], position: bytes | None
    ) -> None:
        """Keep events of a source, unless they are made of an input, and its position."""
        self.keep_all(events)
        if position is not None:
            self._positions[component] = position

    def keep_all(self, events: Sequence[Emitted]) -> None:
        """Keep events of a transaction."""
        for topic, key, value, _, _ in events:
            assert value is not None
            self.emit(topic, key, value)

    def position(self, component: str) -> bytes | None:
        """Return where a source is."""
        return self._positions.get(component)

    def checkpoint(self, component: str, position: bytes) -> None:
        """Keep the position of a source."""
        self._positions[component] = position

    def epoch(self, component: str) -> int:
        """Return 1: a source that is recorded never moves."""
        return 1

    async def flush(self, component: str) -> None:
        """Return at once: what was emitted is kept."""


class Capture:
    """Writes what sources get into a recording: what they `receive`, and what they emit beside it.

    Arguments:
        writer: the recording.
        protocol: the one that the sources were built for.
        most: so many inputs at most; None for no limit.

    Attributes:
        on_full: called when no more will be written.
        counts: how many inputs there are of each source.
        error: why no more can be written.
    """

    def __init__(
        self,
        writer: RecordingWriter,
        protocol: CaptureProtocol,
        *,
        most: int | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.error: RecordingError | None = None
        self._writer = writer
        self._protocol = protocol
        self._most = most
        self.on_full: Callable[[], None] = lambda: None
        protocol.keep = self.write

    @property
    def is_full(self) -> bool:
        """Whether no more will be written."""
        return self.error is not None or self.counts.total() == self._most

    def attach(self, source: Source) -> None:
        """Record a source from now on."""
        self.counts[source.name] = 0
        source.tap = self._tap
        take = source.take

        async def taken(raw: RawInput) -> None:
            token = _is_taking.set(True)
            transaction = current_outbox.get()
            try:
                await take(raw)
            finally:
                _is_taking.reset(token)
                if transaction is not None:  # it ends later, with what is made of inputs in it
                    transaction.emitted.clear()

        source.take = taken  # type: ignore[method-assign]

    def _tap(self, source: str, raw: RawInput) -> None:
        transaction = current_outbox.get()
        if transaction is not None:  # what it has so far came before
            self._protocol.keep_all(transaction.emitted)
        self.write(source, raw)

    def write(self, source: str, raw: RawInput) -> None:
        """Write an input, unless there are enough.

        Raises:
            RecordingError: it cannot be written; that was the last one.
        """
        if self.is_full:
            return
        try:
            self._writer.write(source, raw)
        except RecordingError as error:
            self.error = error
            self.on_full()
            raise
        self.counts[source] += 1
        if self.is_full:
            self.on_full()


def _as_text(key: bytes) -> dict[str, Any]:
    try:
        return {"key": key.decode()}
    except UnicodeDecodeError:
        return {"key_base64": base64.b64encode(key).decode()}
