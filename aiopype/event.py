"""An emitted event on its way from a handler to its topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from aiopype.errors import EmitError

if TYPE_CHECKING:
    from aiopype.topics import Topic

__all__ = [
    "TRACE_HEADERS",
    "Emitted",
    "Headers",
    "Key",
    "Record",
    "Stamp",
    "headers_of",
    "key_bytes",
    "stamped",
]

#: What of a record's headers is about traces, as W3C names them.
TRACE_HEADERS = ("traceparent", "tracestate")

#: What a user may give as `key=`.
Key = str | bytes | int

#: topic, key, value, timestamp in milliseconds, and whether the key is that of the handled event
#: (then the partition number can be kept). A plain tuple: one is made for every event emitted.
Emitted = tuple["Topic", bytes | None, bytes | None, int, bool]


#: Names and values, as Kafka's records have them.
Headers = list[tuple[str, bytes]]

_NO_HEADERS: Headers = []


class Stamp(int):
    """The time of an event that is traced: what comes of the event is written with its headers.

    A handler's outputs get the time of the event that is handled, so the trace goes where the time
    goes, and of all other events nothing has to be asked.
    """

    headers: Headers

    def __new__(cls, milliseconds: int, headers: Headers) -> Stamp:  # noqa: D102 - as its class
        stamp = super().__new__(cls, milliseconds)
        stamp.headers = headers
        return stamp


def headers_of(timestamp: int) -> Headers:
    """Return the headers with which an event of this time is written."""
    return timestamp.headers if type(timestamp) is Stamp else _NO_HEADERS


def stamped(milliseconds: int, like: int) -> int:
    """Return a time that has the trace of another one, if that has any."""
    return Stamp(milliseconds, like.headers) if type(like) is Stamp else milliseconds


class Record(Protocol):
    """What the transport hands over for one event: the record as Kafka stores it."""

    @property
    def offset(self) -> int:
        """Offset in its partition."""

    @property
    def timestamp(self) -> int:
        """When the source saw the data, in milliseconds since 1970."""

    @property
    def key(self) -> bytes | None:
        """The raw key."""

    @property
    def value(self) -> bytes | None:
        """The raw value."""


def key_bytes(key: Any) -> bytes:
    """Return the bytes that stand for `key` on the wire: UTF-8 text, decimal digits, or as it is.

    Raises:
        EmitError: `key` is not a str, bytes or int.
    """
    if isinstance(key, str):
        try:
            return key.encode()
        except UnicodeEncodeError as error:
            raise EmitError(f"key={key!r} has no UTF-8 form: {error}") from error
    if isinstance(key, bytes):
        return key
    if isinstance(key, int) and not isinstance(key, bool):
        return b"%d" % key
    raise EmitError(f"key={key!r} is a {type(key).__name__}; a key is a str, bytes or int")
