"""An emitted event on its way from a handler to its topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from aiopype.errors import EmitError

if TYPE_CHECKING:
    from aiopype.topics import Topic

__all__ = ["Emitted", "Key", "Record", "key_bytes"]

#: What a user may give as `key=`.
Key = str | bytes | int

#: topic, key, value, timestamp in milliseconds, and whether the key is that of the handled event
#: (then the partition number can be kept). A plain tuple: one is made for every event emitted.
Emitted = tuple["Topic", bytes | None, bytes | None, int, bool]


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
