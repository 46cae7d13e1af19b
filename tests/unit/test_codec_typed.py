import contextlib
import dataclasses
import datetime as dt
import enum
import functools
import typing
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict

import msgspec
import pytest

from aiopype.codec import bind, encode
from aiopype.errors import CodecError, GraphError


class Quote(msgspec.Struct):
    symbol: str
    price: float


class Loose(msgspec.Struct):
    symbol: str = "none"


@dataclasses.dataclass
class QuoteData:
    symbol: str
    price: float


class QuoteDict(TypedDict):
    symbol: str
    price: float


class LooseDict(TypedDict, total=False):
    symbol: str


class QuoteTuple(NamedTuple):
    symbol: str
    price: float


class Side(enum.Enum):
    BUY = "buy"
    SELL = "sell"


class Trade(msgspec.Struct, tag="trade"):
    size: int


class Halt(msgspec.Struct, tag="halt"):
    reason: str


class Positive(msgspec.Struct):
    size: int

    def __post_init__(self):
        if self.size <= 0:
            raise ValueError("a size is above 0")


class Tree(msgspec.Struct):
    branches: list["Tree"] = []


QUOTE = Quote("AAPL", 1.5)
#: type, what is emitted and arrives
FITTING = [
    (Quote, QUOTE),
    (QuoteData, QuoteData("AAPL", 1.5)),
    (QuoteDict, {"symbol": "AAPL", "price": 1.5}),
    (LooseDict, {}),
    (Loose, Loose()),
    (QuoteTuple, QuoteTuple("AAPL", 1.5)),
    (Side, Side.SELL),
    (dt.datetime, dt.datetime(2024, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC)),
    (dt.date, dt.date(2024, 1, 2)),
    (dt.time, dt.time(3, 4, 5)),
    (dt.timedelta, dt.timedelta(days=1, seconds=2)),
    (uuid.UUID, uuid.UUID(int=7)),
    (Decimal, Decimal("1.50")),
    (bytes, b"\x00\xff"),
    (int, 2**63),
    (float, 0.1),
    (bool, True),
    (str, "$args"),
    (type(None), None),
    (int | str, "a"),
    (Optional[Quote], None),  # noqa: UP045 - the older spelling too
    (Quote | None, QUOTE),
    (list[Quote], [QUOTE, QUOTE]),
    (dict[str, Quote], {"a": QUOTE}),
    (dict[int, Side], {1: Side.BUY}),
    (dict, {"a": 1}),
    (dict[str, Any], {"a": [1]}),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}),
    (list[object], [1, "a"]),
    (Literal["a", "b"], "b"),
    (Trade | Halt, Halt("news")),
    (Annotated[int, msgspec.Meta(gt=0)], 5),
    (Positive, Positive(1)),
    (Tree, Tree([Tree(), Tree([Tree()])])),
]
#: type, what is emitted, what the refusal says
UNFIT = [
    (Quote, {"symbol": "AAPL", "price": "1.5"}, "Expected `float`, got `str` - at `$.price`"),
    (Quote, {"symbol": "AAPL"}, "missing required field `price`"),
    (Quote, [1], "Expected `object`, got `array`"),
    (Quote, 1, "Expected `object`, got `int`"),
    (Quote, None, "Expected `object`, got `null`"),
    (QuoteData, {"symbol": 1, "price": 1.5}, r"Expected `str`, got `int` - at `$.symbol`"),
    (QuoteDict, {"symbol": "AAPL"}, "missing required field `price`"),
    (QuoteTuple, ["AAPL"], "Expected `array` of length 2"),
    (Side, "hold", "Invalid enum value 'hold'"),
    (dt.datetime, "yesterday", "Invalid RFC3339"),
    (dt.datetime, 1, "Expected `datetime`, got `int`"),
    (dt.date, "2024-13-01", "Invalid RFC3339"),
    (uuid.UUID, "7", "Invalid UUID"),
    (Decimal, "much", "Invalid decimal"),
    (int, "5", "Expected `int`, got `str`"),
    (int, 5.5, "Expected `int`, got `float`"),
    (float, float("nan"), "Expected `float`, got `null`"),
    (str, 5, "Expected `str`, got `int`"),
    (bool, 1, "Expected `bool`, got `int`"),
    (float, {"a": 1}, "Expected `float`, got `object`"),
    (int | str, [], "Expected `int | str`, got `array`"),
    (list[Quote], [QUOTE, {}], "missing required field `symbol` - at `$[1]`"),
    (dict[str, int], {"a": "b"}, "Expected `int`, got `str` - at `$[...]`"),
    (Literal["a"], "c", "Invalid enum value 'c'"),
    (Trade | Halt, {"type": "split"}, "Invalid value 'split' - at `$.type`"),
    (Annotated[int, msgspec.Meta(gt=0)], 0, "Expected `int` >= 1"),
    (Positive, {"size": 0}, "a size is above 0"),
]


def one(declared):
    def handler(value):
        return value

    handler.__annotations__ = {"value": declared}
    return handler


def two(first, second):
    def handler(a, b):
        return a, b

    handler.__annotations__ = {"a": first, "b": second}
    return handler


def label(value):
    return f"{value!r:.40}".replace(f"{__name__}.", "")


# --- values that fit


@pytest.mark.parametrize(("declared", "value"), FITTING, ids=label)
def test_an_argument_arrives_as_what_its_annotation_says(declared, value):
    got = bind(one(declared))(encode((value,), {}))

    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(("declared", "value"), FITTING, ids=label)
def test_so_it_does_beside_another_by_name_and_in_a_list(declared, value):
    assert bind(two(declared, int))(encode((value, 1), {})) == (value, 1)
    assert bind(two(int, declared))(encode((1, value), {})) == (1, value)
    assert bind(two(int, declared))(encode((), {"b": value, "a": 1})) == (1, value)
    assert bind(two(int, declared))(encode((1,), {"b": value})) == (1, value)
    assert bind(one(list[declared]))(encode(([value],), {})) == [value]


@pytest.mark.parametrize(("declared", "value"), FITTING, ids=label)
def test_an_argument_alone_may_come_in_an_array_or_an_envelope(declared, value):
    inner = msgspec.json.encode(value)

    for form in (
        b"[%b]",
        b" [ %b ] ",
        b'{"$args":[%b]}',
        b' {"$kwargs": {"value": %b}, "$args": []}',
    ):
        assert bind(one(declared))(form.replace(b"%b", inner)) == value


def test_whole_numbers_are_floats_too():
    got = bind(one(float))(b"[5]")

    assert (got, type(got)) == (5.0, float)


def test_members_that_the_type_does_not_know_are_passed_over():
    assert bind(one(Quote))(b'{"symbol":"AAPL","price":1.5,"venue":{"a":[]}}') == QUOTE


def test_a_decimal_keeps_every_digit_of_a_number():
    assert bind(two(Decimal, int))(b"[1.50000000000000000001, 1]")[0] == Decimal(
        "1.50000000000000000001"
    )


# --- values that do not


@pytest.mark.parametrize(("declared", "value", "text"), UNFIT, ids=label)
def test_a_value_that_does_not_fit_is_refused_with_its_parameter_and_place(declared, value, text):
    bound = bind(one(declared))
    forms = [encode((value,), {}), b"[" + msgspec.json.encode(value) + b"]"]

    for form in [*forms, encode((), {"value": value})]:
        with pytest.raises(CodecError) as refusal:
            bound(form)
        assert str(refusal.value).startswith("parameter 'value': ")
        assert text in str(refusal.value)


@pytest.mark.parametrize(("declared", "value", "text"), UNFIT, ids=label)
def test_the_parameter_that_does_not_fit_is_told_from_the_one_that_does(declared, value, text):
    for args, kwargs in [((1, value), {}), ((1,), {"b": value}), ((), {"a": 1, "b": value})]:
        with pytest.raises(CodecError, match=r"^parameter 'b': ") as refusal:
            bind(two(int, declared))(encode(args, kwargs))
        assert text in str(refusal.value)


def test_a_handler_is_not_called_with_a_value_that_does_not_fit():
    called = []

    def handler(quote: Quote, *rest: int):
        called.append(quote)

    for value in (b'{"symbol":1}', b'[{"symbol":"a","price":1.0},"x"]', b"1", b"garbage", None):
        with pytest.raises(CodecError):
            bind(handler)(value)
    assert called == []


# --- signatures


def collect(first: Quote, second: int = 7, *rest: Side, key: Decimal = Decimal(0), **more: dt.date):
    return first, second, rest, key, more


DAY = dt.date(2024, 1, 2)


@pytest.mark.parametrize(
    ("args", "kwargs", "got"),
    [
        ((QUOTE,), {}, (QUOTE, 7, (), 0, {})),
        ((QUOTE, 1), {}, (QUOTE, 1, (), 0, {})),
        ((QUOTE, 1, Side.BUY, Side.SELL), {}, (QUOTE, 1, (Side.BUY, Side.SELL), 0, {})),
        ((QUOTE,), {"key": Decimal("1.5")}, (QUOTE, 7, (), Decimal("1.5"), {})),
        ((), {"first": QUOTE, "day": DAY}, (QUOTE, 7, (), 0, {"day": DAY})),
        ((QUOTE, 1, Side.BUY), {"d": DAY}, (QUOTE, 1, (Side.BUY,), 0, {"d": DAY})),
    ],
)
def test_every_kind_of_parameter_takes_its_type(args, kwargs, got):
    assert bind(collect)(encode(args, kwargs)) == got


@pytest.mark.parametrize(
    ("args", "kwargs", "parameter"),
    [
        (({"symbol": "a"},), {}, "first"),
        ((QUOTE, "1"), {}, "second"),
        ((QUOTE, 1, "buy", "hold"), {}, r"\*rest"),
        ((QUOTE,), {"key": "much"}, "key"),
        ((QUOTE,), {"day": "today"}, r"\*\*more"),
    ],
)
def test_every_kind_of_parameter_is_named_by_a_refusal(args, kwargs, parameter):
    with pytest.raises(CodecError, match=rf"^parameter '{parameter}': "):
        bind(collect)(encode(args, kwargs))


def only_rest(*quotes: Quote):
    return quotes


def with_default(quote: Quote, weight: float = 2.0, side: Side | None = None):
    return quote, weight, side


def by_position(quote: Quote, /, weight):
    return quote, weight


def by_name(*, quote: Quote, weight=1):
    return quote, weight


def half(quote, weight: float):
    return quote, weight


@pytest.mark.parametrize(
    ("handler", "args", "kwargs", "got"),
    [
        (only_rest, (), {}, ()),
        (only_rest, (QUOTE,), {}, (QUOTE,)),
        (only_rest, (QUOTE, QUOTE), {}, (QUOTE, QUOTE)),
        (with_default, (QUOTE,), {}, (QUOTE, 2.0, None)),
        (with_default, (QUOTE, 1), {}, (QUOTE, 1.0, None)),
        (with_default, (QUOTE, 1, "buy"), {}, (QUOTE, 1.0, Side.BUY)),
        (with_default, (), {"quote": QUOTE, "side": "buy"}, (QUOTE, 2.0, Side.BUY)),
        (with_default, (QUOTE, 1.0), {"side": "buy"}, (QUOTE, 1.0, Side.BUY)),
        (by_position, (QUOTE, {"a": 1}), {}, (QUOTE, {"a": 1})),
        (by_position, (QUOTE,), {"weight": [1]}, (QUOTE, [1])),
        (by_name, (), {"quote": QUOTE}, (QUOTE, 1)),
        (half, ({"a": 1}, 2), {}, ({"a": 1}, 2.0)),
        (half, (QUOTE, 2), {}, ({"symbol": "AAPL", "price": 1.5}, 2.0)),
    ],
)
def test_a_signature_takes_what_it_takes_without_annotations(handler, args, kwargs, got):
    assert bind(handler)(encode(args, kwargs)) == got


@pytest.mark.parametrize(
    ("handler", "args", "kwargs", "text"),
    [
        (with_default, (), {}, "missing 1 required positional argument: 'quote'"),
        (with_default, (QUOTE, 1, "buy", 4), {}, "takes from 1 to 3 positional arguments but 4"),
        (with_default, (QUOTE,), {"quote": QUOTE}, "multiple values for argument 'quote'"),
        (with_default, (QUOTE,), {"other": 1}, "unexpected keyword argument 'other'"),
        (with_default, (), {"weight": 1}, "missing 1 required positional argument: 'quote'"),
        (by_position, (QUOTE,), {}, "missing 1 required positional argument: 'weight'"),
        (by_position, (), {"quote": QUOTE, "weight": 1}, "positional-only"),
        (by_name, (QUOTE,), {}, "takes 0 positional arguments"),
        (half, (QUOTE,), {}, "missing 1 required positional argument: 'weight'"),
        (half, (1, 2, 3), {}, "takes 2 positional arguments but 3 were given"),
    ],
)
def test_arguments_that_do_not_fit_the_parameters_are_refused(handler, args, kwargs, text):
    with pytest.raises(CodecError, match=r"^the arguments do not fit the handler: ") as refusal:
        bind(handler)(encode(args, kwargs))
    assert text in str(refusal.value)


@pytest.mark.parametrize("kwargs", [{}, {"quote": QUOTE}])
def test_a_type_error_of_the_handler_is_its_own(kwargs):
    def handler(quote: Quote):
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        bind(handler)(encode(() if kwargs else (QUOTE,), kwargs))


async def test_the_coroutine_of_a_coroutine_handler_is_returned():
    async def handler(quote: Quote):
        return quote

    assert await bind(handler)(encode((QUOTE,), {})) == QUOTE
    with pytest.raises(CodecError):
        bind(handler)(b"[1]")


def test_a_decorated_handler_has_the_annotations_of_what_is_decorated():
    def adding(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs, side=Side.BUY)

        return wrapper

    @adding
    def handler(quote: Quote, side: Side = Side.SELL):
        return quote, side

    # The default is not passed on, or the decorator could not add the argument.
    assert bind(handler)(encode((QUOTE,), {})) == (QUOTE, Side.BUY)
    assert bind(handler)(encode((), {"quote": QUOTE})) == (QUOTE, Side.BUY)


# --- the forms of a value


@pytest.mark.parametrize("declared", [dict, dict[str, Any], Loose, LooseDict, Any, object])
@pytest.mark.parametrize(
    "value",
    [
        b'{"$args":[{"symbol":"a"}]}',
        b'{"$args":[{"symbol":"a"}],"$kwargs":{}}',
        b'{"$kwargs":{"value":{"symbol":"a"}},"$args":[]}',
        b'{"other":1,"$args":[{"symbol":"a"}]}',
        rb'{"other":1,"\u0024args":[{"symbol":"a"}]}',
        rb'{"other":1,"$\u0061rgs":[{"symbol":"a"}]}',
        b' {"other":"$\\n", "$args" : [{"symbol":"a"}]}',
    ],
)
def test_an_envelope_is_known_by_types_that_would_take_it_for_an_object(declared, value):
    got = bind(one(declared))(value)

    assert got == (Loose("a") if declared is Loose else {"symbol": "a"})


@pytest.mark.parametrize(
    "symbol", ["$", "costs $5", '"$args"', "$args", "\\", "\n", "\u0001", '"$args": []', "ä\\u00e4"]
)
@pytest.mark.parametrize("declared", [dict, Quote, Loose, LooseDict, QuoteData])
def test_texts_that_look_like_an_envelope_are_texts(declared, symbol):
    got = bind(one(declared))(encode(({"symbol": symbol, "price": 1.0},), {}))

    assert (got["symbol"] if isinstance(got, dict) else got.symbol) == symbol


TYPED = pytest.mark.parametrize(
    "handler",
    [
        one(Quote),
        one(Loose),
        one(dict[str, Any]),
        one(list[int]),
        two(Quote, int),
        only_rest,
        collect,
    ],
    ids=["Struct", "defaults", "dict", "list", "two", "rest", "all kinds"],
)


@TYPED
@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b" ",
        b"garbage",
        b"[1, 2",
        b"[",
        b'{"symbol": "a", "price": 1.0',
        b'{"symbol": "a", "price": 1.0} {}',
        b'{"symbol": "a", "price": NaN}',
        b"{'symbol': 1}",
        b'{"$args": [1',
        b"[" * 100_000,
        b'{"symbol":' * 100_000,
    ],
    ids=lambda value: f"{value!r:.30}",
)
def test_what_is_not_json_is_refused_as_ever(handler, value):
    with pytest.raises(CodecError, match="is not JSON"):
        bind(handler)(value)


def test_a_text_that_is_not_utf_8_is_refused_as_ever():
    with pytest.raises(CodecError, match="is not JSON"):
        bind(one(Quote))(b'{"symbol": "\xff\xfe", "price": 1.0}')


@TYPED
@pytest.mark.parametrize("value", [b"1", b" 1", b'"a"', b"null", b"true"])
def test_a_bare_scalar_is_refused_as_ever(handler, value):
    with pytest.raises(CodecError, match="bare"):
        bind(handler)(value)


@pytest.mark.parametrize("value", [b"1", b'"a"', b"null"])
def test_a_bare_scalar_is_refused_though_it_would_fit(value):
    with pytest.raises(CodecError, match="bare"):
        bind(one(int | str | None))(value)


@TYPED
@pytest.mark.parametrize(
    "value",
    [
        b'{"$args": 1}',
        b'{"$args": null}',
        b'{"$args": {}}',
        b'{"$args": [], "$kwargs": []}',
        b'{"$args": [], "$kwargs": null}',
    ],
)
def test_an_envelope_of_the_wrong_shape_is_refused_as_ever(handler, value):
    with pytest.raises(CodecError, match="must be an array"):
        bind(handler)(value)


def test_the_names_of_an_envelope_without_arguments_are_the_objects_own():
    assert bind(one(dict[str, int]))(b'{"$kwargs": 1}') == {"$kwargs": 1}


@TYPED
def test_deep_values_are_decoded_or_refused_and_nothing_else(handler):
    for depth in range(900, 1_020, 3):
        deep = b"[" * depth + b"]" * depth
        for value in (deep, b'{"a":' + deep + b"}", b'{"$args":[' + deep + b"]}"):
            with contextlib.suppress(CodecError):
                bind(handler)(value)


# --- without annotations


@pytest.mark.parametrize(
    "handler",
    [
        lambda value: value,
        one(Any),
        one("Any"),
        one("typing.Any"),
        one(object),
        typing.cast("Any", str.strip),
    ],
)
def test_without_annotations_a_value_is_plain_json(handler):
    assert bind(handler)(b'["a"]') == "a"


def test_a_return_annotation_does_not_matter():
    def handler(value) -> "Nowhere":  # noqa: F821
        return value

    assert bind(handler)(b'{"a": 1}') == {"a": 1}


@pytest.mark.parametrize("value", [b"[]", b'{"$args": [], "$kwargs": {"other": 1}}'])
def test_arguments_that_a_handler_without_annotations_does_not_take_are_told(value):
    def handle(value):
        raise AssertionError("it is not called")

    with pytest.raises(CodecError, match=r"do not fit the handler: .*argument"):
        bind(handle)(value)


def test_a_type_error_of_the_handlers_own_is_not_taken_for_that():
    def handle(value):
        return value + 1

    with pytest.raises(TypeError, match="concatenate"):
        bind(handle)(b'["text"]')


# --- refused when it is bound


def test_the_refusal_of_an_annotation_names_the_handler_it_is_told():
    with pytest.raises(GraphError, match=r"^handler m.source.data -> m.sink.take: .*'value'"):
        bind(one(complex), "m.source.data -> m.sink.take")


def test_the_refusal_of_an_annotation_names_the_function_otherwise():
    with pytest.raises(GraphError, match=r"^handler one.<locals>.handler: "):
        bind(one(complex))
