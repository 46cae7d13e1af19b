"""Follows a file that grows, is truncated, or gives its name to another.

All of it blocks: it runs in a thread, a step at a time.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any, NamedTuple

from aiopype.errors import CodecError, SourceError
from aiopype.sources.lines import Format
from aiopype.sources.open_file import FilePosition, OpenFile, find_renamed

__all__ = ["Chunk", "Follower", "Step"]

#: Read at once, unless a record is longer: some thousand lines, some milliseconds to handle.
CHUNK_BYTES = 262_144

#: Read in one step of a line that is passed over.
PASS_BYTES = 67_108_864


class Chunk(NamedTuple):
    """Something that was read.

    Attributes:
        kind: `chunk` for whole records, `line` for one that cannot be used.
        data: its bytes.
        records: how many those are.
        meta: its `offset` in the file; the `header` above a chunk; the `error` of a line.
    """

    kind: str
    data: bytes
    records: int
    meta: dict[str, Any]


class Step(NamedTuple):
    """What came of looking at the file once.

    Attributes:
        position: where the source is when it is done with this.
        chunk: what was read, if anything was.
        told: what happened to the file, in words, for the log.
        is_trouble: whether that may have cost something.
        is_over: whether the end was reached, and is not waited at.
    """

    position: FilePosition
    chunk: Chunk | None = None
    told: str = ""
    is_trouble: bool = False
    is_over: bool = False


class Follower:
    """Reads on in a file from where a source is, and finds it again when it was renamed.

    Used by one thread at a time. It knows nothing that a position does not hold, but the open file:
    one that was renamed or deleted meanwhile is read to its end.

    Arguments:
        path: of the file.
        form: tells where its records end.
        follow: whether to wait at the end.
        start_again: whether a file that was truncated is read from its start; else it is an error.
        most_bytes: of a record, with its newline.
        most_records: in a chunk.
    """

    def __init__(
        self,
        path: Path,
        form: Format,
        *,
        follow: bool,
        start_again: bool,
        most_bytes: int,
        most_records: int,
    ) -> None:
        self._path = path
        self._form = form
        self._follow = follow
        self._start_again = start_again
        self._most_bytes = max(most_bytes, CHUNK_BYTES)
        self._most_records = most_records
        self._file: OpenFile | None = None
        self._header: tuple[list[str], int] | None = None
        self._seen: object = None
        self._is_left = False
        self._is_told = False

    def step(self, at: FilePosition) -> Step:
        """Read on from a position. After a step that neither moves nor is over, wait.

        Raises:
            OSError: the file cannot be read.
            SourceError: there is no going on with the file as it is.
        """
        file = self._file
        if file is None:
            return self._open(at)
        mark = file.mark()
        if mark != self._seen:
            self._seen, self._is_left = None, False
            step = self._unless_truncated(file, at) or self._next(file, at, not self._follow)
            if step is not None:
                return step
            self._seen = mark
        return self._at_end(file, at)

    def _at_end(self, file: OpenFile, at: FilePosition) -> Step:
        was_left, self._is_left = self._is_left, self._is_replaced(file)
        if not self._is_left:
            return Step(at, is_over=not self._follow)
        if self._follow:
            # Who wrote to a file that was renamed may do so a little longer: it is left when there
            # was nothing new between two looks.
            if not was_left:
                return Step(at)
            if (step := self._next(file, at, is_final=True)) is not None:
                return step
        self._file = self._header = self._seen = None
        self._is_left = False
        return Step(FilePosition(), told=f"{self._path} is another file now; it goes on with that")

    # --- which file

    def _open(self, at: FilePosition) -> Step:
        current = self._current()
        if at.inode and (current is None or current.inode != at.inode):
            moved = find_renamed(self._path.parent, at)
            if moved is not None:
                self._file = moved
                return Step(at, told=f"{self._path} is {moved.path} now; its rest is read first")
        if current is None:
            return self._missing(at)
        self._file = current
        if at.inode in {0, current.inode} or current.goes_on_from(at):
            return self.step(at)
        return Step(
            FilePosition(),
            told=f"{self._path} is another file now and is read from its start; what the one "
            f"before it had behind byte {at.offset:,} was not read, as it is not there any more",
            is_trouble=True,
        )

    def _current(self) -> OpenFile | None:
        try:
            # Opening a pipe would wait for who writes to it.
            if not stat.S_ISREG(self._path.stat().st_mode):
                raise SourceError(f"{self._path} is no regular file; name one")
            return OpenFile(self._path)
        except FileNotFoundError:
            return None

    def _missing(self, at: FilePosition) -> Step:
        if not self._follow:
            raise SourceError(f"{self._path} does not exist; correct the path, or set follow=True")
        was_told, self._is_told = self._is_told, True
        return Step(at, told="" if was_told else f"waiting for {self._path}, which does not exist")

    def _is_replaced(self, file: OpenFile) -> bool:
        try:
            return self._path.stat().st_ino != file.inode
        except FileNotFoundError:
            return False  # there is nothing to go on with yet

    def _unless_truncated(self, file: OpenFile, at: FilePosition) -> Step | None:
        if file.goes_on_from(at):
            return None
        what = (
            f"{file.path} was truncated or written anew: {at.offset:,} bytes of what it held were "
            f"done, and now it has {file.size:,}"
        )
        if not self._start_again:
            raise SourceError(f"{what}; put it back, or set on_truncation='start_again'")
        self._header = None
        told = f"{what}; it is read from its start"
        return Step(FilePosition(inode=file.inode), told=told, is_trouble=True)

    # --- what is in it

    def _next(self, file: OpenFile, at: FilePosition, is_final: bool) -> Step | None:
        """Read on; None when there is nothing more, or nothing whole yet."""
        if at.is_in_long:
            return self._pass_over(file, at)
        begin = at.offset or file.begin
        if self._form.has_header:
            self._header = self._header or self._read_header(file, is_final)
            if self._header is None:
                return None
            begin = max(begin, self._header[1])
        data, end, count = self._whole(file, begin)
        after = begin + end
        if not end and len(data) < self._most_bytes:
            if not (is_final and data):
                return None
            # Nothing more will come: the last record needs no newline.
            after = begin + len(data)
            end, count = self._form.whole(data + b"\n", self._most_records)
            data += b"\n" * (end - len(data))
        if not end:
            return self._broken(file, at, begin, data)
        meta: dict[str, Any] = {"offset": begin}
        if self._header is not None:
            meta["header"] = self._header[0]
        return Step(file.position(at, after), Chunk("chunk", data[:end], count, meta))

    def _broken(self, file: OpenFile, at: FilePosition, begin: int, data: bytes) -> Step:
        # Of a row whose quote is not closed only the first line is given up: what follows it are
        # rows, more likely than not.
        line = data[: data.find(b"\n") + 1] or data
        error = f"no record that begins here ends within {len(data):,} bytes"
        chunk = Chunk("line", line, 1, {"offset": begin, "error": error})
        is_in_long = not line.endswith(b"\n") and len(line) >= self._most_bytes
        return Step(file.position(at, begin + len(line), is_in_long=is_in_long), chunk)

    def _pass_over(self, file: OpenFile, at: FilePosition) -> Step | None:
        """Go on to the end of a line, without keeping what is passed."""
        offset = at.offset
        while offset < at.offset + PASS_BYTES:
            data = file.read(offset, CHUNK_BYTES)
            newline = data.find(b"\n")
            if newline >= 0:
                return Step(file.position(at, offset + newline + 1))
            if not data:
                break
            offset += len(data)
        if offset == at.offset:
            return None
        return Step(file.position(at, offset, is_in_long=True))

    def _whole(self, file: OpenFile, begin: int) -> tuple[bytes, int, int]:
        """Return what is there, and bytes and number of the whole records in front."""
        data = file.read(begin, CHUNK_BYTES)
        end, count = self._form.whole(data, self._most_records)
        if not end and len(data) == CHUNK_BYTES < self._most_bytes:
            data = file.read(begin, self._most_bytes)
            end, count = self._form.whole(data, self._most_records)
        return data, end, count

    def _read_header(self, file: OpenFile, is_final: bool) -> tuple[list[str], int] | None:
        """Return the header and the bytes before the first row; None when it is not whole yet."""
        begin = file.begin
        data = file.read(begin, self._most_bytes)
        end, _ = self._form.whole(data, 1)
        if not end and len(data) >= self._most_bytes:
            raise SourceError(f"{file.path}: no header ends within {len(data):,} bytes")
        if not end:
            if not (is_final and data):
                return None
            end = len(data)
        try:
            return self._form.header(data[:end]), begin + end
        except CodecError as error:
            raise SourceError(f"{file.path}: {error}") from error
