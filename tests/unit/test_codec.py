import contextlib
import dataclasses
import datetime as dt
import decimal
import math
import uuid

import msgspec
import pytest

from aiopype.codec import bind, decode, encode
from aiopype.errors import CodecError


class Unspeakable:
    """An object whose text cannot be had."""

    def __repr__(self):
        raise RuntimeError("no text")


@dataclasses.dataclass
class Quote:
    symbol: str
    price: float


class QuoteStruct(msgspec.Struct):
    symbol: str
    price: float


def nested(depth, innermost=1):
    """Return lists within lists."""
    value = innermost
    for _ in range(depth):
        value = [value]
    return value


def returning(*args, **kwargs):
    return args, kwargs


VALUES = [
    None,
    True,
    False,
    0,
    -1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**30,
    0.1,
    -0.0,
    1e308,
    5e-324,
    "",
    "text",
    "äöü 漢字 \U0001f600",
    '"quoted" \\ \n \x00 \x7f \u2028',
    "$args",
    [],
    [1, "a", None],
    [[]],
    {},
    {"a": 1},
    {"a": {"b": [1, {"c": None}]}},
    {"": ""},
    {"a": "$args", "b": '{"$args": []}'},
    nested(200),
]


# --- the form on the wire


@pytest.mark.parametrize(
    ("args", "kwargs", "value"),
    [
        ((), {}, b"[]"),
        ((1,), {}, b"[1]"),
        (("a", 1.5), {}, b'["a",1.5]'),
        (([1, 2],), {}, b"[[1,2]]"),
        (({"a": 1},), {}, b'{"a":1}'),
        (({},), {}, b"{}"),
        (({"a": 1}, {"b": 2}), {}, b'[{"a":1},{"b":2}]'),
        ((), {"a": 1}, b'{"$args":[],"$kwargs":{"a":1}}'),
        ((1, 2), {"a": 1}, b'{"$args":[1,2],"$kwargs":{"a":1}}'),
        (({"a": 1},), {"b": 2}, b'{"$args":[{"a":1}],"$kwargs":{"b":2}}'),
    ],
)
def test_arguments_have_one_form_each_on_the_wire(args, kwargs, value):
    assert encode(args, kwargs) == value


# --- there and back


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value!r:.30}")
def test_one_argument_comes_back_as_it_was(value):
    assert decode(encode((value,), {})) == ((value,), {})


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value!r:.30}")
def test_an_argument_beside_others_comes_back_as_it_was(value):
    assert decode(encode((value, 1, value), {})) == ((value, 1, value), {})


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value!r:.30}")
def test_a_keyword_argument_comes_back_as_it_was(value):
    assert decode(encode((1,), {"name": value})) == ((1,), {"name": value})


def test_no_argument_comes_back_as_no_argument():
    assert decode(encode((), {})) == ((), {})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_in_json_becomes_null(number):
    assert decode(encode((number, {"deep": [number]}), {})) == ((None, {"deep": [None]}), {})


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ((1, (2, 3)), [1, [2, 3]]),
        ([(1,), [(2,)]], [[1], [[2]]]),
        ({"a": (1, 2)}, {"a": [1, 2]}),
    ],
)
def test_tuples_become_lists(given, got):
    assert decode(encode((given,), {})) == ((got,), {})


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ({1: "a"}, {"1": "a"}),
        (Quote("AAPL", 1.5), {"symbol": "AAPL", "price": 1.5}),
        (QuoteStruct("AAPL", 1.5), {"symbol": "AAPL", "price": 1.5}),
        (b"abc", "YWJj"),
        (decimal.Decimal("1.50"), "1.50"),
        (dt.datetime(2020, 1, 2, tzinfo=dt.UTC), "2020-01-02T00:00:00Z"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (frozenset([1]), [1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_has_no_word_for_becomes_what_is_closest(given, got):
    assert decode(encode((given,), {})) == ((got,), {})


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, "a"), {}), (({"a": 1},), {}), ((1,), {"b": [2]}), ((), {"$args": 1})],
)
def test_a_bound_handler_is_called_with_what_was_encoded(args, kwargs):
    assert bind(returning)(encode(args, kwargs)) == (args, kwargs)


def test_a_bound_handler_raises_what_the_handler_raises():
    def handler():
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        bind(handler)(b"[]")


# --- reserved names


@pytest.mark.parametrize("name", ["$args", "$kwargs"])
def test_an_object_with_a_reserved_name_is_refused_at_the_top(name):
    with pytest.raises(CodecError, match=rf"reserved name '\{name}'; rename it"):
        encode(({"a": 1, name: []},), {})


@pytest.mark.parametrize("name", ["$args", "$kwargs"])
def test_a_reserved_name_is_like_any_other_below_the_top(name):
    for value in ({"a": {name: [1]}}, {"a": [{name: {}}]}, {"a": name}, [{name: 1}]):
        assert decode(encode((value,), {})) == ((value,), {})


@pytest.mark.parametrize("name", ["$args", "$kwargs"])
def test_a_reserved_name_is_like_any_other_beside_a_second_argument(name):
    assert decode(encode(({name: 1}, 2), {})) == (({name: 1}, 2), {})
    assert decode(encode(({name: 1},), {"a": 2})) == (({name: 1},), {"a": 2})
    assert decode(encode((), {name: 1})) == ((), {name: 1})


# --- what cannot be encoded


@pytest.mark.parametrize(
    "argument",
    [
        object(),
        returning,
        1 + 2j,
        iter([]),
        {(1, 2): 3},
        {None: 1},
        "\ud800",
        {"\udfff": 1},
        [{"a": object()}],
        Unspeakable(),
        10**5_000,
        nested(100_000),
        {"$args": nested(100_000)},
    ],
    ids=[
        "object",
        "function",
        "complex",
        "iterator",
        "tuple as a name",
        "None as a name",
        "surrogate",
        "surrogate as a name",
        "object below",
        "no repr",
        "5,000 digits",
        "too deep",
        "too deep and reserved",
    ],
)
def test_an_argument_without_json_form_is_refused(argument):
    for args, kwargs in [((argument,), {}), ((1, argument), {}), ((), {"name": argument})]:
        with pytest.raises(CodecError):
            encode(args, kwargs)


@pytest.mark.parametrize("innermost", [1, {"$args": 1}], ids=["plain", "reserved below"])
def test_deep_arguments_are_encoded_or_refused_and_nothing_else(innermost):
    for depth in range(800, 1_100):
        with contextlib.suppress(CodecError):
            encode(({"a": nested(depth, innermost)},), {})


def test_a_list_that_contains_itself_is_refused():
    circle = []
    circle.append(circle)

    with pytest.raises(CodecError):
        encode((circle,), {})


def test_the_refusal_shows_the_argument_shortly():
    with pytest.raises(
        CodecError, match=r"arguments \('xxx.* have no JSON form: .*object"
    ) as refusal:
        encode(("x" * 10_000, object()), {"name": "y" * 10_000})

    assert len(str(refusal.value)) < 400


# --- what cannot be decoded

GARBAGE = {
    "none": None,
    "empty": b"",
    "space": b" ",
    "zeros": b"\x00\x00",
    "a word": b"garbage",
    "cut array": b"[1, 2",
    "cut object": b'{"a": 1',
    "cut text": b'["a',
    "trailing comma": b"[1,]",
    "two values": b"[1] [2]",
    "single quotes": b"['a']",
    "byte order mark": b"\xef\xbb\xbf[1]",
    "utf-16": '["a"]'.encode("utf-16"),
    "invalid utf-8": b'["\xff\xfe"]',
    "cut utf-8": b'["\xc3"]',
    "surrogate in utf-8": b'["\xed\xa0\x80"]',
    "lone surrogate": b'["\\ud800"]',
    "reversed surrogates": b'["\\udc00\\ud800"]',
    "nan": b"[NaN]",
    "infinity": b"[-Infinity]",
    "1e400": b"[1e400]",
    "-1e400": b"[-1e400]",
    "5,000 digits": b"[" + b"9" * 5_000 + b"]",
    "too deep array": b"[" * 100_000 + b"]" * 100_000,
    "too deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "never closed": b"[" * 1_000_000,
}
BARE = [b"1", b"-0.5", b"1e400", b'"text"', b"true", b"false", b"null", b" null ", b"9" * 5_000]
ENVELOPES = [
    b'{"$args": 1}',
    b'{"$args": null}',
    b'{"$args": {}}',
    b'{"$args": [], "$kwargs": []}',
    b'{"$args": [], "$kwargs": null}',
    b'{"$args": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}",
]
DECODERS = pytest.mark.parametrize("decoder", [decode, bind(returning)], ids=["decode", "bind"])


@DECODERS
@pytest.mark.parametrize("value", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused(value, decoder):
    with pytest.raises(CodecError, match="is not JSON"):
        decoder(value)


@DECODERS
@pytest.mark.parametrize("value", BARE, ids=lambda value: value[:12].decode())
def test_a_bare_scalar_is_refused(value, decoder):
    with pytest.raises(CodecError, match=r"bare|is not JSON"):
        decoder(value)


@DECODERS
@pytest.mark.parametrize("value", ENVELOPES, ids=lambda value: value[:30].decode())
def test_an_envelope_of_the_wrong_shape_is_refused(value, decoder):
    with pytest.raises(CodecError, match="must be an array"):
        decoder(value)


@DECODERS
@pytest.mark.parametrize(
    ("opening", "closing"),
    [(b"[", b"]"), (b'{"a":[', b"]}"), (b'{"$args":{"a":[', b"]}}")],
    ids=["array", "object", "envelope"],
)
def test_deep_values_are_decoded_or_refused_and_nothing_else(opening, closing, decoder):
    # The limit is the interpreter's and shared with the callers; it is met somewhere in between.
    for depth in range(800, 1_100):
        with contextlib.suppress(CodecError):
            decoder(opening + b"[" * depth + b"]" * depth + closing)


def test_the_names_of_an_envelope_without_arguments_are_the_objects_own():
    assert decode(b'{"$kwargs": {"a": 1}}') == (({"$kwargs": {"a": 1}},), {})


def test_an_envelope_needs_no_keyword_arguments():
    assert decode(b'{"$args": [1]}') == ((1,), {})


def test_space_and_small_exponents_do_not_matter():
    assert decode(b" [ 1 , 1e-400 ]\n") == ((1, 0.0), {})


def test_the_last_of_two_same_names_counts():
    assert decode(b'{"a": 1, "a": 2}') == (({"a": 2},), {})


def test_the_refusal_shows_how_the_value_begins():
    with pytest.raises(CodecError, match=r"value b'garbage.* is not JSON") as refusal:
        decode(b"garbage" * 10_000)

    assert len(str(refusal.value)) < 200
