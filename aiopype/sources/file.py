"""A source that follows a file of JSON lines or CSV."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from aiopype.emitter import MessageHandler
from aiopype.errors import (
    CodecError,
    ConfigurationError,
    EmitError,
    OutputTooLarge,
    StateCorrupt,
)
from aiopype.event import key_bytes
from aiopype.inputs import RawInput
from aiopype.source import Source
from aiopype.sources.attempts import Attempts
from aiopype.sources.following import Chunk, Follower, Step
from aiopype.sources.lines import Csv, Format, JsonLines
from aiopype.sources.open_file import FilePosition
from aiopype.sources.options import Count, Seconds, SourceOptions, read_options

__all__ = ["FileOptions", "FileSource"]

#: Records of a chunk, which is a transaction, at most.
CHUNK_RECORDS = 2_500

#: After so many records the event loop gets its turn: a millisecond or two.
TURN_RECORDS = 500

#: For the file system to answer; a network's may hang.
ANSWER_SECONDS = 30.0

_FORMATS = {
    ".jsonl": ("json", ","),
    ".ndjson": ("json", ","),
    ".csv": ("csv", ","),
    ".tsv": ("csv", "\t"),
}


class FileOptions(SourceOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be said of a FileSource, beyond what can be of every source.

    `rate_limit` counts records here.

    Attributes:
        format: `json`, a JSON value a line, or `csv`. If None it is told by the file's suffix:
            .jsonl, .ndjson, .csv or .tsv.
        delimiter: between two fields of CSV; a comma, or a tab for .tsv, if None.
        follow: whether to wait for more at the end; else the source ends there.
        poll_interval: seconds between two looks at a file that has nothing new.
        on_truncation: what to do when the file is shorter than what was read of it, or begins
            otherwise than it did: `start_again` from its start, or `fail`.
        max_line_bytes: a longer line, or row of CSV, is rejected.
        key: the member of a record, or the column, whose value is the event's key, a text or a
            whole number; a record without it is rejected.
    """

    format: Literal["json", "csv"] | None = None
    delimiter: str | None = None
    follow: bool = True
    poll_interval: Seconds = 1.0
    on_truncation: Literal["start_again", "fail"] = "start_again"
    max_line_bytes: Count = 1_048_576
    key: str | None = None


class FileSource(Source):
    """Follows a file, from its start and on as it grows.

    Emits `line(data)` for each record: the value of a line of JSON, or of CSV a dict of texts by
    the names in the header. So many as were read at once leave in one transaction, with the byte
    at which the next begins: nothing is lost and nothing comes twice, whichever worker goes on, as
    long as it sees the same file.

    The last line counts when its newline is there. A record that cannot be used (no JSON, no row
    under this header, no UTF-8, too long) becomes a dead letter, and the source goes on.

    When the file was renamed and another has its name, the rest of the old one comes first, then
    the new one from its start. A file that does not exist yet is waited for.

    Arguments:
        name, handler: as for every component.
        path: of the file. Every worker that may become the owner has to see it there.
        options: see `FileOptions`.

    Raises:
        ConfigurationError: an option is unknown or makes no sense, or the suffix tells no format.
    """

    events = ("line",)

    def __init__(
        self,
        name: str,
        handler: MessageHandler,
        path: str | os.PathLike[str],
        options: Mapping[str, Any] | FileOptions | None = None,
    ) -> None:
        super().__init__(name, handler)
        self.path = Path(path)
        self.options = read_options(name, FileOptions, options)
        self.expect_every = self.options.expect_every
        self.rate_limit = self.options.rate_limit
        self._attempts = Attempts(self.options, self.vitals)
        self._format = _format(name, self.path, self.options)

    async def start(self) -> None:
        """Read on from the position; end at the end of the file if it is not followed.

        Raises:
            CircuitOpen: the file cannot be read.
            SourceError: it does not exist and is not followed, was truncated and `on_truncation`
                is `fail`, has no header, or is no file.
            StateCorrupt: the stored position is of another kind of source.
        """
        at = self._stored()
        follower = self._follower()
        reading: asyncio.Task[Step] | None = None
        try:
            while True:
                if reading is None:
                    read = asyncio.to_thread(follower.step, at)
                    reading = asyncio.create_task(read, name=f"read {self.path}")
                done, _ = await asyncio.wait({reading}, timeout=ANSWER_SECONDS)
                try:
                    if not done:  # one more thread would hang as well: this one is waited for
                        raise TimeoutError(f"no answer in {ANSWER_SECONDS:g} s")
                    ended, reading = reading, None
                    step = ended.result()
                except OSError as error:
                    await self._wait_after(error)
                    continue
                self._attempts.succeeded()
                if step.is_over:
                    return
                await self._do(step, at)
                at = step.position
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def take(self, raw: RawInput) -> None:
        """Emit the records of a chunk, with the position behind it; reject what cannot be used."""
        async with self.transaction():
            self.checkpoint(raw.meta["position"])
            if raw.kind == "line":
                await self._refuse(raw, raw.meta["offset"], raw.data, raw.meta["error"])
            else:
                await self._emit(raw)

    async def _emit(self, raw: RawInput) -> None:
        key, begin = self.options.key, raw.meta["offset"]
        records = self._format.records(raw.data, raw.meta.get("header", ()))
        for count, (offset, line, value, error) in enumerate(records, 1):
            problem: object = error
            if len(line) > self.options.max_line_bytes:
                problem = f"it has {len(line):,} bytes, more than max_line_bytes"
            elif error is None:
                try:
                    self.emit("line", value, key=None if key is None else _key(value, key))
                except (CodecError, OutputTooLarge) as refused:
                    problem = refused
            if problem is not None:
                await self._refuse(raw, begin + offset, line, problem)
            if count % TURN_RECORDS == 0:
                await asyncio.sleep(0)

    async def _refuse(self, raw: RawInput, offset: int, line: bytes, why: object) -> None:
        error = CodecError(f"{self.path} at byte {offset:,}: {why}")
        await self.reject(RawInput("line", line, raw.at, {"offset": offset}), error)

    async def _do(self, step: Step, before: FilePosition) -> None:
        if step.told:
            (self.logger.warning if step.is_trouble else self.logger.info)(step.told)
        if step.chunk is not None:
            await self._receive(step.chunk, step.position)
        elif step.position != before:
            self.checkpoint(step.position)
        else:
            await self.clock.sleep(self.options.poll_interval)

    async def _receive(self, chunk: Chunk, position: FilePosition) -> None:
        if self.rate_limit is not None:
            for _ in range(chunk.records):
                await self.pace()
        meta = chunk.meta | {"position": msgspec.to_builtins(position)}
        await self.receive(RawInput(chunk.kind, chunk.data, self.clock.time(), meta))

    async def _wait_after(self, error: OSError) -> None:
        delay = self._attempts.failed(error)
        text = "reading %s: %s: %s; again in %.1f s"
        self.logger.warning(text, self.path, type(error).__name__, error, delay)
        await self.clock.sleep(delay)

    def _stored(self) -> FilePosition:
        position = self.position
        try:
            return msgspec.convert(position or {}, FilePosition)
        except msgspec.ValidationError as error:
            raise StateCorrupt(
                f"position {position!r:.200} of source {self.name!r} is none of a file: {error}"
            ) from error

    def _follower(self) -> Follower:
        options = self.options
        records = CHUNK_RECORDS
        if self.rate_limit is not None:  # so many as pass in a second, or it would wait for long
            records = min(records, max(1, int(self.rate_limit)))
        return Follower(
            self.path,
            self._format,
            follow=options.follow,
            start_again=options.on_truncation == "start_again",
            most_bytes=options.max_line_bytes + 1,
            most_records=records,
        )


def _format(name: str, path: Path, options: FileOptions) -> Format:
    by_suffix, delimiter = _FORMATS.get(path.suffix.lower(), (None, ","))
    form = options.format or by_suffix
    if form is None:
        raise ConfigurationError(
            f"source {name!r}: the suffix of {str(path)!r} does not tell its format; "
            "set format='json' or format='csv'"
        )
    if options.delimiter is not None:
        delimiter = options.delimiter
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ConfigurationError(
            f"source {name!r}: delimiter={delimiter!r}; give one character, and no quote or newline"
        )
    return JsonLines() if form == "json" else Csv(delimiter)


def _key(value: Any, name: str) -> bytes:
    """Return the key of a record.

    Raises:
        CodecError: it has none, or one that is no text and no whole number.
    """
    if not isinstance(value, dict) or name not in value:
        raise CodecError(f"it has no {name!r}, which its key shall be")
    try:
        return key_bytes(value[name])
    except EmitError as error:
        raise CodecError(f"its {name!r}: {error}") from error
