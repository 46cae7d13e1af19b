"""The two forms of a log line."""

from __future__ import annotations

import logging
import traceback
from datetime import UTC, datetime
from typing import Any

import msgspec

from aiopype.logs.about import TEXT_CHARACTERS, component_of, error_of, safe, text_of

__all__ = ["JsonForm", "TextForm"]

#: The last characters of a traceback, which say most.
TRACEBACK_CHARACTERS = 8_000

_INDENT = "    "

#: What records have by themselves, or for others than a reader of lines.
_KNOWN = frozenset({
    *vars(logging.makeLogRecord({})), "message", "asctime", "color_message",
    "component", "topic", "partition", "offset", "error", "times",
    "apart", "template", "dead_letter",
})  # fmt: skip


class TextForm(logging.Formatter):
    """`12:00:00 WARNING aiopype.transport.partition: ...`; what has more lines is indented.

    Arguments:
        flow: its name; not shown, who reads text knows it.
        worker: the number of this process among the workers of one command.
    """

    def __init__(self, flow: str | None = None, worker: int | None = None) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._begin = f"worker {worker} " if worker else ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with those that belong to it behind it."""
        lines = text_of(record).splitlines() or [""]
        lines += traceback_of(record).splitlines()
        time = self.formatTime(record, self.datefmt)
        first = f"{self._begin}{time} {record.levelname:<7} {record.name}: {lines[0]}"
        return f"\n{_INDENT}".join([first, *lines[1:]])


class _Error(msgspec.Struct, omit_defaults=True):
    type: str
    message: str = ""
    traceback: str = ""


class _Line(msgspec.Struct, omit_defaults=True):
    """A line; what is not known is left out."""

    time: str
    level: str
    logger: str
    message: str
    flow: str | None = None
    worker: int | None = None
    manager: str | None = None
    component: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    times: int | None = None
    error: _Error | None = None
    extra: dict[str, Any] = {}


class JsonForm(logging.Formatter):
    """One JSON object a line, whatever was logged.

    Arguments:
        flow: its name.
        worker: the number of this process among the workers of one command.
    """

    def __init__(self, flow: str | None = None, worker: int | None = None) -> None:
        super().__init__()
        self._flow = flow
        self._worker = worker
        self._encode = msgspec.json.Encoder(enc_hook=safe).encode

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        component = component_of(record)
        line = _Line(
            time=_iso(record.created),
            level=record.levelname,
            logger=record.name,
            message=_clean(text_of(record)),
            flow=self._flow,
            worker=self._worker,
            manager=component and component.partition(".")[0],
            component=component if component and "." in component else None,
            topic=_of(record, "topic", str),
            partition=_of(record, "partition", int),
            offset=_of(record, "offset", int),
            times=_of(record, "times", int),
            error=_error(record),
            extra=self._extra(record),
        )
        return self._encode(line).decode()

    def _extra(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return what a user's program has said beside the message."""
        names = record.__dict__.keys() - _KNOWN
        return {name: self._plain(getattr(record, name)) for name in sorted(names)}

    def _plain(self, value: object) -> object:
        try:
            raw = self._encode(value)
            return msgspec.Raw(raw) if len(raw) <= TEXT_CHARACTERS else _clean(safe(value))
        except Exception:  # noqa: BLE001 - whatever a user's program logs
            return _clean(safe(value))


def traceback_of(record: logging.LogRecord) -> str:
    """Return the traceback of a record, or its stack; empty without either."""
    parts = []
    if record.exc_info and record.exc_info[1] is not None:
        try:
            parts += traceback.format_exception(*record.exc_info)
        except Exception:  # noqa: BLE001 - `str` of an error is anybody's code
            parts.append(f"{type(record.exc_info[1]).__name__}: its traceback cannot be made")
    if record.stack_info:
        parts.append(record.stack_info)
    text = "".join(parts).rstrip("\n")
    return text if len(text) <= TRACEBACK_CHARACTERS else f"...{text[-TRACEBACK_CHARACTERS:]}"


def _error(record: logging.LogRecord) -> _Error | None:
    error = error_of(record)
    if error is None:
        return None
    if isinstance(error, str):
        return _Error(error)
    cls = type(error)
    name = (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )
    return _Error(name, _clean(safe(error)), _clean(traceback_of(record)))


def _of(record: logging.LogRecord, name: str, kind: type[Any]) -> Any:
    value = getattr(record, name, None)
    return value if isinstance(value, kind) else None


def _iso(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat(timespec='milliseconds')[:-6]}Z"


def _clean(text: str) -> str:
    """Return a text that has a UTF-8 form: one with half a surrogate pair has none."""
    return text.encode("utf-8", "replace").decode()
