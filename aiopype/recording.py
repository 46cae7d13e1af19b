"""Recordings: the file that holds what sources got from outside, to be played again.

JSON lines. The first says what it is; each of the others is one input:

    {"aiopype_recording":1,"id":"6f1c...","flow":"prices","at":1767225600.0}
    {"at":1767225601.25,"source":"prices.source","kind":"response","data":"{...}","meta":{...}}
    {"at":1767225602.5,"source":"prices.feed","kind":"frame","base64":"gqFh...","meta":{}}

`data` is text, and where the bytes are no UTF-8 there is `base64` in its place. Members that are
not known are passed over, so that a later version may have more of them.
"""

from __future__ import annotations

import logging
import uuid
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Self

import msgspec

from aiopype.errors import RecordingError
from aiopype.inputs import RawInput

__all__ = ["EMITTED", "Recording", "RecordingWriter"]

logger = logging.getLogger(__name__)

VERSION = 1

#: The kind of an event that a source emitted by itself, not of an input: its value, with `event`
#: and `key` as `meta`. `Source.take` knows what to do with it.
EMITTED = "emitted"

#: Longest line that is written, and read into memory.
LINE_BYTES = 256 * 1024 * 1024


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line.

    Attributes:
        aiopype_recording: the version of this form.
        id: no other recording has it; by it a replay is known that goes on.
        flow: the name of the recorded flow.
        at: when it was begun, in seconds since 1970.
    """

    aiopype_recording: int
    id: str
    flow: str
    at: float


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    at: float
    source: str
    kind: str
    data: str | None = None
    base64: bytes | None = None
    meta: dict[str, Any] = {}


class _Version(msgspec.Struct):
    aiopype_recording: int


_encode = msgspec.json.Encoder().encode
_decode_version = msgspec.json.Decoder(_Version).decode
_decode_header = msgspec.json.Decoder(_Header).decode
_decode_line = msgspec.json.Decoder(_Line).decode


class RecordingWriter:
    """Writes a new recording. A line is in the file when `write` returns: a kill costs none.

    Arguments:
        path: a file that does not exist.
        flow: the name of the recorded flow.
        at: when it is begun, in seconds since 1970.

    Raises:
        RecordingError: the file exists, or cannot be written.
    """

    def __init__(self, path: Path, flow: str, at: float) -> None:
        self.path = path
        try:
            # Without a buffer: what could not be written would be tried again when it is closed.
            self._file = path.open("xb", buffering=0)
        except FileExistsError:
            raise RecordingError(
                f"{path} exists already; name another file, or remove it"
            ) from None
        except OSError as error:
            raise self._failed(error) from error
        header = _Header(aiopype_recording=VERSION, id=uuid.uuid4().hex, flow=flow, at=at)
        try:
            self._write(_encode(header))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def write(self, source: str, raw: RawInput) -> None:
        """Add what a source, known by its full name, got.

        Raises:
            RecordingError: it is too long, or cannot be written; after that the file is at its end.
        """
        text, data = None, None
        try:
            text = raw.data.decode()
        except UnicodeDecodeError:
            data = raw.data
        line = _encode(
            _Line(at=raw.at, source=source, kind=raw.kind, data=text, base64=data, meta=raw.meta)
        )
        if len(line) >= LINE_BYTES:
            raise RecordingError(
                f"a {raw.kind} of {source!r} makes a line of {len(line):,} bytes; "
                f"a recording takes {LINE_BYTES:,} at most"
            )
        self._write(line)

    def _write(self, line: bytes) -> None:
        left = memoryview(line + b"\n")
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> RecordingError:
        return RecordingError(f"writing {self.path}: {error}")


class Recording:
    """A recording to be read, closed with `close` or at the end of a `with` statement.

    It is read through once, to know that it is sound and where each input is: 16 bytes of memory
    an input. The inputs themselves stay in the file.

    A last line without its end, as a recording that was killed may have, is left out.

    Arguments:
        path: the file.

    Attributes:
        id: no other recording has it.
        flow: the name of the recorded flow.
        at: when it was begun, in seconds since 1970.
        first_at: the time of the first input; that of the beginning where there is none.

    Raises:
        RecordingError: it cannot be read, is none, or is of a version that is not known.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts = array("Q")
        self._places: dict[str, array[int]] = {}
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise RecordingError(f"reading {path}: {error}") from error
        try:
            header = self._read_header()
            self.id, self.flow, self.at = header.id, header.flow, header.at
            self.first_at = header.at
            self._scan()
        except OSError as error:
            self.close()
            raise RecordingError(f"reading {path}: {error}") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._starts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def sources(self) -> list[str]:
        """The full names of the sources that have inputs, in the order of their first ones."""
        return list(self._places)

    def places(self, source: str) -> Sequence[int]:
        """Return the places of a source's inputs, in order; of two, the lower came first."""
        return self._places.get(source, ())

    def read(self, place: int) -> RawInput:
        """Return the input at a place.

        Raises:
            RecordingError: the file is another than it was.
        """
        return _raw_input(self._read(place))

    def inputs(self) -> Iterator[tuple[str, RawInput]]:
        """Yield every input with its source's full name, in the order of the file.

        Raises:
            RecordingError: the file is another than it was.
        """
        for place in range(len(self)):
            line = self._read(place)
            yield line.source, _raw_input(line)

    def _read(self, place: int) -> _Line:
        try:
            self._file.seek(self._starts[place])
            raw = self._file.readline(LINE_BYTES)
        except OSError as error:
            raise RecordingError(f"reading {self.path}: {error}") from error
        return self._decode(raw, f"input {place + 1}")

    # --- the first reading

    def _read_header(self) -> _Header:
        raw = self._file.readline(LINE_BYTES)
        if not raw.endswith(b"\n"):
            raise RecordingError(f"{self.path} is no recording: it has no first line")
        try:
            version = _decode_version(raw).aiopype_recording
            if version == VERSION:
                return _decode_header(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise RecordingError(
                f"{self.path} is no recording: its first line is not that of one ({error})"
            ) from error
        raise RecordingError(
            f"{self.path} is a recording of version {version}, and this aiopype reads version "
            f"{VERSION}; play it with the aiopype that recorded it"
        )

    def _scan(self) -> None:
        start = self._file.tell()
        number = 1
        while raw := self._file.readline(LINE_BYTES):
            number += 1
            if not raw.endswith(b"\n"):
                self._leave_out(raw, number)
                return
            if raw.strip():
                line = self._decode(raw, f"line {number}")
                if not self._starts:
                    self.first_at = line.at
                places = self._places.setdefault(line.source, array("Q"))
                places.append(len(self._starts))
                self._starts.append(start)
            start += len(raw)

    def _leave_out(self, raw: bytes, number: int) -> None:
        if len(raw) >= LINE_BYTES:
            self._refuse(f"line {number}", f"is longer than {LINE_BYTES:,} bytes")
        logger.warning(
            "%s ends within line %d, which is left out: the recording was cut off there",
            self.path, number,
        )  # fmt: skip

    def _decode(self, raw: bytes, what: str) -> _Line:
        try:
            line = _decode_line(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._refuse(what, f"is no input: {error}", error)
        if (line.data is None) == (line.base64 is None):
            self._refuse(what, "needs either `data` or `base64`")
        return line

    def _refuse(self, what: str, fault: str, error: Exception | None = None) -> NoReturn:
        raise RecordingError(
            f"{self.path}: {what} {fault}; repair the line, or remove it"
        ) from error


def _raw_input(line: _Line) -> RawInput:
    data = line.base64 if line.data is None else line.data.encode()
    return RawInput(kind=line.kind, data=data or b"", at=line.at, meta=line.meta)
