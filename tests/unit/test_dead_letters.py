import time
from typing import NamedTuple

import msgspec
import pytest

from aiopype import DeadLetter
from aiopype.dead_letters import (
    MESSAGE_BYTES,
    TRACEBACK_BYTES,
    Origin,
    emitted_by_user,
    encode,
    letter_of,
    rejected,
    to_emit,
    unless_deep,
)


class Numbered(NamedTuple):
    """A record without headers."""

    value: bytes | None = b"[1]"
    key: bytes | None = b"k"
    offset: int = 7
    timestamp: int = 1_000


class WithHeaders(NamedTuple):
    value: bytes = b"[1]"
    key: bytes | None = b"k"
    offset: int = 7
    timestamp: int = 1_000
    headers: tuple = (("a", b"1"), ("b", None))


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError


class Unshowable:
    def __repr__(self):
        raise RuntimeError


@pytest.fixture
def subscription(recorder, collector):
    sink = collector("m.sink", recorder)
    recorder.on("m.sink", "in", sink.take)
    return recorder.graph.subscriptions(recorder.topic("m.sink", "in"))[0]


@pytest.fixture
def make(subscription):
    """Makes the letter of a failure."""

    def letter(error=None, record=None, **options):
        options = {"origin": Origin("m.source.in", 3), "tries": 2, **options}
        try:
            raise error or LookupError("mine")
        except Exception as raised:  # noqa: BLE001 - any error has a letter
            return letter_of(subscription, record or Numbered(), raised, **options)

    return letter


def decoded(value):
    return msgspec.json.decode(value, type=DeadLetter)


# --- of a failure


def test_a_letter_has_the_original_and_its_origin(make):
    letter = make(record=WithHeaders())

    assert (letter.key, letter.value, letter.value_bytes) == (b"k", b"[1]", 3)
    assert letter.headers == (("a", b"1"), ("b", None))
    assert (letter.topic, letter.partition, letter.offset) == ("m.source.in", 3, 7)
    assert letter.timestamp_ms == 1_000
    assert (letter.is_cut, letter.depth, letter.replays, letter.tries) == (False, 0, 0, 2)


def test_a_letter_says_what_failed(make):
    letter = make()

    assert letter.component == "m.sink"
    assert letter.subscription == "m.sink.in -> m.sink.take"
    assert (letter.error, letter.message) == ("LookupError", "mine")
    assert letter.traceback.endswith("LookupError: mine\n")
    assert letter.at_ms == pytest.approx(time.time() * 1000, abs=5_000)


def test_an_original_without_key_and_value_has_none(make):
    letter = make(record=Numbered(None, None))

    assert (letter.key, letter.value, letter.value_bytes) == (None, None, 0)


def test_in_process_there_is_neither_partition_nor_offset(make):
    letter = make(origin=Origin("m.source.in", None))

    assert (letter.partition, letter.offset) == (None, None)


def test_the_class_of_an_error_is_told_with_its_module(make):
    assert make(msgspec.ValidationError("x")).error == "msgspec.ValidationError"


def test_the_end_of_a_long_traceback_and_the_start_of_a_long_message_are_kept(make):
    letter = make(ValueError("start " + "é" * 100_000 + " end"))

    assert letter.message.startswith("start é")
    assert len(letter.message.encode()) <= MESSAGE_BYTES
    assert letter.traceback.endswith("é end\n")
    assert len(letter.traceback.encode()) <= TRACEBACK_BYTES


@pytest.mark.parametrize("error", [Unspeakable(), ValueError("half \ud800"), UnicodeError("\x00")])
def test_there_is_a_letter_whatever_the_error(make, error):
    letter = make(error)

    assert decoded(encode(letter, 100_000)) == letter


def test_the_letter_of_a_replay_is_counted(make):
    assert make(replays=2).replays == 2


# --- as an event


def test_an_error_event_has_the_originals_key_and_a_time_of_its_own(make, subscription):
    letter = make()

    topic, key, value, timestamp, inherited = to_emit(subscription, Numbered(), letter)

    assert (topic.full_name, key, inherited) == ("m.sink.error", b"k", True)
    assert timestamp == letter.at_ms
    assert decoded(value) == letter


@pytest.mark.parametrize("size", [10, 99_000, 100_000, 2_000_000])
def test_a_letter_fits_its_topic(make, subscription, size):
    subscription.errors.largest = 100_000
    record = Numbered(b"x" * size)

    letter = decoded(to_emit(subscription, record, make(record=record))[2])

    assert len(encode(letter, 100_000)) <= 100_000
    assert letter.value_bytes == size
    assert letter.is_cut == (size > 90_000)
    assert record.value.startswith(letter.value)
    if letter.is_cut:
        assert len(letter.value) > 60_000


def test_a_value_that_just_fits_is_whole(make):
    letter = make()
    room = len(encode(letter, 10**6))

    assert decoded(encode(letter, room)) == letter
    assert decoded(encode(letter, room - 1)).is_cut


@pytest.mark.parametrize(
    ("room", "missing"),
    [(4_000, ["headers"]), (1_000, ["headers", "traceback"]), (550, ["headers", "traceback"])],
)
def test_what_else_is_large_is_left_out(make, room, missing):
    record = WithHeaders(b"x" * 9_000, headers=(("h", b"y" * 9_000),))
    letter = msgspec.structs.replace(make(record=record), traceback="t" * 2_000)

    cut = decoded(encode(letter, room))

    assert [name for name in ("headers", "traceback", "key") if not getattr(cut, name)] == missing
    assert cut.is_cut
    assert len(encode(cut, 10**6)) <= room


def test_a_key_too_large_is_left_out_of_the_letter(make):
    letter = make(record=Numbered(key=b"k" * 9_000))

    assert decoded(encode(letter, 2_000)).key is None


# --- emitted by the user


def test_an_exception_is_told_with_its_traceback():
    try:
        raise OSError("no route")
    except OSError as raised:
        error = raised

    letter = decoded(emitted_by_user("m.source", (error, 7), {"url": "x"}))

    assert (letter.component, letter.error, letter.message) == ("m.source", "OSError", "no route")
    assert letter.traceback.startswith("Traceback")
    assert (letter.args, letter.kwargs) == ((7,), {"url": "x"})
    assert (letter.topic, letter.subscription, letter.tries) == (None, None, 0)


def test_an_exception_that_was_not_raised_has_no_traceback():
    assert decoded(emitted_by_user("m.source", (OSError("x"),), {})).traceback == ""


def test_a_text_is_the_message():
    letter = decoded(emitted_by_user("m.source", ("no route", 7), {}))

    assert (letter.error, letter.message, letter.args) == ("", "no route", (7,))


@pytest.mark.parametrize("args", [(), (7, "x"), ({"a": 1},)])
def test_anything_else_is_kept_as_it_is(args):
    letter = decoded(emitted_by_user("m.source", args, {}))

    assert (letter.message, letter.args) == ("", args)


def test_what_has_no_json_form_is_told_by_its_repr():
    letter = decoded(
        emitted_by_user(
            "m.source", ("text", 1j, OSError("x"), Unshowable()), {"k": b"\xff", "o": 1j}
        )
    )

    assert letter.args == ("1j", "OSError('x')", "<Unshowable>")
    assert letter.kwargs["o"] == "1j"


# --- letters of what a source cannot use


def test_what_cannot_be_used_is_told_with_its_bytes_and_what_is_the_matter():
    before = int(time.time() * 1000)
    try:
        raise ValueError("no number")
    except ValueError as error:
        letter = rejected("m.source", b"\xff\x00", error)

    assert (letter.component, letter.error, letter.message) == (
        "m.source", "ValueError", "no number",
    )  # fmt: skip
    assert "ValueError: no number" in letter.traceback
    assert (letter.value, letter.value_bytes) == (b"\xff\x00", 2)
    assert before <= letter.at_ms <= int(time.time() * 1000)


def test_what_cannot_be_used_was_handled_by_nobody():
    letter = rejected("m.source", b"", ValueError())

    assert (letter.subscription, letter.topic, letter.partition, letter.offset) == (None,) * 4
    assert (letter.key, letter.tries, letter.depth) == (None, 0, 0)


def test_a_letter_of_what_cannot_be_used_comes_back_as_it_was():
    letter = rejected("m.source", b"\xff" * 100, ValueError("no number"))

    assert decoded(encode(letter, 10_000)) == letter


# --- depth


@pytest.fixture
def seen():
    return []


@pytest.mark.parametrize("value", [b'{"depth":1}', b'{"component":"m.sink","depth":2}'])
async def test_letters_of_failed_handlers_of_errors_are_not_handled(seen, value):
    async def later(value):
        seen.append(value)

    assert unless_deep(seen.append, is_coroutine=False)(value) is None
    await unless_deep(later, is_coroutine=True)(value)

    assert seen == []


@pytest.mark.parametrize("value", [b'{"component":"m.sink"}', b"[1]", b"garbage", None])
def test_all_other_values_are_handled(seen, value):
    unless_deep(seen.append, is_coroutine=False)(value)

    assert seen == [value]
