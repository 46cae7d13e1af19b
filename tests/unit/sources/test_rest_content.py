import pytest

from aiopype.errors import CodecError
from aiopype.sources import Answer
from aiopype.sources.rest_content import Rows, content_of, decode, elements

CONTENTS = {
    "application/json": "json",
    "application/problem+json": "json",
    "text/json": "json",
    "text/plain": "json",
    "application/octet-stream": "json",
    "": "json",
    "application/x-ndjson": "lines",
    "application/jsonl": "lines",
    "text/csv": "csv",
    "text/xml": "text",
    "application/xml": "text",
    "application/atom+xml": "text",
    "text/calendar": "text",
    "image/png": "bytes",
}


def answered(content_type="application/json"):
    return Answer(url="", status=200, headers={"content-type": content_type}, time="")


@pytest.mark.parametrize(("media_type", "content"), CONTENTS.items())
def test_the_media_type_says_what_an_answer_is(media_type, content):
    assert content_of(media_type) == content


@pytest.mark.parametrize("media_type", ["text/html", "application/xhtml+xml"])
def test_a_page_for_people_is_refused_unless_it_is_meant(media_type):
    with pytest.raises(ValueError, match="page for people"):
        decode(None, b"<p>", answered(media_type))

    assert decode("text", b"<p>", answered(media_type)) == "<p>"


def test_what_the_options_say_goes_before_the_media_type():
    assert decode("json", b"[1]", answered("text/csv")) == [1]
    assert decode("bytes", b"[1]", answered()) == b"[1]"


def test_json_may_begin_with_a_byte_order_mark():
    assert decode(None, b"\xef\xbb\xbf[1]", answered()) == [1]


@pytest.mark.parametrize("body", [b"", b" ", b"{", b"[1] [2]", b"NaN", b"[" * 100_000])
def test_what_is_no_json_says_so_and_what_to_do(body):
    with pytest.raises(ValueError, match=r"the answer \(application/json\) is .*`content`"):
        decode(None, body, answered())


@pytest.mark.parametrize(
    ("content_type", "body"),
    {
        "text/xml": "ü€".encode(),
        "text/xml; charset=utf-8": "ü€".encode(),
        'text/xml; a=b; Charset="UTF-16"': "ü€".encode("utf-16"),
        "text/xml; charset=cp1252": "ü€".encode("cp1252"),
    }.items(),
)
def test_a_text_is_read_in_its_charset(content_type, body):
    assert decode("text", body, answered(content_type)) == "ü€"


@pytest.mark.parametrize("charset", ["klingon", "utf-8"])
def test_a_text_that_cannot_be_read_is_refused(charset):
    with pytest.raises(ValueError, match=charset):
        decode("text", b"\xff", answered(f"text/xml; charset={charset}"))


def test_lines_are_a_json_value_each():
    rows = decode("lines", b'\xef\xbb\xbf{"a": 1}\r\n\n[2]\n3', answered())

    assert rows == [{"a": 1}, [2], 3]
    assert rows.unusable == []


def test_rows_that_cannot_be_read_are_kept_apart():
    rows = decode("lines", b"1\n{\n\xff\n2", answered())

    assert rows == [1, 2]
    assert [raw for raw, _ in rows.unusable] == [b"{", b"\xff"]


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b"a,b\n1,2\n", [{"a": "1", "b": "2"}]),
        (b'\xef\xbb\xbf"a",b\r\n"1\n1",2', [{"a": "1\n1", "b": "2"}]),
        (b"a,b\n", []),
        (b"a,b", []),
        (b"", []),
        (b"\n", []),
    ],
)
def test_csv_is_rows_under_a_header(body, rows):
    assert decode("csv", body, answered()) == rows


def test_csv_is_read_in_its_charset():
    rows = decode("csv", "größe\nü".encode("latin-1"), answered("text/csv; charset=latin-1"))

    assert rows == [{"größe": "ü"}]


def test_rows_that_do_not_fit_the_header_are_kept_apart():
    rows = decode("csv", b"a,b\n1\n1,2,3\n4,5\n", answered())

    assert rows == [{"a": "4", "b": "5"}]
    assert [raw for raw, _ in rows.unusable] == [b"1\n", b"1,2,3\n"]


def test_a_header_that_names_a_column_twice_is_refused():
    with pytest.raises(CodecError, match="'a' twice"):
        decode("csv", b"a,a\n1,2\n", answered())


def test_the_way_to_a_list_goes_by_the_names_of_members():
    data = {"a": {"b": [1, 2]}}

    assert elements(data, "a.b") == [1, 2]
    assert elements([1], "") == [1]


@pytest.mark.parametrize(
    ("data", "way", "text"),
    [
        ({"a": 1}, "b", "no member 'b' on the way `items`='b'"),
        ([1], "a", "no member 'a'"),
        ({"a": {"b": 1}}, "a.b", "at `items`='a.b' is of type int and no list"),
        ({}, "", "is of type dict and no list"),
    ],
)
def test_a_way_that_leads_to_no_list_says_where_it_ends(data, way, text):
    with pytest.raises(ValueError, match=text):
        elements(data, way)


def test_rows_are_a_list():
    assert Rows([1], []) == [1]
