import asyncio
import time

import pytest

from aiopype.errors import DeliveryError, EmitError, OutboxFull, OutputRefused
from aiopype.topics import Topic
from aiopype.transport import outbox as outbox_module
from aiopype.transport.outbox import SourceOutbox
from aiopype.transport.outputs import pack, partition_of

TOPIC = Topic("m.source", "number")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """There is room for three events, and a second attempt comes at once."""
    monkeypatch.setattr(outbox_module, "ROOM", 3)
    monkeypatch.setattr(outbox_module, "RETRY_SECONDS", 0)


@pytest.fixture
async def outbox(producer):
    return SourceOutbox("m.source", producer)


@pytest.fixture
async def sending(outbox):
    """The task that sends what is put."""
    task = asyncio.ensure_future(outbox.run())
    yield task
    task.cancel()
    await asyncio.wait([task])


def put(outbox, *numbers):
    for n in numbers:
        outbox.put_nowait(TOPIC, None, b"%d" % n)


def sent(producer):
    """The numbers that were sent, a list for each time."""
    return [[int(value) for _, _, value, *_ in events] for events, *_ in producer.sent]


# --- taking


async def test_an_event_carries_its_key_and_the_time_at_which_it_was_put(outbox, producer, sending):
    before = int(time.time() * 1000)
    outbox.put_nowait(TOPIC, "AAPL", b"[1]")
    await outbox.flush()

    (((topic, key, value, timestamp, inherited),), *_) = producer.sent[0]
    assert (topic, key, value, inherited) == (TOPIC, b"AAPL", b"[1]", False)
    assert before <= timestamp <= int(time.time() * 1000)


async def test_a_full_outbox_refuses_and_says_what_to_use(outbox):
    put(outbox, 1, 2, 3)

    with pytest.raises(OutboxFull, match=r"3 events of 'm.source' wait for Kafka; use `await emit"):
        put(outbox, 4)


async def test_a_refused_event_is_not_sent(outbox, producer, sending):
    put(outbox, 1, 2, 3)
    with pytest.raises(OutboxFull):
        put(outbox, 4)

    await outbox.flush()

    assert sent(producer) == [[1, 2, 3]]


async def test_events_that_are_being_sent_take_room_until_they_are_acknowledged(
    outbox, producer, sending, turns
):
    producer.may_send.clear()
    put(outbox, 1, 2, 3)
    await turns()

    with pytest.raises(OutboxFull):
        put(outbox, 4)

    producer.may_send.set()
    await outbox.flush()
    put(outbox, 4)


async def test_put_waits_for_room(outbox, producer, sending, turns):
    producer.may_send.clear()
    put(outbox, 1, 2, 3)
    waiting = asyncio.ensure_future(outbox.put(TOPIC, None, b"4"))
    await turns()
    assert not waiting.done()

    producer.may_send.set()
    await waiting
    await outbox.flush()

    assert sent(producer) == [[1, 2, 3], [4]]


async def test_put_does_not_wait_where_there_is_room(outbox):
    for n in range(3):
        await asyncio.wait_for(outbox.put(TOPIC, None, b"%d" % n), 5)


async def test_many_that_wait_are_let_in_as_there_is_room_and_in_order(outbox, producer, sending):
    waiting = [asyncio.ensure_future(outbox.put(TOPIC, None, b"%d" % n)) for n in range(20)]

    await asyncio.gather(*waiting)
    await outbox.flush()

    numbers = [n for batch in sent(producer) for n in batch]
    assert sorted(numbers) == list(range(20))
    assert max(len(batch) for batch in sent(producer)) <= 3


async def test_one_that_waits_keeps_the_order_of_its_events(outbox, producer, sending):
    for n in range(50):
        await outbox.put(TOPIC, None, b"%d" % n)
    await outbox.flush()

    assert [n for batch in sent(producer) for n in batch] == list(range(50))


async def test_a_key_of_a_wrong_type_is_refused_and_takes_no_room(outbox):
    with pytest.raises(EmitError, match="a key is a str, bytes or int"):
        outbox.put_nowait(TOPIC, 1.5, b"[1]")

    put(outbox, 1, 2, 3)


# --- sending


async def test_what_is_put_while_others_are_sent_is_sent_next(outbox, producer, sending, turns):
    producer.may_send.clear()
    put(outbox, 1)
    await turns()
    put(outbox, 2, 3)

    producer.may_send.set()
    await outbox.flush()

    assert sent(producer) == [[1], [2, 3]]


async def test_events_that_were_not_delivered_are_tried_again_before_others(
    outbox, producer, sending, turns, caplog
):
    producer.errors += [DeliveryError("no answer"), DeliveryError("no answer")]
    producer.may_send.clear()
    put(outbox, 1, 2)
    await turns()
    put(outbox, 3)

    producer.may_send.set()
    await outbox.flush()

    assert sent(producer) == [[1, 2], [3]]
    assert len(producer.tries) == 4
    assert "events of 'm.source' wait: no answer" in caplog.text


async def test_between_two_attempts_there_is_a_pause(outbox, producer, sending, turns, monkeypatch):
    monkeypatch.setattr(outbox_module, "RETRY_SECONDS", 60)
    producer.errors.append(DeliveryError("no answer"))
    put(outbox, 1)

    await turns()

    assert len(producer.tries) == 1


async def test_an_event_that_is_refused_ends_the_sending_with_it(outbox, producer, sending):
    producer.errors.append(OutputRefused("too large"))
    put(outbox, 1)

    with pytest.raises(OutputRefused, match="too large"):
        await asyncio.wait_for(sending, 5)
    assert producer.sent == []


async def test_an_event_without_a_key_goes_to_the_partition_of_its_sources_name(
    outbox, producer, sending
):
    put(outbox, 1)
    await outbox.flush()

    ((_, number, count),) = producer.sent
    assert count is None
    for partitions in (1, 3, 4, 50):
        topic = Topic("m.source", "number")
        topic.partitions = partitions
        (packed,) = pack([(topic, None, b"", 0, False)], Endless, number, count)
        assert packed.partition == partition_of(b"m.source", partitions)


class Endless:
    """A record batch that takes all."""

    @property
    def _builder(self):
        return self

    def append(self, *_record):
        return object()

    def close(self):
        pass


# --- flushing


async def test_an_empty_outbox_is_flushed_at_once(outbox):
    await asyncio.wait_for(outbox.flush(), 5)


async def test_flush_waits_until_all_is_acknowledged(outbox, producer, sending, turns):
    producer.may_send.clear()
    put(outbox, 1)
    flushing = asyncio.ensure_future(outbox.flush())
    await turns()
    assert not flushing.done()

    producer.may_send.set()
    await flushing

    assert sent(producer) == [[1]]
