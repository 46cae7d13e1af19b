"""What a handler declares about its parameters, found out once, when it is subscribed.

Annotations may be texts (`from __future__ import annotations`); they are looked up where the
handler is written. What cannot be looked up or decoded is refused here, not at the first event.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from aiopype import models
from aiopype.errors import GraphError

__all__ = ["UNDECLARED", "Parameter", "Parameters", "parameters_of"]

_PLAIN = (Any, object, inspect.Parameter.empty)
_PLAIN_TEXTS = ("Any", "typing.Any", "object")
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Parameter(NamedTuple):
    """One parameter of a handler.

    Attributes:
        label: its name, with the asterisks of `*args` and `**kwargs`.
        type: what its values are decoded into; Any where nothing is declared.
        is_required: it has no default.
        read: decodes the JSON of one value. Raises msgspec.ValidationError for a value that does
            not fit, and what msgspec raises for bytes that are not JSON.
    """

    label: str
    type: Any
    is_required: bool
    read: Callable[[Any], Any]


#: Takes what a signature has no parameter for, so that the call itself can refuse it.
UNDECLARED = Parameter("", Any, False, msgspec.json.Decoder().decode)


class Parameters(NamedTuple):
    """The parameters of a handler by how an argument reaches them.

    Attributes:
        positional: those that take positional arguments, in order.
        rest: `*args`, or None.
        named: those that take an argument by name.
        others: `**kwargs`, or None.
        needs_names: a parameter without a default takes its argument by name only.
    """

    positional: list[Parameter]
    rest: Parameter | None
    named: dict[str, Parameter]
    others: Parameter | None
    needs_names: bool

    @property
    def has_models(self) -> bool:
        """Whether a parameter is a pydantic model, which reads its JSON itself."""
        found = [*self.positional, *self.named.values(), self.rest, self.others]
        return any(p is not None and models.is_model(p.type) for p in found)


def parameters_of(handler: Callable[..., Any], name: str) -> Parameters | None:
    """Return the parameters of `handler`, or None if it declares nothing about any of them.

    A decorated handler counts with the signature of what is decorated, as `inspect.signature`
    sees it. The return annotation is not looked at.

    Arguments:
        name: what errors call the handler.

    Raises:
        GraphError: an annotation cannot be looked up, or is no type that JSON decodes into.
    """
    try:
        found = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):  # something built in, which has no signature to look at
        return None
    made = {p.name: _parameter(handler, p, name) for p in found}
    if all(p.type is Any for p in made.values()):
        return None
    return Parameters(
        positional=[made[p.name] for p in found if p.kind in _BY_POSITION],
        rest=next((made[p.name] for p in found if p.kind is p.VAR_POSITIONAL), None),
        named={p.name: made[p.name] for p in found if p.kind in _BY_NAME},
        others=next((made[p.name] for p in found if p.kind is p.VAR_KEYWORD), None),
        needs_names=any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in found),
    )


def _parameter(handler: Callable[..., Any], found: inspect.Parameter, name: str) -> Parameter:
    stars = "*" if found.kind is found.VAR_POSITIONAL else ""
    stars = "**" if found.kind is found.VAR_KEYWORD else stars
    label = stars + found.name
    required = found.default is found.empty and not stars
    if _is_plain(found.annotation):
        return Parameter(label, Any, required, UNDECLARED.read)
    text = found.annotation
    text = text if isinstance(text, str) else inspect.formatannotation(text)
    which = f"handler {name}: the annotation {text!r} of parameter {label!r}"
    declared = _look_up(handler, found, which)
    if _is_plain(declared):
        return Parameter(label, Any, required, UNDECLARED.read)
    return Parameter(label, declared, required, _reader(declared, which))


def _is_plain(annotation: Any) -> bool:
    # A decorator's `*args: P.args` says only that they are passed on.
    passed_on = typing.ParamSpecArgs | typing.ParamSpecKwargs
    return (
        any(annotation is plain for plain in _PLAIN)
        or (isinstance(annotation, str) and annotation in _PLAIN_TEXTS)
        or isinstance(annotation, passed_on)
    )


def _look_up(handler: Callable[..., Any], found: inspect.Parameter, which: str) -> Any:
    function = inspect.unwrap(getattr(handler, "__func__", handler))
    # One parameter at a time, on a function that has no other annotation: another one that cannot
    # be looked up, as that of the return value, must not matter.
    alone: Any = lambda: None  # noqa: E731 - a fresh function, which get_type_hints knows best
    alone.__annotations__ = {found.name: found.annotation}
    try:
        hints = typing.get_type_hints(
            alone, getattr(function, "__globals__", {}), _class_names(handler), include_extras=True
        )
    except Exception as error:
        raise GraphError(
            f"{which} cannot be looked up: {error}; define or import the type at the top of its "
            "module, outside of functions and of `if TYPE_CHECKING`, or leave the annotation out"
        ) from error
    return hints[found.name]


def _class_names(handler: Callable[..., Any]) -> dict[str, Any]:
    """Return the names that the class body around the handler has: annotations see them."""
    classes = type(getattr(handler, "__self__", None)).__mro__
    own = getattr(handler, "__name__", "")
    return next((dict(vars(c)) for c in classes if own in vars(c)), {})


def _reader(declared: Any, which: str) -> Callable[[Any], Any]:
    try:
        decoder = msgspec.json.Decoder(declared, dec_hook=models.from_plain)
        why = _why_not(msgspec.inspect.type_info(declared))
    except Exception as error:  # noqa: BLE001 - looks up annotations of the user's own classes
        why = str(error)
    if why:
        raise GraphError(
            f"{which} is no type that JSON decodes into: {why}; use a msgspec Struct, a "
            "dataclass, a TypedDict, a pydantic model or a type that msgspec supports, or leave "
            "the annotation out"
        )
    if models.is_model(declared):
        return lambda value: models.read(declared, value)
    return decoder.decode


def _why_not(info: Any) -> str:
    """Return what in a type, at any depth, has no decoding; msgspec itself takes every class."""
    seen: set[int] = set()  # types may contain themselves
    left = [info]
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, msgspec.inspect.CustomType):
            why = _why_not_class(node.cls)
            if why:
                return why
        elif isinstance(node, tuple):
            left += node
        elif isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field):
            left += [getattr(node, name) for name in node.__struct_fields__]
    return ""


def _why_not_class(found: Any) -> str:
    if found is object:
        return ""
    if models.is_model(found):
        return models.why_unusable(found)
    return f"nothing tells how to make a {getattr(found, '__qualname__', found)}"
