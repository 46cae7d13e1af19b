import asyncio
import random
import time

import pytest
from aiokafka import errors as kafka_errors

from aiopype.errors import (
    BrokerError,
    DeliveryError,
    EmitError,
    OutboxFull,
    OutputRefused,
    OutputTooLarge,
    OwnershipLost,
    SourceError,
    SourceFenced,
    StateCorrupt,
)
from aiopype.ownership import Stopped
from aiopype.topics import Topic
from aiopype.transport import intake as intake_module
from aiopype.transport import outbox as outbox_module
from aiopype.transport.outbox import SourceOutbox
from aiopype.transport.outputs import partition_of

from .source_kafka import SourceKafka

NO_ANSWER = kafka_errors.RequestTimedOutError("no answer")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """There is room for three events, and a second attempt comes at once."""
    monkeypatch.setattr(intake_module, "ROOM", 3)
    monkeypatch.setattr(outbox_module, "RETRY_SECONDS", 0)


@pytest.fixture
async def kafka():
    return SourceKafka()


@pytest.fixture
def topic():
    made = Topic("m.source", "number")
    made.partitions = 4
    return made


@pytest.fixture
async def outbox(kafka):
    """An outbox that is not open."""
    return SourceOutbox("m.source", kafka.owning())


@pytest.fixture
def put(outbox, topic):
    """Puts numbers; with a position where `at` gives one."""

    def numbers(*values, at=None):
        for n in values:
            if at is not None:
                outbox.checkpoint(b"%d" % at)
            outbox.put_nowait(topic, None, b"%d" % n)

    return numbers


@pytest.fixture
def together(topic):
    """Events as a transaction of a source has them."""

    def make(*values):
        return [(topic, None, b"%d" % n, 1_000, True) for n in values]

    return make


@pytest.fixture
async def sending(outbox, kafka):
    """Starts the task that writes what is put; it has ended after the test."""
    tasks = []

    def send():
        tasks.append(asyncio.create_task(outbox.run(), name="outbox"))
        return tasks[-1]

    yield send
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def opened(outbox, kafka, sending):
    """The outbox, open and written from; the task that does it."""
    await outbox.open()
    kafka.commits.clear()
    kafka.steps.clear()
    return sending()


def numbers(kafka):
    """The numbers that are durable, a list for each transaction that has any."""
    return [[int(value) for value in values] for values in kafka.values()]


def fail(kafka, *, durable, times=1, error=NO_ANSWER):
    kafka.errors.extend([(error, durable)] * times)


# --- taking


async def test_an_event_carries_its_key_and_the_time_at_which_it_was_put(
    outbox, kafka, topic, opened
):
    before = int(time.time() * 1000)
    outbox.put_nowait(topic, "AAPL", b"[1]")
    await outbox.flush()

    ((record,), _) = kafka.commits[0]
    assert (record.topic, record.key, record.value) == ("m.source.number", b"AAPL", b"[1]")
    assert record.partition == partition_of(b"AAPL", 4)
    assert before <= record.timestamp <= int(time.time() * 1000)


async def test_an_event_without_a_key_goes_to_the_partition_of_its_sources_name(
    outbox, kafka, opened
):
    for partitions in (1, 3, 4, 50):
        topic = Topic("m.source", "number")
        topic.partitions = partitions
        kafka.commits.clear()
        outbox.put_nowait(topic, None, b"[1]")
        await outbox.flush()

        ((record,), _) = kafka.commits[0]
        assert record.partition == partition_of(b"m.source", partitions)


async def test_a_full_outbox_refuses_and_says_what_to_use(outbox, put):
    put(1, 2, 3)

    with pytest.raises(OutboxFull, match=r"3 events of 'm.source' wait for Kafka; use `await emit"):
        put(4)
    assert outbox.count == 3


async def test_there_is_room_for_so_many_bytes_too(outbox, topic, monkeypatch):
    monkeypatch.setattr(intake_module, "ROOM_BYTES", 100)
    outbox.put_nowait(topic, "k" * 40, b"x" * 59)
    outbox.put_nowait(topic, None, b"x")

    with pytest.raises(OutboxFull):
        outbox.put_nowait(topic, None, b"")


async def test_bytes_that_are_durable_make_room(outbox, topic, opened, together, monkeypatch):
    monkeypatch.setattr(intake_module, "ROOM_BYTES", 100)

    for _ in range(3):
        outbox.put_nowait(topic, "k" * 10, b"x" * 40)
        outbox.checkpoint(b"1")
        outbox.put_nowait(topic, "k" * 10, b"x" * 40)
        with pytest.raises(OutboxFull):
            outbox.put_nowait(topic, None, b"")
        await outbox.flush()
        await outbox.put_all([(topic, b"k", b"x" * 100, 1, False)], None)
        with pytest.raises(OutboxFull):
            outbox.put_nowait(topic, None, b"")
        await outbox.flush()


async def test_a_refused_event_is_not_written(outbox, kafka, opened, put):
    put(1, 2, 3)
    with pytest.raises(OutboxFull):
        put(4)

    await outbox.flush()

    assert numbers(kafka) == [[1, 2, 3]]


async def test_the_position_of_a_refused_event_stays_for_the_next(outbox, kafka, opened, put):
    put(1, 2, 3)
    with pytest.raises(OutboxFull):
        put(4, at=4)
    await outbox.flush()

    assert outbox.position == b"4"
    assert kafka.positions()[-1] == b"4"


async def test_events_take_room_until_they_are_durable(outbox, kafka, opened, put, turns):
    kafka.may_commit.clear()
    put(1, 2, 3)
    await turns()

    with pytest.raises(OutboxFull):
        put(4)

    kafka.may_commit.set()
    await outbox.flush()
    put(4)


async def test_put_waits_for_room(outbox, kafka, topic, opened, put, turns):
    kafka.may_commit.clear()
    put(1, 2, 3)
    waiting = asyncio.create_task(outbox.put(topic, None, b"4"))
    await turns()
    assert not waiting.done()

    kafka.may_commit.set()
    await waiting
    await outbox.flush()

    assert numbers(kafka) == [[1, 2, 3], [4]]


async def test_many_that_wait_are_let_in_as_there_is_room(outbox, kafka, topic, opened):
    waiting = [asyncio.create_task(outbox.put(topic, None, b"%d" % n)) for n in range(20)]

    await asyncio.gather(*waiting)
    await outbox.flush()

    found = numbers(kafka)
    assert sorted(n for batch in found for n in batch) == list(range(20))
    assert max(map(len, found)) <= 3


async def test_one_that_waits_keeps_the_order_of_its_events(outbox, kafka, topic, opened):
    for n in range(50):
        await outbox.put(topic, None, b"%d" % n)
    await outbox.flush()

    assert [n for batch in numbers(kafka) for n in batch] == list(range(50))


async def test_an_event_larger_than_its_topic_takes_is_refused_and_takes_no_room(
    outbox, topic, put
):
    topic.largest = 10

    with pytest.raises(OutputTooLarge, match=r"m.source.number has 11 bytes"):
        outbox.put_nowait(topic, b"k", b"x" * 10)
    with pytest.raises(OutputTooLarge):
        await outbox.put(topic, None, b"x" * 11)

    put(1, 2, 3)


async def test_an_event_without_a_key_is_refused_where_its_topic_is_compacted(outbox, topic):
    topic.needs_key = True

    with pytest.raises(EmitError, match="has no key, and its topic is compacted"):
        outbox.put_nowait(topic, None, b"[1]")
    outbox.put_nowait(topic, "k", b"[1]")


async def test_a_key_of_a_wrong_type_is_refused_and_takes_no_room(outbox, topic, put):
    with pytest.raises(EmitError, match="a key is a str, bytes or int"):
        outbox.put_nowait(topic, 1.5, b"[1]")

    put(1, 2, 3)


# --- positions


async def test_a_source_that_never_ran_has_no_position(outbox):
    assert outbox.position is None

    await outbox.open()

    assert outbox.position is None
    assert outbox.epoch == 1


async def test_a_position_is_known_at_once_and_durable_with_the_next_event(
    outbox, kafka, opened, put
):
    put(1)
    outbox.checkpoint(b"2")
    assert outbox.position == b"2"
    await outbox_is_written(outbox)
    assert kafka.positions() == [None]

    put(2)
    await outbox.flush()

    assert numbers(kafka) == [[1], [2]]
    assert kafka.positions() == [None, b"2"]


async def outbox_is_written(outbox):
    """Wait until nothing waits, whatever position was given since."""
    while outbox.count:
        await asyncio.sleep(0)


async def test_of_two_positions_before_an_event_the_last_one_counts(outbox, kafka, opened, put):
    outbox.checkpoint(b"1")
    put(1, at=2)
    await outbox.flush()

    assert kafka.positions() == [b"2"]


async def test_a_transaction_has_the_position_of_its_last_event_that_has_one(
    outbox, kafka, opened, put
):
    kafka.may_commit.clear()
    put(1, at=1)
    put(2, at=2)
    put(3)
    kafka.may_commit.set()
    await outbox.flush()

    assert numbers(kafka) == [[1, 2, 3]]
    assert kafka.positions() == [b"2"]


async def test_a_transaction_without_a_position_keeps_the_last_one(outbox, kafka, opened, put):
    put(1, at=1)
    await outbox.flush()
    put(2)
    await outbox.flush()

    assert kafka.positions() == [b"1", b"1"]


async def test_a_position_of_what_is_not_yet_written_is_in_no_transaction_before(
    outbox, kafka, opened, put, turns
):
    kafka.may_commit.clear()
    put(1, at=1)
    await turns()
    put(2, at=2)
    kafka.may_commit.set()
    await outbox.flush()

    assert numbers(kafka) == [[1], [2]]
    assert kafka.positions() == [b"1", b"2"]


@pytest.mark.parametrize("position", [b"null", b"0", b'""', b"[]"])
def test_a_position_may_be_empty(outbox, position):
    outbox.checkpoint(position)

    assert outbox.position == position


async def test_a_position_that_no_event_followed_can_be_dropped(outbox, kafka, opened, put):
    put(1, at=1)
    outbox.checkpoint(b"2")

    outbox.forget_pending()

    assert outbox.position == b"1"
    put(2)
    await outbox.flush()
    assert set(kafka.positions()) == {b"1"}


# --- events that belong together


async def test_events_that_belong_together_are_one_transaction_with_their_position(
    outbox, kafka, opened, together
):
    await outbox.put_all(together(1, 2), b"5")
    await outbox.flush()

    assert numbers(kafka) == [[1, 2]]
    assert kafka.positions() == [b"5"]


async def test_they_keep_their_keys_and_times_and_go_where_a_sources_events_go(
    outbox, kafka, topic, opened
):
    events = [(topic, b"k", b"1", 1_000, False), (topic, None, b"2", 2_000, True)]

    await outbox.put_all(events, None)
    await outbox.flush()

    (one, other), _ = kafka.commits[0]
    assert (one.key, one.timestamp, one.partition) == (b"k", 1_000, partition_of(b"k", 4))
    home = partition_of(b"m.source", 4)
    assert (other.key, other.timestamp, other.partition) == (None, 2_000, home)


async def test_they_are_never_torn_however_many_they_are(outbox, kafka, opened, put, together):
    kafka.may_commit.clear()
    put(1, 2)
    await outbox.put_all(together(*range(10, 20)), b"5")
    kafka.may_commit.set()
    put_after = asyncio.create_task(outbox.put_all(together(30), None))
    await put_after
    await outbox.flush()

    (batch,) = [batch for batch in numbers(kafka) if 10 in batch]
    assert batch[-10:] == list(range(10, 20))


async def test_they_wait_for_room(outbox, kafka, opened, put, together, turns):
    kafka.may_commit.clear()
    put(1, 2, 3)
    waiting = asyncio.create_task(outbox.put_all(together(4, 5), None))
    await turns()
    assert not waiting.done()

    kafka.may_commit.set()
    await waiting
    await outbox.flush()

    assert numbers(kafka) == [[1, 2, 3], [4, 5]]


async def test_a_position_that_was_given_before_belongs_to_them(outbox, kafka, opened, together):
    outbox.checkpoint(b"4")
    await outbox.put_all(together(1), None)
    await outbox.flush()

    assert kafka.positions() == [b"4"]


async def test_their_own_position_is_later_than_one_that_was_given_before(
    outbox, kafka, opened, together
):
    outbox.checkpoint(b"4")
    await outbox.put_all(together(1), b"5")
    assert outbox.position == b"5"
    await outbox.flush()

    assert kafka.positions() == [b"5"]


async def test_a_position_alone_is_a_transaction_too(outbox, kafka, opened):
    await outbox.put_all([], b"5")
    await outbox.flush()

    assert kafka.positions() == [b"5"]


async def test_nothing_at_all_is_no_transaction(outbox, kafka, opened, turns):
    await outbox.put_all([], None)
    await turns()

    assert kafka.commits == []


# --- flushing


async def test_an_empty_outbox_is_flushed_at_once(outbox):
    await asyncio.wait_for(outbox.flush(), 5)


async def test_flush_waits_until_all_is_durable(outbox, kafka, opened, put, turns):
    kafka.may_commit.clear()
    put(1)
    flushing = asyncio.create_task(outbox.flush())
    await turns()
    assert not flushing.done()

    kafka.may_commit.set()
    await flushing

    assert numbers(kafka) == [[1]]


async def test_flush_makes_a_position_durable_that_no_event_follows(outbox, kafka, opened, put):
    put(1, at=1)
    outbox.checkpoint(b"2")

    await outbox.flush()

    assert kafka.state.raw_position == b"2"
    assert outbox.position == b"2"


# --- owning the source


async def test_it_opens_in_the_order_that_fences_before_it_reads_and_asks_before_it_writes(
    outbox, kafka
):
    await outbox.open()

    assert kafka.steps == ["confirm", "connect", "start", "confirm", "read", "commit"]
    assert kafka.ids == ["flow.src.m.source"]


async def test_the_first_owner_writes_what_it_is(outbox, kafka):
    before = int(time.time() * 1000)

    assert await outbox.open()

    ((records, state),) = kafka.commits
    assert records == []
    assert (state.epoch, state.number, state.worker, state.raw_position) == (1, 0, "me:1", None)
    assert before <= state.since_ms <= state.at_ms <= int(time.time() * 1000)


async def test_the_next_owner_goes_on_where_the_last_one_was(outbox, kafka):
    kafka.taken_over(b'{"page":2}', epoch=7)

    assert await outbox.open()

    assert outbox.position == b'{"page":2}'
    assert outbox.epoch == 8
    ((_, state),) = kafka.commits
    assert (state.epoch, state.number, state.raw_position) == (8, 0, b'{"page":2}')
    assert state.run != "other"


async def test_no_two_owners_have_the_same_run(kafka):
    runs = set()
    for _ in range(5):
        outbox = SourceOutbox("m.source", kafka.owning())
        await outbox.open()
        runs.add(kafka.state.run)

    assert len(runs) == 5
    assert kafka.state.epoch == 5


async def test_who_opens_again_and_is_still_the_owner_goes_on(outbox, kafka):
    await outbox.open()
    outbox.discard()

    assert not await outbox.open()

    assert outbox.epoch == 1
    assert len(kafka.commits) == 1


async def test_transactions_are_numbered_and_say_whose_they_are(outbox, kafka, opened, put):
    for n in range(3):
        put(n)
        await outbox.flush()

    states = [state for _, state in kafka.commits]
    assert [state.number for state in states] == [1, 2, 3]
    assert {(state.run, state.epoch, state.worker) for state in states} == {
        (states[0].run, 1, "me:1")
    }
    assert len({state.since_ms for state in states}) == 1


async def test_who_is_not_the_owner_fences_nobody(outbox, kafka):
    kafka.refusals.append(OwnershipLost("another's"))

    with pytest.raises(OwnershipLost):
        await outbox.open()
    assert kafka.steps == ["confirm"]


async def test_who_lost_the_source_while_it_opened_writes_nothing(outbox, kafka):
    kafka.refusals += [None, OwnershipLost("another's")]

    with pytest.raises(OwnershipLost):
        await outbox.open()
    assert "commit" not in kafka.steps
    assert outbox.epoch == 0


@pytest.mark.parametrize("refusals", [[None], [None, None]])
async def test_a_group_that_does_not_answer_is_asked_again_later(outbox, kafka, refusals):
    kafka.refusals.extend([*refusals[1:], DeliveryError("no answer")])

    with pytest.raises(DeliveryError):
        await outbox.open()

    assert await outbox.open()


async def test_a_state_that_cannot_be_read_is_not_overwritten(outbox, kafka):
    kafka.state = StateCorrupt("garbage")

    with pytest.raises(StateCorrupt):
        await outbox.open()
    assert "commit" not in kafka.steps


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NO_ANSWER, DeliveryError),
        (TimeoutError(), DeliveryError),
        (OSError("no route"), DeliveryError),
        (kafka_errors.TransactionalIdAuthorizationFailed(), OutputRefused),
        (BrokerError("no such topic"), OutputRefused),
    ],
)
async def test_a_producer_that_cannot_be_opened_is_an_error(outbox, kafka, error, expected):
    kafka.start_errors.append(error)

    with pytest.raises(DeliveryError, match="opening a transactional producer") as caught:
        await outbox.open()
    assert type(caught.value) is expected
    assert await outbox.open()


async def test_brokers_that_do_not_answer_in_time_are_an_error(outbox, kafka, monkeypatch):
    monkeypatch.setattr(outbox_module, "ATTEMPT_SECONDS", 0.01)
    kafka.may_start.clear()

    with pytest.raises(DeliveryError, match="TimeoutError"):
        await outbox.open()


async def test_not_all_open_at_once(kafka, turns):
    owning = kafka.owning(opening=asyncio.Semaphore(2))
    kafka.may_start.clear()
    outboxes = [SourceOutbox(f"m.s{n}", owning) for n in range(5)]
    opening = [asyncio.create_task(outbox.open()) for outbox in outboxes]
    await turns()
    kafka.may_start.set()
    await asyncio.wait(opening, timeout=5)

    assert kafka.most_starting == 2
    assert all(task.done() for task in opening)


@pytest.mark.parametrize("durable", [True, False])
async def test_an_owner_that_does_not_know_whether_it_has_become_one_asks_again(
    outbox, kafka, durable
):
    kafka.taken_over(b"5", epoch=3)
    fail(kafka, durable=durable)
    with pytest.raises(DeliveryError):
        await outbox.open()

    assert await outbox.open()

    assert (outbox.epoch, outbox.position) == (4, b"5")
    assert kafka.state.epoch == 4
    assert kafka.state.number == 0


# --- writing


async def test_what_waits_is_written_in_order_and_so_much_at_once(outbox, kafka, put, sending):
    await outbox.open()
    put(1, 2, 3)
    sending()
    await outbox.flush()

    assert numbers(kafka) == [[1, 2, 3]]


async def test_what_is_put_while_others_are_written_is_written_next(
    outbox, kafka, opened, put, turns
):
    kafka.may_commit.clear()
    put(1)
    await turns()
    put(2, 3)

    kafka.may_commit.set()
    await outbox.flush()

    assert numbers(kafka) == [[1], [2, 3]]


async def test_what_is_written_is_counted_and_states_are_not(outbox, kafka, opened, put, together):
    put(1)
    await outbox.put_all(together(2, 3), b"5")
    await outbox.flush()

    assert {name: topic.emitted for name, topic in kafka.progress.topics.items()} == {
        "m.source.number": 3
    }


async def test_nothing_is_written_when_nothing_waits(outbox, kafka, opened, turns):
    await turns()

    assert kafka.steps == []


async def test_not_all_write_at_once(topic, turns):
    brokers = [SourceKafka() for _ in range(5)]
    writing = asyncio.Semaphore(2)
    outboxes = [SourceOutbox("m.source", each.owning(writing=writing)) for each in brokers]
    for outbox, each in zip(outboxes, brokers, strict=True):
        await outbox.open()
        each.may_commit.clear()
        outbox.put_nowait(topic, None, b"1")
    tasks = [asyncio.create_task(outbox.run()) for outbox in outboxes]
    await turns()

    assert sum(each.steps.count("commit") == 2 for each in brokers) == 2
    for each in brokers:
        each.may_commit.set()
    await asyncio.gather(*(outbox.flush() for outbox in outboxes))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


# --- what is not known to be durable


async def test_what_was_not_durable_is_written_again_before_anything_else(
    outbox, kafka, opened, put, turns, caplog
):
    fail(kafka, durable=False, times=2)
    kafka.may_commit.clear()
    put(1, at=1)
    put(2, at=2)
    await turns()
    put(3)
    kafka.may_commit.set()
    await outbox.flush()

    assert [n for batch in numbers(kafka) for n in batch] == [1, 2, 3]
    assert kafka.steps.count("start") == 2
    assert "events of m.source wait: writing events" in caplog.text
    assert "no answer" in caplog.text
    assert kafka.state.raw_position == b"2"


async def test_what_was_durable_is_not_written_again(outbox, kafka, opened, put, turns):
    fail(kafka, durable=True)
    kafka.may_commit.clear()
    put(1, at=1)
    put(2, at=2)
    await turns()
    put(3)
    kafka.may_commit.set()
    await outbox.flush()

    assert numbers(kafka) == [[1, 2], [3]]
    assert kafka.positions() == [b"2", b"2"]
    assert outbox.count == 0


async def test_events_that_belong_together_are_written_again_together_or_not(
    outbox, kafka, opened, together
):
    for durable in (True, False):
        fail(kafka, durable=durable)
        await outbox.put_all(together(1, 2, 3, 4), b"5")
        await outbox.flush()

    assert numbers(kafka) == [[1, 2, 3, 4], [1, 2, 3, 4]]


async def test_after_an_error_all_that_is_asked_of_a_new_owner_is_asked(outbox, kafka, opened, put):
    fail(kafka, durable=False)
    put(1)
    await outbox.flush()

    assert kafka.steps == [
        "commit", "confirm", "connect", "start", "confirm", "read", "commit",
    ]  # fmt: skip


async def test_between_two_attempts_there_is_a_pause(
    outbox, kafka, opened, put, turns, monkeypatch
):
    monkeypatch.setattr(outbox_module, "RETRY_SECONDS", 60)
    fail(kafka, durable=False)
    put(1)

    await turns()

    assert kafka.steps == ["commit"]


async def test_a_transaction_that_takes_too_long_is_given_up(
    outbox, kafka, opened, put, until, monkeypatch
):
    monkeypatch.setattr(outbox_module, "ATTEMPT_SECONDS", 0.01)
    kafka.may_commit.clear()
    put(1)

    await until(lambda: "read" in kafka.steps)
    kafka.may_commit.set()
    await outbox.flush()

    assert numbers(kafka) == [[1]]


@pytest.mark.parametrize("durable", [True, False])
async def test_the_numbers_of_transactions_have_no_gaps(outbox, kafka, opened, put, durable):
    for n in range(3):
        fail(kafka, durable=durable)
        put(n)
        await outbox.flush()

    assert [state.number for _, state in kafka.commits] == [1, 2, 3]


@pytest.mark.parametrize("durable", [True, False])
async def test_a_writer_that_is_cancelled_in_the_middle_leaves_nothing_in_doubt(
    outbox, kafka, opened, put, sending, turns, durable
):
    fail(kafka, durable=durable)
    kafka.may_commit.clear()
    put(1, at=1)
    put(2, at=2)
    await turns()
    opened.cancel()
    await asyncio.wait([opened])
    put(3, at=3)
    kafka.may_commit.set()

    outbox.discard()
    assert not await outbox.open()
    sending()
    await outbox.flush()

    assert [n for batch in numbers(kafka) for n in batch] == [1, 2, 3]
    assert kafka.state.raw_position == b"3"
    assert outbox.count == 0


# --- what is said of it


async def test_when_events_were_last_written_is_known(outbox, kafka, opened, put):
    outbox.checkpoint(b"1")
    await outbox.flush()
    assert outbox.written_at is None  # a position is no event

    put(1)
    await outbox.flush()

    assert outbox.written_at == pytest.approx(time.time(), abs=60)


async def test_since_when_it_tries_in_vain_is_known_until_something_is_written(
    outbox, kafka, opened, put, turns
):
    assert outbox.stuck_since is None
    kafka.may_commit.clear()
    fail(kafka, durable=False)
    before = time.monotonic()
    put(1)
    await turns()
    since = outbox.stuck_since
    assert before <= since <= time.monotonic()

    kafka.may_start.clear()
    kafka.may_commit.set()
    await turns()
    assert outbox.stuck_since == since  # over a new owner too
    assert "no answer" in outbox.trouble

    kafka.may_start.set()
    await outbox.flush()
    assert outbox.stuck_since is None


async def test_who_comes_to_own_a_source_only_slowly_is_stuck_too(outbox, kafka, turns):
    kafka.may_start.clear()
    opening = asyncio.create_task(outbox.open())
    await turns()
    assert outbox.stuck_since is not None

    kafka.may_start.set()
    await opening
    assert outbox.stuck_since is None


async def test_that_the_source_does_not_run_is_written_once_with_what_waits_or_alone(
    outbox, kafka, opened, put
):
    stopped = Stopped(state="quarantined", since_ms=1, reason="it broke")
    outbox.tell(None)
    for _ in range(3):
        outbox.tell(stopped)
    await outbox.flush()
    put(1)
    outbox.tell(None)
    await outbox.flush()

    assert [state.stopped for _, state in kafka.commits] == [stopped, None]
    assert numbers(kafka) == [[1]]


async def test_what_is_said_while_a_part_is_written_is_written_behind_it(
    outbox, kafka, opened, put, turns
):
    stopped = Stopped(state="ended", since_ms=1)
    kafka.may_commit.clear()
    put(1)
    await turns()

    outbox.tell(stopped)
    kafka.may_commit.set()
    await outbox.flush()

    assert [state.stopped for _, state in kafka.commits] == [None, stopped]


async def test_what_is_said_of_what_nobody_writes_takes_no_room(outbox, kafka, opened):
    opened.cancel()
    for n in range(1_000):
        outbox.tell(Stopped(state="restarting", since_ms=n))

    assert len(outbox._waiting) == 1


async def test_of_a_source_whose_events_are_refused_the_state_is_written_alone(
    outbox, kafka, opened, put
):
    fail(kafka, durable=False, error=kafka_errors.TopicAuthorizationFailedError("m.source.number"))
    put(1, at=1)
    with pytest.raises(OutputRefused):
        await opened
    stopped = Stopped(state="restarting", since_ms=1)
    outbox.tell(stopped)

    await outbox.say()

    ((records, state),) = kafka.commits
    assert (records, state.stopped, state.raw_position) == ([], stopped, None)
    assert not outbox.is_open

    assert not await outbox.open()
    assert outbox.count == 1
    assert outbox.position == b"1"


async def test_who_is_asked_by_the_group_no_more_waits_and_writes_when_it_is_again(
    outbox, kafka, opened, put, sending
):
    fail(kafka, durable=False)
    kafka.refusals.append(OwnershipLost("another's, or nobody's"))
    put(1, at=1)

    with pytest.raises(OwnershipLost):
        await asyncio.wait_for(opened, 5)
    assert outbox.count == 1

    sending()
    await outbox.flush()
    assert numbers(kafka) == [[1]]


@pytest.mark.parametrize("error", [StateCorrupt("garbage"), DeliveryError("no answer")])
async def test_a_state_that_cannot_be_read_again_drops_nothing(
    outbox, kafka, opened, put, sending, until, error
):
    state = kafka.state
    fail(kafka, durable=False)
    kafka.state = error
    put(1)
    await until(lambda: "read" in kafka.steps)
    kafka.state = state
    if isinstance(error, StateCorrupt):
        with pytest.raises(StateCorrupt):
            await asyncio.wait_for(opened, 5)
        sending()
    await outbox.flush()

    assert numbers(kafka) == [[1]]


# --- what can never be written


async def test_what_is_refused_ends_the_writing_and_waits(outbox, kafka, opened, put, sending):
    fail(kafka, durable=False, error=kafka_errors.TopicAuthorizationFailedError("m.source.number"))
    put(1)

    with pytest.raises(OutputRefused, match="TopicAuthorizationFailed"):
        await asyncio.wait_for(opened, 5)
    assert outbox.count == 1

    sending()  # as soon as it may
    await outbox.flush()
    assert numbers(kafka) == [[1]]


async def test_what_is_too_large_is_tried_again_when_the_limit_may_have_changed(
    outbox, kafka, opened, put
):
    kafka.changes = 1
    fail(kafka, durable=False, error=kafka_errors.MessageSizeTooLargeError())
    put(1)
    await outbox.flush()

    assert numbers(kafka) == [[1]]


async def test_what_is_too_large_for_a_limit_that_is_known_is_refused(outbox, kafka, opened, put):
    fail(kafka, durable=False, error=kafka_errors.MessageSizeTooLargeError())
    put(1)

    with pytest.raises(OutputRefused):
        await asyncio.wait_for(opened, 5)


# --- another owner


async def test_who_is_fenced_by_a_later_owner_drops_what_waits_and_begins_anew(
    outbox, kafka, opened, put, caplog
):
    put(1, at=1)
    await outbox.flush()
    kafka.taken_over(b"7", epoch=2)
    put(2, at=2)

    with pytest.raises(SourceError, match="another owner has written meanwhile"):
        await asyncio.wait_for(opened, 5)

    assert outbox.count == 0
    assert (outbox.position, outbox.epoch) == (b"7", 3)
    assert (kafka.state.epoch, kafka.state.number, kafka.state.raw_position) == (3, 0, b"7")
    assert numbers(kafka) == [[1]]
    assert "1 events of source m.source are dropped: another owner has written" in caplog.text


async def test_of_a_run_that_another_owner_has_passed_nothing_more_is_taken(
    outbox, kafka, opened, put, topic, together
):
    kafka.taken_over(b"7")
    put(1, at=1)
    with pytest.raises(SourceError):
        await asyncio.wait_for(opened, 5)

    with pytest.raises(EmitError, match=r"another owner of 'm.source' has written"):
        put(2)
    with pytest.raises(EmitError):
        await outbox.put(topic, None, b"2")
    with pytest.raises(EmitError):
        await outbox.put_all(together(2), b"2")
    with pytest.raises(EmitError):
        await outbox.flush()
    assert outbox.count == 0


async def test_nothing_is_taken_either_while_it_begins_anew(
    outbox, kafka, opened, put, until, topic
):
    kafka.taken_over(b"7")
    kafka.may_start.clear()
    put(1, at=1)
    await until(lambda: "start" in kafka.steps)
    kafka.may_commit.clear()
    kafka.may_start.set()
    await until(lambda: kafka.steps.count("commit") == 2)

    with pytest.raises(EmitError):
        put(2)
    assert outbox.position == b"7"

    kafka.may_commit.set()
    with pytest.raises(SourceError):
        await asyncio.wait_for(opened, 5)


async def test_a_run_that_waits_for_room_is_told_that_another_owner_has_passed_it(
    outbox, kafka, opened, put, topic, together, turns
):
    kafka.may_commit.clear()
    put(1, 2, 3)
    waiting = [
        asyncio.create_task(outbox.put(topic, None, b"4")),
        asyncio.create_task(outbox.put_all(together(5), None)),
    ]
    await turns()
    kafka.commits.clear()
    kafka.taken_over(b"7")
    kafka.may_commit.set()

    with pytest.raises(SourceError):
        await asyncio.wait_for(opened, 5)
    for task in waiting:
        with pytest.raises(EmitError):
            await asyncio.wait_for(task, 5)
    assert outbox.count == 0


async def test_a_flush_of_what_is_dropped_does_not_say_that_it_is_durable(
    outbox, kafka, opened, put
):
    kafka.taken_over(b"7")
    put(1, at=1)

    with pytest.raises(EmitError, match="not durable is dropped"):
        await asyncio.wait_for(outbox.flush(), 5)


async def test_the_next_run_is_admitted_and_goes_on_from_the_others_position(
    outbox, kafka, opened, put, sending
):
    kafka.taken_over(b"7")
    put(1, at=1)
    with pytest.raises(SourceError):
        await asyncio.wait_for(opened, 5)

    outbox.admit()
    put(8, at=8)
    sending()
    await outbox.flush()

    assert numbers(kafka) == [[8]]
    assert kafka.positions()[-1] == b"8"


async def test_a_producer_that_was_fenced_without_a_word_of_another_goes_on(
    outbox, kafka, opened, put
):
    # Who fenced it has not come to write: it was killed, or found out that it is not the owner.
    kafka.current = None
    put(1, at=1)
    await outbox.flush()

    assert numbers(kafka) == [[1]]
    assert outbox.epoch == 1


# --- a war of owners


async def be_passed(outbox, kafka, put, **other):
    """Have another owner write, and find that out."""
    kafka.taken_over(b"7", **other)
    outbox.admit()
    put(1)
    await outbox.run()


async def test_three_other_owners_in_five_minutes_are_another_flow_of_the_same_name(
    outbox, kafka, put
):
    await outbox.open()
    for _ in range(2):
        with pytest.raises(SourceError, match="it starts again"):
            await be_passed(outbox, kafka, put)

    with pytest.raises(SourceFenced, match=r"another owner, other:1, .*another flow named 'flow'"):
        await be_passed(outbox, kafka, put)


async def test_three_in_a_longer_time_are_accidents(outbox, kafka, put, monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr(outbox_module.time, "monotonic", lambda: now[0])
    await outbox.open()

    for _ in range(6):
        with pytest.raises(SourceError, match="it starts again"):
            await be_passed(outbox, kafka, put)
        now[0] += 150.1


async def test_after_a_war_it_can_become_the_owner_again(outbox, kafka, put, monkeypatch):
    monkeypatch.setattr(outbox_module, "FENCINGS", 1)
    outbox._fencings = type(outbox._fencings)(maxlen=1)
    await outbox.open()
    with pytest.raises(SourceFenced):
        await be_passed(outbox, kafka, put)

    outbox.discard()
    assert await outbox.open()

    assert outbox.count == 0
    assert outbox.position == b"7"


async def test_who_comes_to_own_a_source_fights_nobody(kafka):
    kafka.taken_over(b"7")
    for _ in range(10):
        await SourceOutbox("m.source", kafka.owning()).open()

    assert kafka.state.epoch == 11


async def test_an_operator_that_says_where_a_source_is_is_no_other_owner(outbox, kafka, put):
    await outbox.open()

    for n in range(5):
        with pytest.raises(SourceError, match="it starts again"):
            await be_passed(outbox, kafka, put, run=f"reset-{n}")


async def test_brokers_that_fail_while_it_begins_are_no_other_owner(outbox, kafka):
    kafka.taken_over(b"7")
    fail(kafka, durable=False, times=5)
    for _ in range(5):
        with pytest.raises(DeliveryError):
            await outbox.open()

    assert await outbox.open()

    assert outbox.position == b"7"


async def test_brokers_that_fail_while_it_begins_anew_count_once(outbox, kafka, put):
    await outbox.open()
    put(1)
    kafka.taken_over(b"7")
    fail(kafka, durable=False, times=6)

    with pytest.raises(SourceError, match="it starts again"):
        await asyncio.wait_for(outbox.run(), 5)


# --- what is done of the wishes


async def test_what_is_done_of_the_wishes_stands_in_the_state_from_the_beginning(outbox, kafka):
    outbox.obey(False, 3)
    await outbox.open()

    assert (kafka.state.is_paused, kafka.state.restart) == (False, 3)
    assert len(kafka.commits) == 1


async def test_what_is_done_of_the_wishes_is_written_though_no_event_follows(
    outbox, kafka, opened, put
):
    put(1, at=1)
    outbox.obey(True, 0)
    await outbox.flush()

    assert (kafka.state.is_paused, kafka.state.raw_position) == (True, b"1")
    assert numbers(kafka) == [[1]]


async def test_the_same_again_is_not_written(outbox, kafka, opened, turns):
    outbox.obey(False, 0)
    outbox.obey(True, 1)
    await outbox.flush()
    outbox.obey(True, 1)
    await turns()

    assert len(kafka.commits) == 1


# --- everything at once


async def test_whatever_happens_nothing_is_lost_nothing_comes_twice_and_positions_fit(
    kafka, topic, together, monkeypatch
):
    """A source that counts on from its position, and all faults there are, in random order."""
    for seed in range(40):
        print("seed", seed)
        kafka.__init__()
        await _Chaos(kafka, topic, random.Random(seed)).run()

        found = [n for batch in numbers(kafka) for n in batch]
        assert found == list(range(1, len(found) + 1))
        assert found
        last = 0
        for records, state in kafka.commits:
            last = max([last, *(int(record.value) for record in records)])
            assert int(state.raw_position or b"0") == last


class _Chaos:
    """Runs a source and its outbox as a worker does."""

    def __init__(self, kafka, topic, chance):
        self.kafka, self.topic, self.chance = kafka, topic, chance
        self.outbox = SourceOutbox("m.source", kafka.owning())
        self.sender = None

    async def run(self):
        for _ in range(40):
            await self.prepare()
            self.outbox.admit()
            source = asyncio.create_task(self.count())
            await self.wait()
            source.cancel()
            await asyncio.gather(source, return_exceptions=True)
            self.harm()
        self.kafka.errors.clear()
        await self.prepare()
        self.outbox.admit()
        await self.outbox.flush()
        self.sender.cancel()
        await asyncio.gather(self.sender, return_exceptions=True)

    async def count(self):
        n = int(self.outbox.position or b"0")
        while True:
            size = self.chance.choice([1, 1, 1, 2, 5])
            if size == 1:
                self.outbox.checkpoint(b"%d" % (n + 1))
                await self.wait()
                await self.outbox.put(self.topic, None, b"%d" % (n + 1))
            else:
                group = [(self.topic, None, b"%d" % (n + i + 1), 1, True) for i in range(size)]
                await self.outbox.put_all(group, b"%d" % (n + size))
            n += size
            await self.wait()

    async def wait(self):
        for _ in range(self.chance.randrange(20)):
            await asyncio.sleep(0)

    def harm(self):
        chance, kafka = self.chance, self.kafka
        fault = chance.randrange(6)
        if fault == 0:
            fail(kafka, durable=chance.random() < 0.5, times=chance.randint(1, 3))
        elif fault == 1:
            self.sender.cancel()
        elif fault == 2:
            kafka.refusals.append(chance.choice([None, OwnershipLost("another's")]))
        elif fault == 3:
            kafka.current = None
        elif fault == 4:  # this worker is no more, or has given it up: another one takes over
            self.sender.cancel()
            self.outbox = SourceOutbox("m.source", kafka.owning())
            self.sender = None

    async def prepare(self):
        self.outbox.forget_pending()
        if self.sender is None or self.sender.cancelling() or self.sender.done():
            if self.sender is not None:
                await asyncio.gather(self.sender, return_exceptions=True)
            self.outbox.discard()
            while True:
                try:
                    await self.outbox.open()
                except (OwnershipLost, DeliveryError):
                    continue
                break
            self.sender = asyncio.create_task(self.send(self.outbox))

    async def send(self, outbox):
        while True:
            try:
                await outbox.run()
            except OwnershipLost:
                await asyncio.sleep(0)
