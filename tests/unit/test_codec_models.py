"""Pydantic models as arguments; `aiopype.models` does what is special about them."""

import datetime as dt
import enum
import textwrap
from decimal import Decimal
from typing import Generic, TypeVar

import msgspec
import pydantic
import pytest

from aiopype import models
from aiopype.codec import bind, decode, encode
from aiopype.errors import CodecError, GraphError

T = TypeVar("T")


class Side(enum.Enum):
    BUY = "buy"


class Quote(pydantic.BaseModel):
    symbol: str
    price: float = pydantic.Field(gt=0)
    time: dt.datetime | None = None


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    day: dt.date
    side: Side
    amount: Decimal
    pair: tuple[int, int]


class Aliased(pydantic.BaseModel):
    last_price: float = pydantic.Field(alias="lastPrice")


class AliasedOut(Aliased):
    model_config = pydantic.ConfigDict(serialize_by_alias=True)


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Either(pydantic.RootModel[Quote | Strict]):
    pass


class Prices(pydantic.RootModel[list[float]]):
    pass


class Holder(msgspec.Struct):
    quote: Quote
    others: list[Quote] = []


QUOTE = Quote(symbol="AAPL", price=1.5, time=dt.datetime(2024, 1, 2, tzinfo=dt.UTC))
STRICT = Strict(day=dt.date(2024, 1, 2), side=Side.BUY, amount=Decimal("1.50"), pair=(1, 2))
FITTING = [
    (Quote, QUOTE),
    (Strict, STRICT),
    (Aliased, Aliased(lastPrice=1.5)),
    (AliasedOut, AliasedOut(lastPrice=1.5)),
    (Page[Quote], Page[Quote](items=[QUOTE])),
    (Either, Either(STRICT)),
    (Prices, Prices([1.0, 2.0])),
    (Quote | None, QUOTE),
    (Quote | None, None),
    (list[Quote], [QUOTE, QUOTE]),
    (list[Strict], [STRICT]),
    (dict[str, Quote], {"a": QUOTE}),
    (Holder, Holder(QUOTE, [QUOTE])),
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


# --- on the wire


def test_a_model_alone_travels_as_its_object():
    assert encode((QUOTE,), {}) == b'{"symbol":"AAPL","price":1.5,"time":"2024-01-02T00:00:00Z"}'
    assert decode(encode((STRICT,), {})) == (
        ({"day": "2024-01-02", "side": "buy", "amount": "1.50", "pair": [1, 2]},),
        {},
    )


def test_a_model_that_is_no_object_travels_in_an_array():
    assert encode((Prices([1.0]),), {}) == b"[[1.0]]"


def test_models_travel_inside_of_other_arguments():
    prices = Prices([1.0])

    assert encode((prices, {"a": [prices]}), {"b": (prices,)}) == (
        b'{"$args":[[1.0],{"a":[[1.0]]}],"$kwargs":{"b":[[1.0]]}}'
    )
    assert encode((Holder(QUOTE),), {}).startswith(b'{"quote":{"symbol":"AAPL"')


def test_a_model_with_a_reserved_name_is_refused():
    class Reserved(AliasedOut):
        args: int = pydantic.Field(alias="$args")

    with pytest.raises(CodecError, match="reserved name"):
        encode((Reserved.model_validate({"lastPrice": 1, "$args": 1}),), {})


def test_a_model_without_json_form_is_refused():
    class Odd(pydantic.BaseModel):
        value: object

    with pytest.raises(CodecError, match="have no JSON form"):
        encode((Odd(value=object()),), {})


# --- in a handler


@pytest.mark.parametrize(("declared", "value"), FITTING, ids=lambda v: f"{v!r:.40}")
def test_a_model_arrives_as_it_was_emitted(declared, value):
    assert bind(one(declared))(encode((value,), {})) == value
    assert bind(two(declared, int))(encode((value, 1), {})) == (value, 1)
    assert bind(two(int, declared))(encode((1,), {"b": value})) == (1, value)
    assert type(bind(one(declared))(encode((value,), {}))) is type(value)


def test_a_model_is_read_by_its_own_rules():
    assert bind(one(Quote))(b'{"symbol":"AAPL","price":"1.5","more":1}').price == 1.5
    assert bind(one(Aliased))(b'{"lastPrice":1.5}').last_price == 1.5


@pytest.mark.parametrize(
    ("declared", "value", "text"),
    [
        (Quote, {"symbol": "a", "price": "x"}, "Quote: Input should be a valid number, unable"),
        (Quote, {"symbol": "a", "price": "x"}, "- at `$.price`"),
        (Quote, {"symbol": "a", "price": -1}, "Input should be greater than 0 - at `$.price`"),
        (Quote, {"price": 1}, "Field required - at `$.symbol`"),
        (Quote, [1], "Quote: Input should be an object - at `$`"),
        (Quote, 1, "Quote: Input should be an object - at `$`"),
        (list[Quote], [{"symbol": "a", "price": -1}], "than 0 - at `$.price` - at `$[0]`"),
        (Quote | None, {"symbol": "a"}, "Field required - at `$.price`"),
        (Strict, {}, "Field required - at `$.amount`; and 1 more"),
        (Holder, {"quote": {"symbol": "a"}}, "Field required - at `$.price` - at `$.quote`"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_parameter_and_place(declared, value, text):
    for form in (encode((value,), {}), encode((), {"value": value})):
        with pytest.raises(CodecError, match=r"^parameter 'value': ") as refusal:
            bind(one(declared))(form)
        assert text in str(refusal.value)
        assert "pydantic.dev" not in str(refusal.value)


@pytest.mark.parametrize(
    "value", [None, b"", b"garbage", b'{"symbol":"a","price":NaN}', b'{"symbol":"\xff","price":1}']
)
def test_what_is_not_json_is_refused(value):
    with pytest.raises(CodecError):
        bind(one(Quote))(value)


def test_arguments_that_do_not_fit_the_parameters_are_refused():
    with pytest.raises(CodecError, match="the arguments do not fit the handler"):
        bind(one(Quote))(encode((QUOTE, 1), {}))


@pytest.mark.parametrize("declared", [Quote | Strict, Quote | Holder])
def test_two_models_as_alternatives_are_refused_with_the_reason(declared):
    with pytest.raises(GraphError, match="custom type"):
        bind(one(declared))


def test_a_model_of_an_older_pydantic_is_refused_when_it_is_bound():
    class Old:
        @classmethod
        def model_validate_json(cls, value):
            return cls()

    with pytest.raises(GraphError, match=r"pydantic is older than 2\.11"):
        bind(one(list[Old]))


def test_an_error_that_is_not_pydantics_is_told_as_it_is():
    class Odd:
        @classmethod
        def model_validate_json(cls, value, by_alias, by_name):
            raise ValueError("odd")

    with pytest.raises(msgspec.ValidationError, match=r"^Odd: odd$"):
        models.read(Odd, b"{}")


def test_pydantic_is_not_imported_for_those_who_do_without(python):
    program = """
        import dataclasses, sys
        from aiopype.codec import bind, encode

        @dataclasses.dataclass
        class Quote:
            price: float

        def handle(quote: Quote, others: list[Quote]):
            return quote

        assert bind(handle)(encode((Quote(1.0), []), {})) == Quote(1.0)
        try:
            encode((object(),), {})
        except Exception:
            pass
        print("pydantic" in sys.modules)
    """
    ended = python("-c", textwrap.dedent(program))
    assert (ended.stdout, ended.stderr) == ("False\n", "")
