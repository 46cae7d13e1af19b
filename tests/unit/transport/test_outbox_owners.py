"""An outbox whose source another owner, or an operator, has meanwhile written of."""

import asyncio
import contextlib

import msgspec
import pytest
from aiokafka import errors as kafka_errors
from aiokafka.producer.message_accumulator import BatchBuilder

from aiopype.errors import EmitError, SourceError, SourceFenced
from aiopype.ownership import RESET, SourceState
from aiopype.progress import Progress
from aiopype.topics import Topic
from aiopype.transport import intake as intake_module
from aiopype.transport import outbox as outbox_module
from aiopype.transport.outbox import FENCINGS, SourceOutbox
from aiopype.transport.owning import Owning
from aiopype.transport.source_states import new_state_topic

NUMBERS = Topic("m.s", "number")
NUMBERS.partitions = 4


class Brokers:
    """The topics as the outbox writes and reads them.

    Attributes:
        states: what was written of the source, one after the other.
        numbers: the values that became durable.
        errors: what writing raises, one each; then it writes.
        may_write: cleared, it holds every transaction.
    """

    def __init__(self):
        self.topic = new_state_topic("flow")
        self.topic.partitions = 16
        self.states, self.numbers, self.errors = [], [], []
        self.may_write = asyncio.Event()
        self.may_write.set()

    def put(self, run, **given):
        """Write a state as another does."""
        facts = {"epoch": 7, "number": 0, "worker": "other:1", "since_ms": 1, "at_ms": 1}
        self.states.append(SourceState(run=run, **{**facts, **given}))

    # --- what the outbox asks

    async def read(self, source):
        return self.states[-1] if self.states else None

    async def connect(self, name):
        return self

    async def confirm(self, source):
        pass

    async def start(self):
        pass

    async def prepare(self):
        pass

    def look_again(self, events):
        return False

    def create_batch(self):
        return BatchBuilder(100_000, 0, is_transactional=True)

    async def commit(self, packed, group, offsets):
        await self.may_write.wait()
        if self.errors:
            raise self.errors.pop(0)
        for topic, _, records in packed:
            if topic == self.topic.name:
                self.states.append(SourceState.decode("m.s", records[-1]))
            else:
                self.numbers += [int(value) for value in records]


class Packed(tuple):
    """Records instead of a record batch."""

    __slots__ = ()
    topic, batch = property(lambda self: self[0]), property(lambda self: self)

    def record_count(self):
        return len(self[2])


def pack(events, _create_batch, _partition, _partitions, **_traced):
    found = {}
    for topic, _, value, *_ in events:
        found.setdefault(topic.name, []).append(value)
    return [Packed((topic, 0, values)) for topic, values in found.items()]


def new(brokers):
    owning = Owning(
        group="flow", worker="me:1", connect=brokers.connect, confirm=brokers.confirm,
        states=brokers, limits=brokers, progress=Progress(),
    )  # fmt: skip
    return SourceOutbox("m.s", owning)


@pytest.fixture
async def brokers(monkeypatch):
    monkeypatch.setattr(outbox_module, "RETRY_SECONDS", 0)
    monkeypatch.setattr(outbox_module, "pack", pack)
    return Brokers()


@pytest.fixture
async def outbox(brokers):
    """The source's owner, from the beginning."""
    made = new(brokers)
    assert await made.open()
    made.admit()
    return made


@contextlib.asynccontextmanager
async def writing(outbox):
    task = asyncio.ensure_future(outbox.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def emit(outbox, n):
    outbox.checkpoint(b"%d" % n)
    outbox.put_nowait(NUMBERS, None, b"%d" % n)


async def fence(outbox, brokers, run="other", **given):
    """Let another write of the source, and the outbox see that when it writes next."""
    brokers.put(run, **given)
    brokers.errors.append(kafka_errors.ProducerFenced())
    async with writing(outbox) as task:
        emit(outbox, 99)
        await asyncio.wait([task])
        with pytest.raises(SourceError, match="starts again from that one's position"):
            task.result()


async def test_what_the_run_that_was_fenced_puts_in_is_refused(outbox, brokers):
    await fence(outbox, brokers, position=msgspec.Raw(b"50"))

    with pytest.raises(EmitError, match=r"another owner of 'm\.s' has written meanwhile"):
        emit(outbox, 100)
    with pytest.raises(EmitError):
        await outbox.put(NUMBERS, None, b"100")
    with pytest.raises(EmitError):
        await outbox.put_all((), b"100")
    with pytest.raises(EmitError):
        await outbox.flush()
    assert outbox.count == 0


async def test_the_next_run_begins_where_the_other_was_and_nothing_is_between(outbox, brokers):
    await fence(outbox, brokers, position=msgspec.Raw(b"50"))
    with contextlib.suppress(EmitError):
        emit(outbox, 100)

    outbox.forget_pending()
    assert not await outbox.open()
    outbox.admit()
    assert outbox.position == b"50"
    async with writing(outbox):
        emit(outbox, 51)
        await outbox.flush()

    assert brokers.numbers == [51]
    assert brokers.states[-1].raw_position == b"51"
    assert brokers.states[-1].epoch == outbox.epoch == 8


async def test_a_flush_of_what_is_dropped_is_none(outbox, brokers, turns):
    brokers.may_write.clear()
    async with writing(outbox) as task:
        emit(outbox, 1)
        flush = asyncio.ensure_future(outbox.flush())
        await turns()
        brokers.put("other")
        brokers.errors.append(kafka_errors.ProducerFenced())
        brokers.may_write.set()
        await asyncio.wait([task, flush])

    with pytest.raises(EmitError):
        flush.result()
    assert brokers.numbers == []


async def test_one_that_waits_for_room_is_refused_when_another_has_written(
    outbox, brokers, turns, monkeypatch
):
    monkeypatch.setattr(intake_module, "ROOM", 1)
    emit(outbox, 1)
    waiting = [
        asyncio.ensure_future(outbox.put(NUMBERS, None, b"2")),
        asyncio.ensure_future(outbox.put_all([(NUMBERS, None, b"3", 1, False)], None)),
    ]
    await turns()
    brokers.put("other")
    outbox.discard()
    assert await outbox.open()

    await asyncio.wait(waiting)
    for each in waiting:
        with pytest.raises(EmitError):
            each.result()
    assert outbox.count == 0


async def test_an_error_without_another_owner_refuses_nothing(outbox, brokers):
    brokers.errors.append(kafka_errors.KafkaTimeoutError())
    async with writing(outbox):
        emit(outbox, 1)
        await outbox.flush()
        emit(outbox, 2)
        await outbox.flush()

    assert brokers.numbers == [1, 2]


async def test_resets_are_not_taken_for_another_flow(outbox, brokers):
    for number in range(2 * FENCINGS):
        await fence(outbox, brokers, f"{RESET}{number}")
        outbox.admit()

    for number in range(FENCINGS - 1):
        await fence(outbox, brokers, f"other{number}")
        outbox.admit()
    brokers.put("another")
    outbox.discard()
    with pytest.raises(SourceFenced):
        await outbox.open()


async def test_what_is_done_of_wishes_stands_in_the_state(outbox, brokers):
    async with writing(outbox):
        outbox.obey(True, 3)
        await outbox.flush()
        paused = brokers.states[-1]
        outbox.obey(False, 3)
        await outbox.flush()

    assert (paused.is_paused, paused.restart) == (True, 3)
    assert (brokers.states[-1].is_paused, brokers.states[-1].restart) == (False, 3)


async def test_it_stands_there_when_all_that_was_emitted_does(outbox, brokers):
    emit(outbox, 1)
    outbox.obey(True, 0)
    async with writing(outbox):
        await outbox.flush()

    assert brokers.numbers == [1]
    assert (brokers.states[-1].raw_position, brokers.states[-1].is_paused) == (b"1", True)


async def test_what_is_done_already_is_not_written_again(outbox, brokers, turns):
    async with writing(outbox):
        outbox.obey(True, 1)
        await outbox.flush()
        count = len(brokers.states)
        outbox.obey(True, 1)
        await outbox.flush()
        await turns()

    assert len(brokers.states) == count


async def test_before_it_owns_the_source_it_writes_nothing_and_then_it_does(brokers):
    made = new(brokers)
    made.obey(False, 5)
    assert made.count == 0

    await made.open()

    assert [state.restart for state in brokers.states] == [5]


async def test_it_is_written_again_when_that_failed(brokers, outbox):
    outbox.obey(True, 0)
    brokers.errors.append(kafka_errors.KafkaTimeoutError())
    async with writing(outbox):
        await outbox.flush()

    assert brokers.states[-1].is_paused
