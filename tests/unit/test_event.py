import pytest

from aiopype.errors import EmitError
from aiopype.event import key_bytes


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("AAPL", b"AAPL"),
        ("Zürich", "Zürich".encode()),
        ("", b""),
        (b"\x00\xff", b"\x00\xff"),
        (b"", b""),
        (0, b"0"),
        (-42, b"-42"),
        (2**64, b"18446744073709551616"),
    ],
)
def test_a_key_is_text_bytes_or_digits_on_the_wire(key, raw):
    assert key_bytes(key) == raw


@pytest.mark.parametrize(
    "key", [1.5, True, False, ("a",), ["a"], {"a": 1}, object(), bytearray(b"a")]
)
def test_a_key_of_another_type_is_refused_by_its_type(key):
    with pytest.raises(EmitError, match=f"is a {type(key).__name__}; a key is a str, bytes or int"):
        key_bytes(key)


def test_a_key_that_has_no_utf_8_is_refused_as_every_wrong_key_is():
    with pytest.raises(EmitError):
        key_bytes("\ud800")
