"""Decoders of a whole value into all the arguments of a handler with annotations, in one pass.

They are short cuts: where none is possible there is None, and what they refuse is decoded again,
parameter by parameter, by the codec, which then knows whose fault it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import GenericAlias
from typing import Any

import msgspec

from aiopype import models
from aiopype.annotations import Parameter, Parameters

__all__ = ["array_decoder", "envelope_decoder", "object_decoder"]

_UNSET = msgspec.UNSET


def object_decoder(parameters: Parameters) -> Callable[[Any], Any] | None:
    """Return what decodes an object that is the only argument."""
    takers = parameters.positional or [p for p in [parameters.rest] if p is not None]
    required = sum(p.is_required for p in parameters.positional)
    if not takers or required > 1 or parameters.needs_names or models.is_model(takers[0].type):
        return None
    return takers[0].read


def array_decoder(parameters: Parameters) -> Callable[[Any], Sequence[Any]] | None:
    """Return what decodes an array of positional arguments; it refuses a wrong number of them."""
    positional, rest = parameters.positional, parameters.rest
    if parameters.needs_names or parameters.has_models:
        return None
    if rest is not None:
        # msgspec knows no array that begins with certain types and goes on with others.
        return None if positional else _decoder(GenericAlias(tuple, (rest.type, ...)))
    if all(p.is_required for p in positional):
        return _decoder(GenericAlias(tuple, tuple(p.type for p in positional)))
    decode_struct = _decoder(_struct(positional, array_like=True))

    def decode(value: Any) -> Sequence[Any]:
        return _given(decode_struct(value))

    return decode


def envelope_decoder(
    parameters: Parameters, args_name: str, kwargs_name: str
) -> Callable[[Any], tuple[Sequence[Any], dict[str, Any]]] | None:
    """Return what decodes the form with keyword arguments; it may miss that one is missing."""
    if parameters.rest or parameters.others or parameters.has_models:
        return None
    # Each argument may come in either way, so that none is required in one of them.
    args = _struct([p._replace(is_required=False) for p in parameters.positional], array_like=True)
    kwargs = _struct([p._replace(is_required=False) for p in parameters.named.values()])
    decode_struct = _decoder(
        msgspec.defstruct(
            "Envelope",
            [("args", args), ("kwargs", kwargs)],
            rename={"args": args_name, "kwargs": kwargs_name},
        )
    )

    names = tuple(parameters.named)

    def decode(value: Any) -> tuple[Sequence[Any], dict[str, Any]]:
        envelope = decode_struct(value)
        named = msgspec.structs.asdict(envelope.kwargs)
        for name in names:
            if named[name] is _UNSET:
                del named[name]
        return _given(envelope.args), named

    return decode


def _decoder(declared: Any) -> Callable[[Any], Any]:
    return msgspec.json.Decoder(declared, dec_hook=models.from_plain).decode


def _struct(parameters: Sequence[Parameter], *, array_like: bool = False) -> type[msgspec.Struct]:
    # A parameter's own default is not passed on: what did not arrive is not an argument, for a
    # decorator might add it.
    return msgspec.defstruct(
        "Arguments",
        [(p.label, p.type) if p.is_required else (p.label, p.type, _UNSET) for p in parameters],
        array_like=array_like,
        forbid_unknown_fields=True,
    )


def _given(arguments: msgspec.Struct) -> Sequence[Any]:
    """Return the positional arguments that arrived: those that did not are at the end."""
    args = msgspec.structs.astuple(arguments)
    if not args or args[0] is _UNSET:
        return ()
    end = len(args)
    while args[end - 1] is _UNSET:
        end -= 1
    return args[:end]
