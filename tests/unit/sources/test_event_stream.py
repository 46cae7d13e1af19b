import pytest

from aiopype.sources.event_stream import ENDLESS, ID_BYTES, EventStream, StreamError


def read(*chunks, largest=1_000_000, last_id=""):
    """Return what a stream of these chunks has, as (data, event, id)."""
    stream = EventStream(largest, last_id)
    return [event[:3] for chunk in chunks for event in stream.feed(chunk)]


# --- the examples of the standard, section 9.2.6


def test_lines_of_data_are_joined_by_line_feeds():
    assert read(b"data: YHOO\ndata: +2\ndata: 10\n\n") == [(b"YHOO\n+2\n10", "message", "")]


def test_comments_ids_and_spaces_are_as_in_the_standards_second_example():
    raw = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third\n\n"

    assert read(raw) == [
        (b"first event", "message", "1"),
        (b"second event", "message", ""),
        (b" third", "message", ""),
    ]


def test_an_event_that_has_not_ended_is_none():
    assert read(b"data\n\ndata\ndata\n\ndata:") == [
        (b"", "message", ""),
        (b"\n", "message", ""),
    ]


def test_one_space_behind_the_colon_does_not_count():
    assert read(b"data:test\n\ndata: test\n\n") == [(b"test", "message", "")] * 2


# --- fields


def test_an_event_has_its_name_and_the_next_one_has_none_of_it():
    assert [event for _, event, _ in read(b"event: add\ndata: 1\n\ndata: 2\n\n")] == [
        "add",
        "message",
    ]


def test_an_event_without_data_is_none_and_its_name_is_forgotten():
    assert read(b"event: add\n\ndata: 1\n\n") == [(b"1", "message", "")]


def test_an_id_holds_until_the_next_one():
    raw = b"id: 7\ndata: a\n\ndata: b\n\nid: 8\ndata: c\n\n"

    assert [id_ for _, _, id_ in read(raw)] == ["7", "7", "8"]


def test_the_id_of_an_event_without_data_counts():
    stream = EventStream(100)

    assert stream.feed(b"id: 7\n\n") == []
    assert stream.last_id == "7"


def test_the_id_of_an_event_that_has_not_ended_does_not_count():
    stream = EventStream(100, "6")
    stream.feed(b"id: 7\ndata: a\n")

    assert stream.last_id == "6"


def test_before_the_first_id_it_is_the_last_of_the_connection_before():
    assert read(b"data: a\n\n", last_id="6") == [(b"a", "message", "6")]


@pytest.mark.parametrize("id_", [b"7\x00", b"\x00", b"x" * (ID_BYTES + 1)])
def test_an_id_that_cannot_be_sent_back_is_passed_over(id_):
    assert read(b"id: 6\nid: " + id_ + b"\ndata: a\n\n") == [(b"a", "message", "6")]


def test_the_longest_id_is_taken():
    assert read(b"id: " + b"x" * ID_BYTES + b"\ndata: a\n\n")[0][2] == "x" * ID_BYTES


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1500", 1.5),
        (b"0", 0.0),
        (b"", None),
        (b"-1", None),
        (b"1.5", None),
        (b"1 ", None),
        ("\u0663".encode(), None),
        (b"9" * 10_000, None),
    ],
)
def test_a_retry_is_milliseconds_in_digits_only(value, seconds):
    stream = EventStream(100_000)
    stream.feed(b"retry: " + value + b"\n")

    assert stream.retry_seconds == seconds


@pytest.mark.parametrize("line", [b"foo: bar", b"Data: b", b" data: b", b"dat: b", b": data: b"])
def test_what_is_no_known_field_is_passed_over(line):
    assert read(b"data: a\n" + line + b"\n\n") == [(b"a", "message", "")]


def test_each_line_is_a_sign_of_life_a_comment_too():
    stream = EventStream(100)
    stream.feed(b": one\n:two\r\n: not ended")

    assert stream.lines == 2


# --- bytes


STREAM = (
    "\ufeff: héé\r\nevent: größe\r\ndata: €\r\ndata: 😀\r\n\r\n"
    "id: 1\rdata: cr\r\rid: 2\ndata: lf\n\n"
    "data: x\u2028y\x0b\x0c\x85z\n\n"
).encode()

EVENTS = [
    ("€\n😀".encode(), "größe", ""),
    (b"cr", "message", "1"),
    (b"lf", "message", "2"),
    ("x\u2028y\x0b\x0c\x85z".encode(), "message", "2"),
]


def test_lines_end_with_cr_lf_or_both_and_with_nothing_else():
    assert read(STREAM) == EVENTS


@pytest.mark.parametrize("border", range(len(STREAM) + 1))
def test_a_chunk_may_end_anywhere(border):
    assert read(STREAM[:border], STREAM[border:]) == EVENTS


def test_chunks_may_be_single_bytes_with_empty_ones_between():
    assert read(*[part for byte in STREAM for part in (bytes([byte]), b"")]) == EVENTS


def test_an_event_is_there_with_the_cr_that_ends_it():
    stream = EventStream(100)

    assert len(stream.feed(b"data: a\r\r")) == 1
    assert stream.feed(b"\ndata: b\r\n") == []
    assert [event.data for event in stream.feed(b"\r\n")] == [b"b"]


def test_only_the_first_mark_of_byte_order_is_none():
    assert read(b"\xef\xbb", b"\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\ndata: c\n\n") == [
        (b"a", "message", ""),
        (b"c", "message", ""),
    ]


@pytest.mark.parametrize("start", [b"\xef", b"\xef\xbb"])
def test_what_begins_like_a_mark_and_is_none_belongs_to_the_line(start):
    assert read(start, b"data: a\n\ndata: b\n\n") == [(b"b", "message", "")]


def test_what_is_not_utf_8_is_replaced_in_names_and_left_in_data():
    assert read(b"event: \xff\nid: \xff\ndata: \xff\n\n") == [(b"\xff", "\ufffd", "\ufffd")]


# --- bounds


def sizes(*chunks, largest):
    stream = EventStream(largest)
    return [(len(e.data), e.size) for chunk in chunks for e in stream.feed(chunk)]


@pytest.mark.parametrize("step", [1, 7, 1_000])
@pytest.mark.parametrize("length", [99, 100, 101, 5_000])
def test_of_an_event_that_is_too_large_the_beginning_is_kept(length, step):
    raw = b"data: " + b"x" * length + b"\n\ndata: next\n\n"
    chunks = [raw[i : i + step] for i in range(0, len(raw), step)]

    assert sizes(*chunks, largest=100) == [(min(length, 100), length), (4, 4)]


def test_the_lines_of_an_event_count_together():
    assert sizes(b"data: 12345\n" * 17 + b"\n", largest=101) == [(101, 101)]
    assert sizes(b"data: 12345\n" * 17 + b"\n", largest=100) == [(100, 101)]


def test_empty_lines_of_data_count_too():
    assert sizes(b"data\n" * 1_000 + b"\n", largest=100) == [(100, 999)]


def test_a_name_that_was_cut_makes_the_event_too_large():
    stream = EventStream(100)
    stream.feed(b"event: " + b"x" * 500)

    [event] = stream.feed(b"y\ndata: a\n\n")
    assert event.size > 100


@pytest.mark.parametrize("line", [b"data: ", b": ", b"unknown"])
def test_a_line_that_does_not_end_is_an_error_and_is_not_kept(line):
    stream = EventStream(1_000)
    stream.feed(line)

    for _ in range(ENDLESS - 1):
        stream.feed(b"x" * 1_000)
        assert len(stream._line) < 1_100

    with pytest.raises(StreamError, match="does not end; the largest that is taken has 1,000"):
        stream.feed(b"x" * 1_001)


def test_an_event_that_does_not_end_is_an_error():
    stream = EventStream(1_000)

    line = b"data: " + b"x" * 999 + b"\n"
    for _ in range(ENDLESS):
        stream.feed(line)

    with pytest.raises(StreamError, match="does not end"):
        stream.feed(line)


def test_comments_without_end_are_none():
    stream = EventStream(100)
    for _ in range(10 * ENDLESS):
        assert stream.feed(b": 0123456789\n" * 100) == []

    assert [e.data for e in stream.feed(b"data: a\n\n")] == [b"a"]
