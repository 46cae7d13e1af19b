import asyncio

import pytest

from aiopype.emitter import Outbox, check_record, current_outbox
from aiopype.errors import EmitError, OutputTooLarge
from aiopype.topics import Topic

TOPIC = Topic("m.parse", "price")


def outbox(key=None):
    return Outbox([], key, 1_234)


def test_an_event_carries_the_timestamp_of_the_one_being_handled():
    box = outbox()

    box.append(TOPIC, None, b"[1]")

    assert [timestamp for *_, timestamp, _ in box.emitted] == [1_234]


@pytest.mark.parametrize("inherited", [b"AAPL", b"", None])
def test_an_event_without_a_key_has_that_of_the_event_being_handled(inherited):
    box = outbox(inherited)

    box.append(TOPIC, None, b"[1]")

    assert box.emitted == [(TOPIC, inherited, b"[1]", 1_234, True)]


@pytest.mark.parametrize(("key", "raw"), [("MSFT", b"MSFT"), (b"MSFT", b"MSFT"), (7, b"7")])
def test_a_given_key_replaces_that_of_the_event_being_handled(key, raw):
    box = outbox(b"AAPL")

    box.append(TOPIC, key, b"[1]")

    assert box.emitted == [(TOPIC, raw, b"[1]", 1_234, False)]


def test_a_given_key_that_is_the_same_counts_as_unchanged():
    box = outbox(b"AAPL")

    box.append(TOPIC, "AAPL", b"[1]")

    assert box.emitted == [(TOPIC, b"AAPL", b"[1]", 1_234, True)]


def test_an_empty_key_is_a_key():
    box = outbox(b"AAPL")

    box.append(TOPIC, "", b"[1]")

    assert box.emitted == [(TOPIC, b"", b"[1]", 1_234, False)]


def test_events_are_kept_in_order():
    box = outbox()

    for value in (b"[1]", b"[2]", b"[3]"):
        box.append(TOPIC, None, value)

    assert [value for _, _, value, *_ in box.emitted] == [b"[1]", b"[2]", b"[3]"]


def test_an_event_after_the_handler_has_ended_is_refused():
    box = outbox()
    box.is_open = False

    with pytest.raises(EmitError, match=r"m.parse.price was emitted after its handler had ended"):
        box.append(TOPIC, None, b"[1]")

    assert box.emitted == []


def test_a_key_of_a_wrong_type_is_refused_and_nothing_is_emitted():
    box = outbox()

    with pytest.raises(EmitError, match="is a float"):
        box.append(TOPIC, 1.5, b"[1]")

    assert box.emitted == []


def test_an_event_larger_than_its_topic_takes_is_refused():
    box, small = outbox(), Topic("m.parse", "price")
    small.largest = 1_000
    box.append(small, None, b"x" * 1_000)

    with pytest.raises(OutputTooLarge) as refused:
        box.append(small, None, b"x" * 1_001)

    assert str(refused.value) == (
        "event m.parse.price has 1,001 bytes, and its topic takes 1,000 at most; "
        "raise its `max.message.bytes` in topics/m.toml, or emit less"
    )
    assert len(box.emitted) == 1


def test_an_event_without_a_key_is_refused_where_the_topic_is_compacted():
    compacted = Topic("m.parse", "price")
    compacted.needs_key = True
    keyless, keyed = outbox(), outbox(b"AAPL")

    with pytest.raises(EmitError, match=r"m.parse.price has no key, and its topic is compacted"):
        keyless.append(compacted, None, b"[1]")
    keyless.append(compacted, "MSFT", b"[1]")
    keyed.append(compacted, None, b"[1]")

    assert [key for _, key, *_ in keyless.emitted + keyed.emitted] == [b"MSFT", b"AAPL"]


async def test_the_current_outbox_is_not_seen_by_tasks_beside():
    seen = []

    async def beside():
        seen.append(current_outbox.get())

    async def handling():
        current_outbox.set(outbox())
        await asyncio.sleep(0)

    await asyncio.gather(handling(), beside())

    assert seen == [None]
    assert current_outbox.get() is None


# --- check_record


@pytest.mark.parametrize(
    ("size", "key", "needs_key"), [(1_000, None, False), (1_000, b"k", True), (0, b"", True)]
)
def test_a_record_that_its_topic_takes_is_let_pass(size, key, needs_key):
    topic = Topic("m.parse", "price")
    topic.largest, topic.needs_key = 1_000, needs_key

    check_record(topic, key, size)


def test_a_record_larger_than_its_topic_takes_is_refused():
    topic = Topic("m.parse", "price")
    topic.largest = 1_000

    with pytest.raises(OutputTooLarge, match=r"event m.parse.price has 1,001 bytes"):
        check_record(topic, b"k", 1_001)


def test_a_record_without_a_key_is_refused_where_the_topic_is_compacted():
    topic = Topic("m.parse", "price")
    topic.needs_key = True

    with pytest.raises(EmitError, match=r"m.parse.price has no key.* emit it with key="):
        check_record(topic, None, 1)
