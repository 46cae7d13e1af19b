"""What a log record is about, and what it says, read without ever raising."""

from __future__ import annotations

import logging
import sys
from collections.abc import Hashable
from typing import Any

__all__ = ["about", "component_of", "error_of", "text_of"]

#: Most characters of a text: a line of JSON stays below the 16 KiB at which containers' logs are
#: cut in pieces.
TEXT_CHARACTERS = 4_000


def about(
    component: str | None = None,
    topic: str | None = None,
    partition: int | None = None,
    offset: int | None = None,
    *,
    apart: Hashable = None,
    **others: Any,
) -> dict[str, Any]:
    """Return the `extra` of a log call that says what it is about; None is not known.

    Arguments:
        component: full name of a component, or the name of a manager.
        topic, partition, offset: in Kafka.
        apart: what makes this news of its own among records of the same text: those that differ in
            it are not summed up as one.
        others: further attributes of the record, for those who know them (`dead_letter`).
    """
    fields = {"component": component, "topic": topic, "partition": partition, "offset": offset}
    known: dict[str, Any] = {name: v for name, v in fields.items() if v is not None}
    if apart is not None:
        known["apart"] = apart
    return known | others


def component_of(record: logging.LogRecord) -> str | None:
    """Return the full name of the component, or the name of the manager, that a record is about."""
    said = getattr(record, "component", None)
    if said:
        return str(said)
    # Components log under their own names; a module's logger has the name of the module.
    name = record.name.removeprefix("aiopype.")
    return name if name != record.name and record.name not in sys.modules else None


def error_of(record: logging.LogRecord) -> BaseException | str | None:
    """Return the error that a record tells of, or the name of its class."""
    if record.exc_info and record.exc_info[1] is not None:
        return record.exc_info[1]
    said = getattr(record, "error", None)
    if isinstance(said, BaseException | str):
        return said
    args = record.args if isinstance(record.args, tuple) else ()
    return next((each for each in args if isinstance(each, BaseException)), None)


def text_of(record: logging.LogRecord) -> str:
    """Return a record's message; a wrong log call gives what it was called with."""
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001 - `str` of an argument is anybody's code
        text = f"{safe(record.msg)} {safe(record.args)}"
    return text if len(text) <= TEXT_CHARACTERS else f"{text[:TEXT_CHARACTERS]}..."


def safe(value: object) -> str:
    """Return the text of a value, whatever its class does to prevent that."""
    for convert in (str, repr):
        try:
            return convert(value)[:TEXT_CHARACTERS]
        except Exception:  # noqa: BLE001, S112 - the other one may know
            continue
    return f"<{type(value).__name__}>"
