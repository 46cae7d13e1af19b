"""Server-sent events, read from bytes: no connection is known here.

The rules are those of https://html.spec.whatwg.org/multipage/server-sent-events.html, sections
9.2.5 and 9.2.6. What is beyond them is a bound: an event that is too large is cut and said to be,
and one that never ends is an error.
"""

from __future__ import annotations

from typing import NamedTuple

from aiopype.errors import SourceError

__all__ = ["EventStream", "StreamError", "StreamEvent"]

_BOM = b"\xef\xbb\xbf"
_LF, _CR = b"\n\r"

#: Of an event that is too large so many times its bound is passed over until it has to end.
ENDLESS = 64

#: Digits of a `retry` that are read: a longer number is beyond every sense, and slow to read.
RETRY_DIGITS = 15

#: A longer id is passed over, as one with a NUL: it has to travel back in a header.
ID_BYTES = 4_096


class StreamError(SourceError):
    """A stream cannot be read on, or not at all."""


class StreamEvent(NamedTuple):
    """One event of a stream.

    Attributes:
        data: its lines, with a line feed between two.
        event: its name; `message` where the stream gives none.
        id: its own, or the last one that the stream gave; empty where there was none.
        size: the bytes of the whole event; where they are more than the bound, `data` is only the
            beginning.
    """

    data: bytes
    event: str
    id: str
    size: int


class EventStream:
    """Reads the events of one connection.

    Arguments:
        largest: bytes of an event that are kept at most.
        last_id: the id of the last event before this connection.

    Attributes:
        last_id: as the next connection has to send it: of an event that ended.
        retry_seconds: before the next connection, where the server has said so.
        lines: how many lines have ended, comments too: signs of life.
    """

    def __init__(self, largest: int, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry_seconds: float | None = None
        self.lines = 0
        self._largest = largest
        self._first: bytes | None = b""  # until it is known whether it is a byte order mark
        self._is_after_cr = False
        self._line = bytearray()  # that has not ended
        self._line_size = 0
        self._id = last_id
        self._begin()

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """Take the next bytes, however they are cut; return the events that ended with them.

        Raises:
            StreamError: an event, or a line, does not end.
        """
        if self._first is not None:
            chunk = self._without_mark(chunk)
        if self._is_after_cr and chunk:
            self._is_after_cr = False
            if chunk[0] == _LF:
                chunk = chunk[1:]
        events = []
        for piece in chunk.splitlines(keepends=True):
            if piece[-1] not in (_LF, _CR):
                self._hold(piece)
            elif (event := self._end_line(piece.rstrip(b"\r\n"))) is not None:
                events.append(event)
        if chunk:
            self._is_after_cr = chunk.endswith(b"\r")
        return events

    def _without_mark(self, chunk: bytes) -> bytes:
        assert self._first is not None
        chunk = self._first + chunk
        if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
            self._first = chunk
            return b""
        self._first = None
        return chunk.removeprefix(_BOM)

    def _hold(self, piece: bytes) -> None:
        self._line_size += len(piece)
        self._check_end(self._size + self._line_size)
        # A little more than the bound: the field's name is no part of the event.
        if (room := self._largest + 16 - len(self._line)) > 0:
            self._line += piece[:room]

    def _end_line(self, piece: bytes) -> StreamEvent | None:
        self.lines += 1
        lost = 0
        if self._line:
            self._hold(piece)
            piece = bytes(self._line)
            lost = self._line_size - len(piece)
            self._line.clear()
            self._line_size = 0
        if not piece:
            return self._dispatch()
        self._read(piece, lost)
        return None

    def _read(self, line: bytes, lost: int) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._add(value, lost)
        elif field == b"event":
            self._event = value
            self._size += lost and len(value) + lost  # a name that was cut is no name
        elif field == b"id" and b"\0" not in value and len(value) <= ID_BYTES:
            self._id = value.decode("utf-8", "replace")
        elif field == b"retry" and value.isdigit() and len(value) <= RETRY_DIGITS:
            self.retry_seconds = int(value) / 1000

    def _add(self, value: bytes, lost: int) -> None:
        room = self._largest - self._kept
        kept = value if len(value) <= room else value[: max(0, room)]
        self._kept += len(kept) + 1
        self._size += len(value) + lost + 1
        self._check_end(self._size)
        if room >= 0:
            self._data.append(kept)

    def _check_end(self, size: int) -> None:
        if size > ENDLESS * self._largest:
            raise StreamError(
                f"an event has {size:,} bytes and does not end; "
                f"the largest that is taken has {self._largest:,}"
            )

    def _dispatch(self) -> StreamEvent | None:
        self.last_id = self._id
        event = None
        if self._data:
            name = self._event.decode("utf-8", "replace") or "message"
            event = StreamEvent(b"\n".join(self._data), name, self._id, self._size - 1)
        self._begin()
        return event

    def _begin(self) -> None:
        self._data: list[bytes] = []
        self._event = b""
        self._kept = 0
        self._size = 0
