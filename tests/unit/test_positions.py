import datetime as dt
from dataclasses import dataclass

import msgspec
import pytest

from aiopype.errors import CodecError
from aiopype.positions import POSITION_BYTES, decode_position, encode_position


class Cursor(msgspec.Struct):
    page: int
    token: str


@dataclass
class Offset:
    file: str
    at: int


@pytest.mark.parametrize(
    "position",
    [
        0,
        17,
        -1.5,
        "cursor",
        "",
        True,
        False,
        None,
        [],
        [1, "a", None],
        {},
        {"page": 2},
        "é\U0001f600",
        2**70,
    ],
)
def test_a_position_comes_back_as_it_was(position):
    assert decode_position(encode_position(position)) == position


@pytest.mark.parametrize(
    ("position", "found"),
    [
        ((1, 2), [1, 2]),
        (Cursor(2, "t"), {"page": 2, "token": "t"}),
        (Offset("a.csv", 9), {"file": "a.csv", "at": 9}),
        (dt.date(2026, 1, 2), "2026-01-02"),
        ({1: "a"}, {"1": "a"}),
    ],
)
def test_a_position_comes_back_in_the_types_of_json(position, found):
    assert decode_position(encode_position(position)) == found


def test_without_a_position_there_is_none():
    assert decode_position(None) is None


@pytest.mark.parametrize("position", [object(), {(1, 2): 3}, {"a": lambda: 1}, "\ud800"])
def test_what_has_no_json_form_is_refused(position):
    with pytest.raises(CodecError, match="has no JSON form"):
        encode_position(position)


def test_what_contains_itself_is_refused():
    endless = []
    endless.append(endless)

    with pytest.raises(CodecError, match="has no JSON form"):
        encode_position(endless)


def test_of_a_position_that_is_refused_the_beginning_is_told():
    with pytest.raises(CodecError) as caught:
        encode_position([object()] * 100_000)

    assert len(str(caught.value)) < 1_000


def test_a_position_of_64_kib_is_taken_and_none_that_is_larger():
    assert len(encode_position("x" * (POSITION_BYTES - 2))) == POSITION_BYTES == 65_536

    with pytest.raises(CodecError, match=r"65,537 bytes is larger than 65,536; .* not the data"):
        encode_position("x" * (POSITION_BYTES - 1))
