import asyncio
from datetime import date
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from aiopype.errors import CodecError, GraphError
from aiopype.foreign import bind, encode


class Quote(msgspec.Struct):
    price: float


class Model(BaseModel):
    price: float


class Handlers:
    def plain(self, value):
        return value

    def rest(self, *values):
        return values

    def typed_rest(self, *values: int):
        return values

    def quote(self, quote: Quote):
        return quote

    def quote_or_none(self, quote: Quote | None):
        return quote

    def model(self, model: Model):
        return model

    def number(self, number: int):
        return number

    def text(self, text: str):
        return text

    def day(self, day: date):
        return day

    def raw(self, raw: bytes):
        return raw

    def raw_or_none(self, raw: bytes | None):
        return raw

    def any(self, value: Any, more: int = 3):
        return value, more

    def two(self, a, b):
        return a, b

    def none(self):
        return "called"

    def by_name(self, *, value: int):
        return value

    def broken(self, value):
        return len(3)

    async def later(self, quote: Quote):
        return quote


@pytest.fixture
def call():
    """Calls a handler with a record's value."""

    def make(name, value, content="json"):
        return bind(getattr(Handlers(), name), f"m.c.in -> m.c.{name}", content)(value)

    return make


@pytest.mark.parametrize(
    ("value", "argument"),
    [
        (b'{"a":1}', {"a": 1}),
        (b"[1,[2]]", [1, [2]]),
        (b"3", 3),
        (b'"text"', "text"),
        (b"true", True),
        (b"null", None),
        (b'{"$args":[1],"$kwargs":{}}', {"$args": [1], "$kwargs": {}}),
        (b" 3 \n", 3),
        (None, None),
    ],
)
def test_any_json_is_one_argument(call, value, argument):
    assert call("plain", value) == argument
    assert call("rest", value) == (argument,)


@pytest.mark.parametrize("value", [b"", b"{", b"NaN", b"\xff", b"1 2", b"[" * 5_000])
def test_what_is_no_json_is_a_codec_error(call, value):
    with pytest.raises(CodecError, match="is not JSON"):
        call("plain", value)
    with pytest.raises(CodecError):
        call("quote", value)


def test_an_annotation_says_what_the_argument_becomes(call):
    assert call("quote", b'{"price":1,"more":2}') == Quote(1.0)
    assert call("model", b'{"price":1}') == Model(price=1.0)
    assert call("day", b'"2026-01-31"') == date(2026, 1, 31)
    assert call("typed_rest", b"7") == (7,)
    assert call("any", b"[1]") == ([1], 3)


@pytest.mark.parametrize(
    ("handler", "value", "label"),
    [("quote", b"[1]", "quote"), ("number", b'"7"', "number"), ("typed_rest", b"[7]", "values")],
)
def test_a_value_that_does_not_fit_the_annotation_names_the_parameter(call, handler, value, label):
    with pytest.raises(CodecError, match=rf"parameter '\*?{label}': Expected"):
        call(handler, value)


def test_a_record_without_a_value_is_none_where_the_annotation_allows_it(call):
    assert call("quote_or_none", None) is None
    assert call("raw_or_none", None, "bytes") is None
    assert call("plain", None, "text") is None
    for handler, content in [("quote", "json"), ("text", "text"), ("raw", "bytes")]:
        with pytest.raises(CodecError, match="got `null`"):
            call(handler, None, content)


def test_text_is_text(call):
    assert call("plain", "grüße".encode(), "text") == "grüße"
    assert call("text", b"{", "text") == "{"
    assert call("day", b"2026-01-31", "text") == date(2026, 1, 31)
    with pytest.raises(CodecError, match="is no text"):
        call("plain", b"\xff", "text")
    with pytest.raises(CodecError, match="parameter 'number'"):
        call("number", b"7", "text")


def test_bytes_are_bytes(call):
    assert call("plain", b"\x00\xff", "bytes") == b"\x00\xff"
    assert call("raw", memoryview(b"\x00\xff"), "bytes") == b"\x00\xff"
    assert call("raw_or_none", b"\x00\xff", "bytes") == b"\x00\xff"
    assert call("text", b"\x00\xff", "bytes") == "AP8="


@pytest.mark.parametrize("handler", ["two", "none", "by_name"])
def test_a_handler_that_takes_no_single_argument_is_told_of(call, handler):
    with pytest.raises(CodecError, match="one argument, which does not fit the handler"):
        call(handler, b"1")


def test_what_the_handler_itself_raises_passes(call):
    with pytest.raises(TypeError, match="has no len"):
        call("broken", b"1")


def test_a_coroutine_handlers_coroutine_is_returned(call):
    assert asyncio.run(call("later", b'{"price":1}')) == Quote(1.0)


def test_an_annotation_that_is_no_type_of_json_is_refused_at_once():
    class Bad:
        def take(self, value: asyncio.Lock):
            pass

    with pytest.raises(GraphError, match="no type that JSON decodes into"):
        bind(Bad().take, "m.c.in -> m.c.take", "json")


@pytest.mark.parametrize(
    ("value", "content", "raw"),
    [
        ({"a": 1}, "json", b'{"a":1}'),
        ("text", "json", b'"text"'),
        (Quote(1.0), "json", b'{"price":1.0}'),
        (Model(price=1.0), "json", b'{"price":1.0}'),
        ("grüße", "text", "grüße".encode()),
        (b"\xff", "json", b"\xff"),
        (b"\xff", "text", b"\xff"),
        (b"\xff", "bytes", b"\xff"),
    ],
)
def test_a_value_is_encoded_as_its_content_says(value, content, raw):
    assert encode(value, content) == raw


@pytest.mark.parametrize(
    ("value", "content"), [(object(), "json"), (7, "text"), ("text", "bytes"), ("\ud800", "text")]
)
def test_a_value_of_another_content_is_refused(value, content):
    with pytest.raises(CodecError):
        encode(value, content)
