"""Dead letters: the record of a failure, and the `error` event that carries it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from aiopype import models
from aiopype.event import stamped
from aiopype.topics.topic import RECORD_BYTES

if TYPE_CHECKING:
    from aiopype.codec import Invoke
    from aiopype.event import Emitted, Record
    from aiopype.graph import Subscription

__all__ = [
    "DeadLetter",
    "Origin",
    "emitted_by_user",
    "encode",
    "letter_of",
    "rejected",
    "to_emit",
    "unless_deep",
]

#: Of a traceback the end is kept, which is where it happened; of a message the beginning.
TRACEBACK_BYTES, MESSAGE_BYTES = 16_384, 4_096

#: Of the repr of what has no JSON form.
REPR_CHARACTERS = 1_000


class DeadLetter(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The record of a failure, as it stands in the topic of a component's `error` event.

    On the wire it is a JSON object; bytes are in base64. A handler of the event gets it by
    annotating its argument: `def tell(self, letter: DeadLetter)`.

    Attributes:
        component: full name of the component that failed.
        error: the class of the exception, with its module unless it is built in; empty when the
            user emitted a text.
        message: its text.
        traceback: as Python prints it.
        at_ms: when it became a dead letter, in milliseconds since 1970.
        tries: how often the handler was called for the event.
        subscription: `<event> -> <manager>.<component>.<method>`; None when the user emitted the
            letter.
        topic, partition, offset, timestamp_ms: of the record whose handling failed; in process
            there is neither partition nor offset.
        key, value, headers: its bytes; None where it had none.
        is_cut: whether something of the original is missing: `value` is only its beginning, or key
            or headers had no room either.
        value_bytes: the size of the original value.
        replays: how often an operator had it run again.
        depth: 1 where the handler of an `error` event failed, which is handled by nobody.
        args, kwargs: what the user emitted with `emit("error", ...)`, beyond an exception.
    """

    component: str
    error: str
    message: str
    traceback: str = ""
    at_ms: int
    tries: int = 0
    subscription: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    timestamp_ms: int | None = None
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    is_cut: bool = False
    value_bytes: int = 0
    replays: int = 0
    depth: int = 0
    args: tuple[object, ...] = ()
    kwargs: dict[str, object] = {}


class Origin(NamedTuple):
    """Where records came from: a topic's name, and the number of a partition if it has any."""

    topic: str
    partition: int | None


class _Depth(msgspec.Struct):
    depth: int = 0


_encode = msgspec.json.Encoder(enc_hook=models.as_plain).encode
_decode_depth = msgspec.json.Decoder(_Depth).decode


def letter_of(
    subscription: Subscription,
    record: Record,
    error: Exception,
    *,
    origin: Origin,
    tries: int,
    replays: int = 0,
) -> DeadLetter:
    """Return the letter of an event whose handler failed for good.

    Arguments:
        record: the original; where it has `headers`, they are kept.
        tries: how often the handler was called.
        replays: how often an operator had it run again, this time included.
    """
    key, value = record.key, record.value
    return DeadLetter(
        component=subscription.component,
        error=_class_name(error),
        message=_message(error),
        traceback=_traceback(error),
        at_ms=_now_ms(),
        tries=tries,
        subscription=subscription.name,
        topic=origin.topic,
        partition=origin.partition,
        offset=None if origin.partition is None else record.offset,
        timestamp_ms=int(record.timestamp),
        key=None if key is None else bytes(key),
        value=None if value is None else bytes(value),
        headers=tuple(getattr(record, "headers", ())),
        value_bytes=len(value or b""),
        replays=replays,
        depth=1 if subscription.topic.event == subscription.errors.event else 0,
    )


def to_emit(subscription: Subscription, record: Record, letter: DeadLetter) -> Emitted:
    """Return the `error` event that carries the letter of `record`.

    It has the key of the original, and a time of its own, or retention would take it with what is
    as old as the original.
    """
    topic = subscription.errors
    # Where the record itself has a long key, the value has that much less room.
    room = topic.largest - max(0, len(record.key or b"") - RECORD_BYTES // 2)
    time = stamped(letter.at_ms, record.timestamp)
    return (topic, record.key, encode(letter, room), time, True)


def emitted_by_user(component: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Return the value of an `error` event for these arguments of `emit("error", ...)`.

    The first one is the exception or the text. What has no JSON form is kept as its repr.
    """
    error, message, trace = "", "", ""
    match args:
        case (BaseException() as raised, *rest):
            error, message, trace = _class_name(raised), _message(raised), _traceback(raised)
        case (str() as text, *rest):
            message = _start(text)
        case _:
            rest = list(args)
    return _encode(
        DeadLetter(
            component=component,
            error=error,
            message=message,
            traceback=trace,
            at_ms=_now_ms(),
            args=tuple(map(_plain, rest)),
            kwargs={_clean(name): _plain(value) for name, value in kwargs.items()},
        )
    )


def rejected(component: str, raw: bytes, error: Exception) -> DeadLetter:
    """Return the letter of what a source got from outside and could not use."""
    return DeadLetter(
        component=component,
        error=_class_name(error),
        message=_message(error),
        traceback=_traceback(error),
        at_ms=_now_ms(),
        value=raw,
        value_bytes=len(raw),
    )


def encode(letter: DeadLetter, room: int) -> bytes:
    """Return the JSON of a letter in at most `room` bytes, if need be without all of its original.

    First the value is cut. Where its metadata alone are too large, headers, traceback and key
    are left out, in this order.
    """
    whole = _encode(letter)
    if len(whole) <= room:
        return whole
    value = letter.value
    letter = msgspec.structs.replace(letter, value=None, is_cut=True)
    bare = _encode(letter)
    for lighter in ({"headers": ()}, {"traceback": ""}, {"key": None}):
        if len(bare) <= room:
            break
        letter = msgspec.structs.replace(letter, **lighter)
        bare = _encode(letter)
    return _with_value(letter, bare, value, room)


def _with_value(letter: DeadLetter, bare: bytes, value: bytes | None, room: int) -> bytes:
    # In base64 three bytes are four.
    fitting = (room - len(bare) - len(b',"value":""')) // 4 * 3
    if value is None or fitting <= 0:
        return bare
    return _encode(msgspec.structs.replace(letter, value=value[:fitting]))


def unless_deep(invoke: Invoke, *, is_coroutine: bool) -> Invoke:
    """Return `invoke` for handlers of `error` events: letters of failed ones are not handled.

    A handler of errors that fails, or fails for its own component's letters, would go on for ever.
    """

    def checked(value: bytes | None) -> Any:
        try:
            is_deep = _decode_depth(value or b"").depth > 0
        except (msgspec.MsgspecError, ValueError):
            is_deep = False  # no letter: the handler's own decoding says what is wrong
        if not is_deep:
            return invoke(value)
        return _nothing() if is_coroutine else None

    return checked


async def _nothing() -> None:
    pass


def _plain(value: object) -> object:
    try:
        _encode(value)
    except Exception:  # noqa: BLE001 - an error must not fail because of what it is told with
        try:
            return _clean(repr(value)[:REPR_CHARACTERS])
        except Exception:  # noqa: BLE001 - a repr is the user's code too
            return f"<{type(value).__name__}>"
    return value


def _class_name(error: BaseException) -> str:
    cls = type(error)
    name = cls.__qualname__
    return name if cls.__module__ == "builtins" else f"{cls.__module__}.{name}"


def _message(error: BaseException) -> str:
    try:
        return _start(str(error))
    except Exception:  # noqa: BLE001 - __str__ is the user's code
        return f"<the text of {type(error).__name__} cannot be made>"


def _traceback(error: BaseException) -> str:
    if error.__traceback__ is None:
        return ""
    raw = "".join(traceback.format_exception(error)).encode("utf-8", "replace")
    return raw[-TRACEBACK_BYTES:].decode("utf-8", "ignore")


def _start(text: str) -> str:
    raw = text.encode("utf-8", "replace")
    return raw[:MESSAGE_BYTES].decode("utf-8", "ignore")


def _clean(text: str) -> str:
    """Return a text that has a UTF-8 form: one with half a surrogate pair has none."""
    return text.encode("utf-8", "replace").decode()


def _now_ms() -> int:
    return int(time.time() * 1000)
