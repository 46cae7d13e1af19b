from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

import msgspec
import pytest

from aiopype.annotations import parameters_of
from aiopype.errors import ConfigurationError, GraphError

if TYPE_CHECKING:
    from decimal import Decimal

P = ParamSpec("P")
T = TypeVar("T")


class Price(msgspec.Struct):
    value: float


class Strange:
    """Nothing that JSON could become."""


class Holder(msgspec.Struct):
    strange: Strange | None = None


@dataclasses.dataclass
class Deep:
    holders: dict[str, list[Holder]]


class Lost(msgspec.Struct):
    value: Decimal


class Leaf(msgspec.Struct):
    leaves: list[Leaf] = []


class Box(msgspec.Struct, Generic[T]):
    content: T


class Component:
    class Inner(msgspec.Struct):
        value: int

    def inner(self, value: Inner):
        return value

    def quoted(self, prices: list["Price"]):  # noqa: UP037 - a text within a text
        return prices

    def nothing(self, value, *rest, key=None):
        return value, rest, key

    def some(self, price: Price, other, /, third: int = 3, *rest: str, key: float, **more: bool):
        return price, other, third, rest, key, more

    def result(self, price: Price) -> Decimal:
        return price

    def boxed(self, box: Box[int], leaf: Leaf):
        return box, leaf


class Heir(Component):
    Inner = None


def types(handler):
    found = parameters_of(handler, "name")
    return {name: parameter.type for name, parameter in found.named.items()}


def test_texts_are_looked_up_where_the_handler_is_written():
    assert types(Component().quoted) == {"prices": list[Price]}


def test_names_of_the_class_around_a_handler_are_seen():
    assert types(Component().inner) == {"value": Component.Inner}


def test_an_inherited_handler_sees_the_names_of_the_class_that_defines_it():
    assert types(Heir().inner) == {"value": Component.Inner}


def test_a_handler_that_declares_nothing_has_no_parameters_to_look_at():
    assert parameters_of(Component().nothing, "name") is None
    assert parameters_of(print, "name") is None
    assert parameters_of("text".upper, "name") is None


def test_every_kind_of_parameter_is_found():
    found = parameters_of(Component().some, "name")

    assert [(p.label, p.type, p.is_required) for p in found.positional] == [
        ("price", Price, True),
        ("other", Any, True),
        ("third", int, False),
    ]
    assert (found.rest.label, found.rest.type) == ("*rest", str)
    assert (found.others.label, found.others.type) == ("**more", bool)
    assert list(found.named) == ["third", "key"]
    assert found.needs_names


def test_the_return_annotation_is_not_looked_up():
    assert types(Component().result) == {"price": Price}


def test_generic_and_recursive_types_are_types_like_any_other():
    assert types(Component().boxed) == {"box": Box[int], "leaf": Leaf}


def test_what_a_decorator_passes_on_declares_nothing():
    def decorated(function: Callable[P, T]):
        def wrapper(*args: P.args, **kwargs: P.kwargs):
            return function(*args, **kwargs)

        return wrapper

    assert parameters_of(decorated(Component().some), "name") is None


def test_a_reader_decodes_one_value():
    (parameter,) = parameters_of(Component().inner, "name").positional

    assert parameter.read(b'{"value": 1}') == Component.Inner(1)
    with pytest.raises(msgspec.ValidationError, match=r"at `\$.value`"):
        parameter.read(b'{"value": "1"}')


# --- refused


def annotated(annotation):
    def handler(value):
        return value

    handler.__annotations__ = {"value": annotation}
    return handler


def test_a_name_that_only_type_checkers_see_is_refused():
    def handler(price: Decimal):
        return price

    with pytest.raises(
        GraphError,
        match=r"handler m.a: the annotation 'Decimal' of parameter 'price' cannot be looked up: "
        r"name 'Decimal' is not defined; define or import the type at the top",
    ):
        parameters_of(handler, "m.a")


def test_a_name_that_is_local_to_a_function_is_refused():
    class Local(msgspec.Struct):
        value: int

    def handler(local: Local):
        return local

    with pytest.raises(GraphError, match="the annotation 'Local' of parameter 'local' cannot be"):
        parameters_of(handler, "m.a")


@pytest.mark.parametrize("text", ["msgspec.Nothing", "1 +", "list[Nothing]", "int | 'x'", "[1][2]"])
def test_a_text_that_is_no_type_is_refused(text):
    with pytest.raises(GraphError, match="cannot be looked up"):
        parameters_of(annotated(text), "m.a")


@pytest.mark.parametrize(
    ("annotation", "why"),
    [
        (Strange, "nothing tells how to make a Strange"),
        (Strange | None, "nothing tells how to make a Strange"),
        (list[Strange], "nothing tells how to make a Strange"),
        (Holder, "nothing tells how to make a Strange"),
        (Deep, "nothing tells how to make a Strange"),
        (complex, "nothing tells how to make a complex"),
        (Iterable[int], "nothing tells how to make a Iterable"),
        (Callable[[int], int], "nothing tells how to make a Callable"),
        (int | Strange, "custom type"),
        (Price | Holder, "must be tagged"),
        (Lost, "name 'Decimal' is not defined"),
        (5, "Type '5' is not supported"),
    ],
    ids=str,
)
def test_a_type_that_json_does_not_decode_into_is_refused(annotation, why):
    with pytest.raises(GraphError) as refusal:
        parameters_of(annotated(annotation), "m.a")
    text = str(refusal.value)
    assert text.startswith("handler m.a: the annotation '")
    assert "of parameter 'value' is no type that JSON decodes into: " in text
    assert why in text
    assert text.endswith("or leave the annotation out")


def test_the_program_is_what_is_wrong():
    with pytest.raises(ConfigurationError):
        parameters_of(annotated(Strange), "m.a")
