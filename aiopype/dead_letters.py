"""Dead letters: the record of a failure, and the `error` event that carries it."""

from __future__ import annotations

import msgspec

__all__ = ["DeadLetter"]


class DeadLetter(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The record of a failure, as it stands in the topic of a component's `error` event.

    On the wire it is a JSON object; bytes are in base64. A handler of the event gets it by
    annotating its argument: `def tell(self, letter: DeadLetter)`.

    Attributes:
        component: full name of the component that failed.
        error: the class of the exception.
        message: its text.
        traceback: as Python prints it.
        at_ms: when it became a dead letter, in milliseconds since 1970.
        tries: how often the handler was called for the event.
        subscription: `<event> -> <manager>.<component>.<method>`; None when the user emitted the
            letter.
        topic, partition, offset, timestamp_ms: of the record whose handling failed.
        key, value, headers: its bytes; None where it had none.
        is_cut: whether `value` is only the beginning of the original's.
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
