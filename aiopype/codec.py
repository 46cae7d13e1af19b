"""What an event's arguments are on the wire, and back.

One argument whose JSON is an object travels as that object, any other arguments as an array, and
with keyword arguments as `{"$args": [...], "$kwargs": {...}}`. So decoding needs no header and has
no doubtful case. NaN and infinities travel as null, as JSON knows none (msgspec does it so).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain, repeat
from typing import Any

import msgspec

from aiopype import decoders, models
from aiopype.annotations import UNDECLARED, Parameter, Parameters, parameters_of
from aiopype.errors import CodecError

__all__ = ["Invoke", "bind", "decode", "encode"]

#: Decodes an event's value and calls the handler with it; a coroutine handler's coroutine is
#: returned, not awaited.
Invoke = Callable[[bytes | None], Any]

_ARGS, _KWARGS = "$args", "$kwargs"

_ENVELOPES = (b'{"$args":[]}', b'{"$args":[],"$kwargs":{}}')

#: Bytes by which a value's form is told. To search 400 bytes for one takes 12 ns, for a name 230.
_ARRAY, _OBJECT, _DOLLAR, _BACKSLASH = b"[{$\\"

#: What decoding raises, by msgspec's version and the fault; IndexError: not a single byte.
_REFUSALS = (TypeError, ValueError, IndexError, RecursionError, msgspec.MsgspecError)

_json_encode = msgspec.json.Encoder(enc_hook=models.as_plain).encode
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
    if _DOLLAR in value and (b'"$args"' in value or b'"$kwargs"' in value):
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


def bind(handler: Callable[..., Any], name: str | None = None) -> Invoke:
    """Return a function that decodes a value and calls `handler` with its arguments.

    The annotations of the handler's parameters say what the arguments become; where there is
    none, they are plain JSON values. Numbers and texts are not turned into each other; members of
    an object that its type does not know are passed over.

    The function raises CodecError for a value that cannot be decoded, that does not fit an
    annotation or, if there are annotations, the parameters; and whatever the handler raises.

    Arguments:
        name: what errors call the handler; its qualified name, if not given.

    Raises:
        GraphError: an annotation cannot be looked up, or is no type that JSON decodes into.
    """
    parameters = parameters_of(handler, name or str(getattr(handler, "__qualname__", handler)))
    return _untyped(handler) if parameters is None else _typed(handler, parameters)


def _untyped(handler: Callable[..., Any]) -> Invoke:
    def invoke(value: bytes | None) -> Any:
        data = _parse(value)
        try:
            if type(data) is dict:
                if _ARGS in data:
                    args, kwargs = _arguments(data)
                    return handler(*args, **kwargs)
                return handler(data)
            if type(data) is list:
                return handler(*data)
        except TypeError as error:
            # Raised here, and not in the handler: its parameters are others.
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:
                raise CodecError(
                    f"the event's arguments do not fit the handler: {error}"
                ) from error
            raise
        raise _bare(data)

    return invoke


def _typed(handler: Callable[..., Any], parameters: Parameters) -> Invoke:
    of_array = decoders.array_decoder(parameters)
    of_object = decoders.object_decoder(parameters)
    slowly = _typed_by_parameter(handler, parameters)
    if of_array is None and of_object is None:
        return slowly
    # Most types refuse an envelope, as it lacks what they require: no need to look for one.
    takes_envelopes = of_object is not None and any(_accepts(of_object, e) for e in _ENVELOPES)

    def invoke(value: Any) -> Any:
        args: Any = None
        try:
            if value[0] == _ARRAY:
                args = of_array and of_array(value)
            elif value[0] == _OBJECT and value[2] != _DOLLAR and of_object:
                is_doubtful = takes_envelopes and (_DOLLAR in value or _BACKSLASH in value)
                if not (is_doubtful and _may_be_envelope(value)):
                    args = (of_object(value),)
        except _REFUSALS:
            return slowly(value)
        return slowly(value) if args is None else handler(*args)

    return invoke


def _typed_by_parameter(handler: Callable[..., Any], parameters: Parameters) -> Invoke:
    """Return what decodes every form a value may have, and tells which parameter it does not fit.

    Bytes are split into those of the arguments, and each is decoded from its bytes: what a type
    makes of JSON is the same here as in the decoders of a whole value.
    """

    def by_parameter(value: bytes | None) -> tuple[Any, dict[str, Any]]:
        raws, named = _split(value)
        takers = chain(parameters.positional, repeat(parameters.rest or UNDECLARED))
        others = parameters.others or UNDECLARED
        return (
            [_argument(taker, raw) for taker, raw in zip(takers, raws, strict=False)],
            {n: _argument(parameters.named.get(n, others), raw) for n, raw in named.items()},
        )

    of_envelope = decoders.envelope_decoder(parameters, _ARGS, _KWARGS) or by_parameter

    def invoke(value: bytes | None) -> Any:
        try:
            args, kwargs = of_envelope(value)
        except _REFUSALS:  # another form, or it is at fault
            args, kwargs = by_parameter(value)
        try:
            return handler(*args, **kwargs)
        except TypeError as error:
            # Without another frame the call itself was refused, and the handler did not run.
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise
            raise CodecError(f"the arguments do not fit the handler: {error}") from error

    return invoke


def _accepts(decode_object: Callable[[Any], Any], value: bytes) -> bool:
    try:
        decode_object(value)
    except _REFUSALS:
        return False
    return True


def _argument(parameter: Parameter, raw: msgspec.Raw) -> Any:
    try:
        return parameter.read(raw)
    except msgspec.ValidationError as error:
        raise CodecError(f"parameter {parameter.label!r}: {error}") from error
    except _REFUSALS as error:
        raise _not_json(bytes(raw), error) from error


_ABSENT = msgspec.Raw()


class _Envelope(msgspec.Struct, rename={"args": _ARGS, "kwargs": _KWARGS}):
    args: msgspec.Raw = _ABSENT
    kwargs: msgspec.Raw = msgspec.Raw(b"{}")


_split_form = msgspec.json.Decoder(list[msgspec.Raw] | _Envelope).decode
_split_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_split_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _split(value: bytes | None) -> tuple[list[msgspec.Raw], dict[str, msgspec.Raw]]:
    """Return the bytes of each argument that `value` stands for."""
    try:
        form = _split_form(value)  # type: ignore[arg-type]
        if isinstance(form, list):
            return form, {}
        if form.args is _ABSENT:
            return [msgspec.Raw(value)], {}  # type: ignore[arg-type]
        return _split_array(form.args), _split_object(form.kwargs)
    except _REFUSALS as error:
        decode(value)  # which says what is wrong
        raise _not_json(value, error) from error


def _may_be_envelope(value: bytes) -> bool:
    # A name may be written with escapes: `$` is then \u0024, and a letter \u0061.
    return (
        value.find(b'"$args"', value.find(b"$") - 1) >= 0
        or value.find(b"\\u00", value.find(b"\\")) >= 0
    )


def _parse(value: bytes | None) -> Any:
    try:
        return _json_decode(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise _not_json(value, error) from error


def _not_json(value: bytes | None, error: Exception) -> CodecError:
    return CodecError(f"value {_start(value)} is not JSON: {error}")


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
