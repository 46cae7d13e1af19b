"""What an event's arguments are on the wire, and back.

One argument whose JSON is an object travels as that object, any other arguments as an array, and
with keyword arguments as `{"$args": [...], "$kwargs": {...}}`. So decoding needs no header and has
no doubtful case. NaN and infinities travel as null, as JSON knows none (msgspec does it so).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from aiopype.errors import CodecError

__all__ = ["Invoke", "bind", "decode", "encode"]

#: Decodes an event's value and calls the handler with it; a coroutine handler's coroutine is
#: returned, not awaited.
Invoke = Callable[[bytes | None], Any]

_ARGS, _KWARGS = "$args", "$kwargs"

_json_encode = msgspec.json.Encoder().encode
_json_decode = msgspec.json.Decoder().decode


def encode(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Return the value for these arguments of `emit`.

    Raises:
        CodecError: an argument has no JSON form, or its object uses the reserved names
            `$args` or `$kwargs`.
    """
    try:
        if kwargs:
            return _json_encode({_ARGS: args, _KWARGS: kwargs})
        if len(args) != 1:
            return _json_encode(args)
        value = _json_encode(args[0])
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise CodecError(f"arguments {_brief(args, kwargs)} have no JSON form: {error}") from error
    if value[:1] != b"{":
        return b"[" + value + b"]"
    # The scan for the quoted names is two memchr calls; only a hit is looked at closely.
    if b'"$args"' in value or b'"$kwargs"' in value:
        _refuse_reserved(_parse(value))
    return value


def decode(value: bytes | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments that `value` stands for.

    Raises:
        CodecError: not JSON, or JSON that no event has (a bare scalar).
    """
    data = _parse(value)
    if type(data) is list:
        return tuple(data), {}
    if type(data) is dict:
        return _arguments(data) if _ARGS in data else ((data,), {})
    raise _bare(data)


def bind(handler: Callable[..., Any]) -> Invoke:
    """Return a function that decodes a value and calls `handler` with its arguments.

    It raises CodecError for a value that cannot be decoded, and whatever the handler raises.
    """

    def invoke(value: bytes | None) -> Any:
        data = _parse(value)
        if type(data) is dict:
            if _ARGS in data:
                args, kwargs = _arguments(data)
                return handler(*args, **kwargs)
            return handler(data)
        if type(data) is list:
            return handler(*data)
        raise _bare(data)

    return invoke


def _parse(value: bytes | None) -> Any:
    try:
        return _json_decode(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise CodecError(f"value {_start(value)} is not JSON: {error}") from error


def _arguments(data: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args, kwargs = data.get(_ARGS), data.get(_KWARGS, {})
    if type(args) is not list or type(kwargs) is not dict:
        raise CodecError(f"{_ARGS} must be an array and {_KWARGS} an object, not {data!r:.80}")
    return tuple(args), kwargs


def _bare(data: Any) -> CodecError:
    return CodecError(
        f"value {data!r:.80} is a bare {type(data).__name__}; "
        "an event's value is a JSON object or array"
    )


def _refuse_reserved(data: Any) -> None:
    names = {_ARGS, _KWARGS}.intersection(data)
    if names:
        raise CodecError(
            f"the object uses the reserved name {min(names)!r}; rename it, or pass the object "
            "beside a second argument"
        )


def _brief(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    try:
        return f"{args!r:.80} {kwargs!r:.80}" if kwargs else f"{args!r:.80}"
    except Exception:  # noqa: BLE001 - a repr is the user's code, and may be what is wrong
        return "(" + ", ".join(type(arg).__name__ for arg in (*args, *kwargs.values())) + ")"


def _start(value: bytes | None) -> str:
    return "None" if value is None else f"{bytes(value[:40])!r}"
