import pytest

from aiopype.errors import CodecError
from aiopype.sources.lines import Csv, JsonLines

HEADER = ["a", "b"]


def values(form, data):
    return [found.value for found in form.records(data, HEADER) if found.error is None]


def errors(form, data):
    return [found for found in form.records(data, HEADER) if found.error is not None]


# --- JSON lines


@pytest.mark.parametrize(
    ("data", "most", "whole"),
    [
        (b"", 9, (0, 0)),
        (b"1", 9, (0, 0)),
        (b"1\n2", 9, (2, 1)),
        (b"1\n2\n", 9, (4, 2)),
        (b"1\n2\n3\n", 2, (4, 2)),
    ],
)
def test_a_line_is_whole_with_its_newline(data, most, whole):
    assert JsonLines().whole(data, most) == whole


def test_a_line_holds_any_json_value():
    data = b'{"a":1}\n[1,2]\n"text"\n3\nnull\n'

    assert values(JsonLines(), data) == [{"a": 1}, [1, 2], "text", 3, None]


def test_empty_lines_and_carriage_returns_are_passed_over():
    assert values(JsonLines(), b"1\r\n\n  \n\r\n2\n") == [1, 2]


@pytest.mark.parametrize(
    "bad", [b"{", b"NaN", b'"\xff"', b"1 2", b"[" * 5_000], ids=lambda bad: repr(bad[:9])
)
def test_a_line_that_is_no_json_is_told_with_its_place_and_the_next_one_counts(bad):
    data = b"1\n" + bad + b"\n2\n"

    assert values(JsonLines(), data) == [1, 2]
    (found,) = errors(JsonLines(), data)
    assert (found.offset, found.raw) == (2, bad)


# --- CSV


@pytest.mark.parametrize(
    ("data", "most", "whole"),
    [
        (b"1,2", 9, (0, 0)),
        (b"1,2\n3", 9, (4, 1)),
        (b"1,2\n3,4\n", 1, (4, 1)),
        (b'1,"x', 9, (0, 0)),
        (b'1,"x\ny', 9, (0, 0)),
        (b'1,2\n3,"x\ny"', 9, (4, 1)),
        (b'1,2\n3,"x\ny"\n', 9, (12, 2)),
        (b'1,2\n3,"x\ny"\n5,6\n', 2, (12, 2)),
        (b'1,5" pipe\n2,6\n', 9, (14, 2)),
        (b'1,"x"y\n2,6\n', 9, (11, 2)),
        (b'1,"\xff\n"\n', 9, (7, 1)),
    ],
)
def test_a_row_is_whole_when_its_newline_is_in_no_quotes(data, most, whole):
    assert Csv().whole(data, most) == whole


@pytest.mark.parametrize(
    ("data", "row"),
    [
        (b"1,2\n", {"a": "1", "b": "2"}),
        (b"1,2\r\n", {"a": "1", "b": "2"}),
        (b"1,\n", {"a": "1", "b": ""}),
        (b'1,"x\ny"\n', {"a": "1", "b": "x\ny"}),
        (b'1,"x,""y"""\n', {"a": "1", "b": 'x,"y"'}),
        (b'1,5" pipe\n', {"a": "1", "b": '5" pipe'}),
        ("ä,€\n".encode(), {"a": "ä", "b": "€"}),
    ],
)
def test_a_row_is_a_dict_of_texts_by_the_names_of_the_header(data, row):
    assert values(Csv(), data) == [row]


def test_empty_rows_are_passed_over():
    assert len(values(Csv(), b"1,2\n\n\r\n3,4\n")) == 2


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"1\n", "it has 1 fields, and the header 2"),
        (b"1,2,3\n", "it has 3 fields"),
        (b'1,"x"y\n', "expected after"),
        (b"1,\xff\n", "can't decode byte 0xff"),
        (b'1,"\xff\n"\n', "can't decode byte 0xff"),
        (b"1\r2,3\n", "new-line character"),
        (b'1,"' + b"x" * 131_073 + b'"\n', "field larger than field limit"),
    ],
    ids=["few", "many", "quotes", "no UTF-8", "no UTF-8 in quotes", "carriage return", "long"],
)
def test_a_row_that_cannot_be_used_is_told_with_its_place_and_the_next_one_counts(bad, reason):
    data = b"1,2\n" + bad + b"3,4\n"

    assert [row["a"] for row in values(Csv(), data)] == ["1", "3"]
    (found,) = errors(Csv(), data)
    assert (found.offset, found.raw) == (4, bad)
    assert reason in str(found.error)


def test_the_delimiter_may_be_another():
    assert values(Csv("\t"), b"1\t2\n") == [{"a": "1", "b": "2"}]


def test_the_header_names_the_columns():
    assert Csv().header(b'id,"the\nname"\r\n') == ["id", "the\nname"]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"a,b,a\n", "names 'a' twice"),
        (b"\n", "is empty"),
        (b"a,\xff\n", "cannot be read"),
        (b'a,"b"c\n', "cannot be read"),
    ],
)
def test_a_header_that_does_not_name_the_columns_is_refused(header, reason):
    with pytest.raises(CodecError, match=reason):
        Csv().header(header)


def test_json_lines_have_no_header():
    assert JsonLines().header(b"") == []
