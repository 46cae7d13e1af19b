"""Records of text files: where each ends, and what it holds. JSON lines and CSV, in UTF-8."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from aiopype.errors import CodecError

__all__ = ["Csv", "Found", "Format", "JsonLines"]

_decode = msgspec.json.Decoder().decode


class Found(NamedTuple):
    """A record.

    Attributes:
        offset: where it begins in the data.
        raw: its bytes.
        value: what it holds; None if there is an error.
        error: why it cannot be used.
    """

    offset: int
    raw: bytes
    value: Any
    error: Exception | None


class Format(Protocol):
    """How records follow each other in a file; each ends with a newline.

    Attributes:
        has_header: whether the first record names the members of the others.
    """

    has_header: bool

    def whole(self, data: bytes, most: int) -> tuple[int, int]:
        """Return the bytes of the whole records that `data` begins with, and how many they are.

        Arguments:
            most: so many records at most.
        """

    def header(self, data: bytes) -> list[str]:
        """Return the names in a header.

        Raises:
            CodecError: it is none that can be used.
        """

    def records(self, data: bytes, header: Sequence[str]) -> Iterator[Found]:
        """Yield the records of `data`, which holds whole ones; empty lines are passed over."""


class JsonLines:
    """A JSON value a line."""

    has_header = False

    def whole(self, data: bytes, most: int) -> tuple[int, int]:
        """Return the bytes and the number of the whole lines that `data` begins with."""
        return _whole_lines(data, most)

    def header(self, data: bytes) -> list[str]:
        """Return nothing: there is no header."""
        return []

    def records(self, data: bytes, header: Sequence[str]) -> Iterator[Found]:
        """Yield what the lines hold."""
        offset = 0
        for raw in data.split(b"\n"):
            if raw and not raw.isspace():
                try:
                    yield Found(offset, raw, _decode(raw), None)
                except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                    yield Found(offset, raw, None, error)
            offset += len(raw) + 1


class Csv:
    """Rows of texts under a header, as Python's csv module reads them; a quoted field may have
    newlines.

    Arguments:
        delimiter: between two fields.
    """

    has_header = True

    def __init__(self, delimiter: str = ",") -> None:
        self._delimiter = delimiter

    def whole(self, data: bytes, most: int) -> tuple[int, int]:
        """Return the bytes and the number of the whole rows that `data` begins with."""
        if b'"' not in data:
            return _whole_lines(data, most)
        lines = _Lines(data[: data.rfind(b"\n") + 1])
        rows = self._rows(lines)
        end = count = 0
        while count < most:
            try:
                next(rows)
            except StopIteration:
                break
            except csv.Error:
                if lines.is_over:  # in the middle of a row
                    break
            end += lines.take()[1]
            count += 1
        return end, count

    def header(self, data: bytes) -> list[str]:
        """Return the names of the columns.

        Raises:
            CodecError: they are not UTF-8, no row of CSV, or one is there twice.
        """
        try:
            data.decode()
            names: list[str] = next(self._rows(_Lines(data)), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise CodecError(f"the header {data[:80]!r} cannot be read: {error}") from error
        twice = [name for name in names if names.count(name) > 1]
        if twice or not names:
            what = f"names {twice[0]!r} twice" if twice else "is empty"
            raise CodecError(f"the header {what}; each column needs a name of its own")
        return names

    def records(self, data: bytes, header: Sequence[str]) -> Iterator[Found]:
        """Yield the rows, each as a dict by the names in the header."""
        lines = _Lines(data)
        rows = self._rows(lines)
        is_utf8 = _is_utf8(data)
        offset = 0
        while True:
            row: list[str] = []
            problem: Exception | None = None
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                problem = error
            raw, size = lines.take()
            if problem is None and row:
                problem = _problem(raw, row, header, is_utf8)
            if problem is not None:
                yield Found(offset, raw, None, problem)
            elif row:
                yield Found(offset, raw, dict(zip(header, row, strict=True)), None)
            offset += size

    def _rows(self, lines: _Lines) -> Any:
        # Strict: what follows a closing quote, or the end within one, is an error and no guess.
        return csv.reader(lines, delimiter=self._delimiter, strict=True)


class _Lines:
    """Hands lines to the csv module, and knows which the last row has taken.

    Bytes that are not UTF-8 pass as surrogates: quotes and newlines are found beside them.
    """

    def __init__(self, data: bytes) -> None:
        self._lines = io.BytesIO(data)
        self._taken: list[bytes] = []
        self.is_over = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._lines.readline()
        if not line:
            self.is_over = True
            raise StopIteration
        self._taken.append(line)
        return line.decode("utf-8", "surrogateescape")

    def take(self) -> tuple[bytes, int]:
        """Return the bytes since the last call, and how many."""
        raw = self._taken[0] if len(self._taken) == 1 else b"".join(self._taken)
        self._taken.clear()
        return raw, len(raw)


def _whole_lines(data: bytes, most: int) -> tuple[int, int]:
    count = data.count(b"\n")
    if count <= most:
        return data.rfind(b"\n") + 1, count
    end = 0
    for _ in range(most):
        end = data.index(b"\n", end) + 1
    return end, most


def _problem(
    raw: bytes, row: Sequence[str], header: Sequence[str], is_utf8: bool
) -> Exception | None:
    if len(row) != len(header):
        return CodecError(f"it has {len(row)} fields, and the header {len(header)}")
    if not is_utf8:
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            return error
    return None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
