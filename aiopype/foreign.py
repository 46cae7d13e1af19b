"""Values that others wrote into a topic of theirs: each is one argument, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from aiopype import models
from aiopype.annotations import UNDECLARED, Parameter, parameters_of
from aiopype.codec import Invoke
from aiopype.errors import CodecError

__all__ = ["Content", "bind", "encode"]

Content = Literal["json", "text", "bytes"]

#: What decoding raises, by msgspec's version and the fault.
_REFUSALS = (TypeError, ValueError, RecursionError, msgspec.MsgspecError)

_json_encode = msgspec.json.Encoder(enc_hook=models.as_plain).encode


def bind(handler: Callable[..., Any], name: str, content: Content) -> Invoke:
    """Return a function that calls `handler` with what a record's value holds.

    JSON is decoded as the annotation of the handler's first parameter says, a text or bytes as the
    JSON string that stands for them. A record without a value (a tombstone) is null.

    The function raises CodecError for a value that is not of the content or does not fit the
    annotation, and for a handler that takes no single argument; and whatever the handler raises.

    Raises:
        GraphError: an annotation cannot be looked up, or is no type that JSON decodes into.
    """
    read = _reader(content, _taker(handler, name))

    def invoke(value: bytes | None) -> Any:
        argument = read(value)
        try:
            return handler(argument)
        except TypeError as error:
            # Without another frame the call itself was refused, and the handler did not run.
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise
            raise CodecError(
                f"a foreign value is one argument, which does not fit the handler: {error}"
            ) from error

    return invoke


def encode(value: Any, content: Content) -> bytes:
    """Return the record's value that stands for `value`; bytes are taken for it already.

    Raises:
        CodecError: it has no JSON form, or is no text where the content is text.
    """
    if isinstance(value, bytes):
        return value
    try:
        if content == "json":
            return _json_encode(value)
        if content == "text" and isinstance(value, str):
            return value.encode()
    except (*_REFUSALS, OverflowError) as error:
        raise CodecError(f"value {value!r:.80} has no form in {content}: {error}") from error
    raise CodecError(f"value {value!r:.80} is a {type(value).__name__}; give {content}")


def _taker(handler: Callable[..., Any], name: str) -> Parameter:
    parameters = parameters_of(handler, name)
    if parameters is None:
        return UNDECLARED
    return next(iter(parameters.positional), parameters.rest or UNDECLARED)


def _reader(content: Content, taker: Parameter) -> Callable[[bytes | None], Any]:
    def of_json(value: bytes | None) -> Any:
        try:
            return taker.read(b"null" if value is None else value)
        except msgspec.ValidationError as error:
            raise CodecError(f"parameter {taker.label!r}: {error}") from error
        except _REFUSALS as error:
            raise CodecError(f"value {_start(value)} is not JSON: {error}") from error

    def of_text(value: bytes | None) -> Any:
        if value is None:
            return of_json(None)
        try:
            text = str(value, "utf-8")
        except UnicodeDecodeError as error:
            raise CodecError(f"value {_start(value)} is no text: {error}") from error
        return text if taker.type in (Any, str) else of_json(_json_encode(text))

    def of_bytes(value: bytes | None) -> Any:
        if value is None or taker.type not in (Any, bytes):
            return of_json(None if value is None else _json_encode(value))
        return bytes(value)

    return {"json": of_json, "text": of_text, "bytes": of_bytes}[content]


def _start(value: bytes | None) -> str:
    return "None" if value is None else f"{bytes(value[:40])!r}"
