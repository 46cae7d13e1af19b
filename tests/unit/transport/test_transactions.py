import asyncio
from collections import defaultdict, deque
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from aiokafka import errors as kafka_errors
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from aiopype.progress import DeliveryProgress
from aiopype.transport import transactions
from aiopype.transport.outputs import Packed
from aiopype.transport.transactions import TransactionalProducer

TP = TopicPartition("in", 2)

#: The coordinators of the transactional id and of the group.
TRANSACTION, GROUP = 10, 20

INIT, PARTITIONS, OFFSETS = "InitProducerId", "AddPartitionsToTxn", "AddOffsetsToTxn"
PRODUCE, COMMIT, END = "Produce", "TxnOffsetCommit", "EndTxn"

CONCURRENT = kafka_errors.ConcurrentTransactions.errno
LOADING = kafka_errors.CoordinatorLoadInProgressError.errno
UNKNOWN = kafka_errors.UnknownTopicOrPartitionError.errno
MOVED = [
    kafka_errors.NotCoordinatorError.errno,
    kafka_errors.CoordinatorNotAvailableError.errno,
]
FENCED = [kafka_errors.InvalidProducerEpoch.errno, 90]
DUPLICATE = kafka_errors.DuplicateSequenceNumber.errno
NOT_LEADER = kafka_errors.NotLeaderForPartitionError.errno
FORBIDDEN = kafka_errors.TopicAuthorizationFailedError.errno
NOT_ATTEMPTED = kafka_errors.OperationNotAttempted.errno


class Sent(NamedTuple):
    """A request: its name, where it went, and its fields."""

    name: str
    node: int
    group: ConnectionGroup
    fields: Any


class FakeClient:
    """The brokers, whose answers the test gives.

    Attributes:
        sent: every request.
        codes: the next error codes of a kind of request, one for each request or a dict of one
            for each partition; without one it is accepted.
        held: kinds of requests, or of `Produce` their nodes too, that are not answered.
        errors: raised by the next requests of a kind, one each.
        lookups: the coordinators that were asked for.
        lookup_errors: raised by the next lookups, one each.
        leaders: of every partition, 1 unless another is said; moves: what they are after the next
            update of the metadata.
    """

    def __init__(self):
        self.options = None
        self.sent, self.lookups = [], []
        self.codes, self.errors = defaultdict(deque), defaultdict(deque)
        self.held = set()
        self.lookup_errors = deque()
        self.leaders, self.moves = defaultdict(lambda: 1), {}
        self.updates = 0
        self.is_connected = False
        self.cluster = SimpleNamespace(leader_for_partition=lambda tp: self.leaders[tp])

    def names(self):
        return [sent.name for sent in self.sent]

    def of(self, name):
        return [sent.fields for sent in self.sent if sent.name == name]

    async def bootstrap(self):
        self.is_connected = True

    async def close(self):
        self.is_connected = False

    async def coordinator_lookup(self, kind, key):
        self.lookups.append((kind, key))
        await asyncio.sleep(0)
        if self.lookup_errors:
            raise self.lookup_errors.popleft()
        return TRANSACTION if kind is CoordinationType.TRANSACTION else GROUP

    async def send(self, node, request, *, group=ConnectionGroup.DEFAULT):
        assert self.is_connected
        name = type(request).__name__.removesuffix("Request")
        fields = request.prepare({request.API_KEY: (0, 99)})
        fields.encode()  # what cannot be encoded could not be sent
        self.sent.append(Sent(name, node, group, fields))
        await asyncio.sleep(0)
        while name in self.held or (name, node) in self.held:
            await asyncio.sleep(0)
        if self.errors[name]:
            raise self.errors[name].popleft()
        code = self.codes[name].popleft() if self.codes[name] else 0
        if name == PRODUCE:
            return SimpleNamespace(topics=_each(fields.topics, code, -1, -1, 0))
        if name in {PARTITIONS, COMMIT}:
            return SimpleNamespace(errors=_each(fields.topics, code))
        return SimpleNamespace(error_code=code, producer_id=5, producer_epoch=7)

    async def _wait_on_metadata(self, topic):
        return {0}

    async def force_metadata_update(self):
        self.updates += 1
        self.leaders.update(self.moves)


def _each(topics, code, *more):
    """The answer to a request about partitions: a code for each."""
    found = []
    for topic, partitions in topics:
        numbers = [p if isinstance(p, int) else p[0] for p in partitions]
        codes = code if isinstance(code, dict) else dict.fromkeys(numbers, code)
        found.append((topic, [(n, codes.get(n, 0), *more) for n in numbers]))
    return found


@pytest.fixture
def client(monkeypatch):
    fake = FakeClient()

    def connect(**options):
        fake.options = options
        return fake

    monkeypatch.setattr(transactions, "AIOKafkaClient", connect)
    return fake


@pytest.fixture
def waits(monkeypatch):
    """The pauses of the producer, which are none."""
    found = []

    async def sleep(seconds):
        found.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(
        transactions, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": sleep})
    )
    return found


@pytest.fixture
async def producer(client, waits):
    """A producer that is not started."""
    return TransactionalProducer("a:1", "flow/in/2", {"security_protocol": "SSL"})


@pytest.fixture
async def started(producer, client):
    await producer.start()
    client.sent.clear()
    client.lookups.clear()
    return producer


@pytest.fixture
def packed(producer):
    """Makes record batches of the topic `out`: their partition, and the values in each."""

    def make(*batches):
        made = []
        for partition, *values in batches:
            batch = producer.create_batch()
            for value in values:
                assert batch.append(key=b"k", value=value, timestamp=1_000) is not None
            batch.close()
            made.append(Packed("out", partition, batch))
        return made

    return make


@pytest.fixture
async def committing(started):
    """Begins a transaction; the task of it."""
    tasks = []

    def begin(packed, offsets):
        tasks.append(asyncio.ensure_future(started.commit(packed, "flow", offsets)))
        return tasks[-1]

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def written(client):
    """The record batches of every request: partition, values and first sequence number."""
    found = []
    for fields in client.of(PRODUCE):
        for _, partitions in fields.topics:
            for partition, data in partitions:
                batch = MemoryRecords(bytes(data)).next_batch()
                assert (batch.producer_id, batch.producer_epoch) == (5, 7)
                assert batch.is_transactional
                values = [bytes(record.value) for record in batch]
                found.append((partition, values, batch.base_sequence))
    return found


# --- the start


async def test_a_start_fences_by_the_id_at_its_coordinator(producer, client):
    await producer.start()

    assert client.lookups == [(CoordinationType.TRANSACTION, "flow/in/2")]
    ((name, node, group, fields),) = client.sent
    assert (name, node, group) == (INIT, TRANSACTION, ConnectionGroup.COORDINATION)
    assert fields.transactional_id == "flow/in/2"
    assert fields.transaction_timeout_ms == 15_000


async def test_it_connects_as_it_is_told(producer, client):
    assert client.options["bootstrap_servers"] == "a:1"
    assert client.options["security_protocol"] == "SSL"


def test_an_attempt_ends_before_the_broker_ends_its_transaction():
    assert transactions.ATTEMPT_SECONDS < transactions.TRANSACTION_SECONDS


async def test_a_start_waits_until_the_transaction_before_has_ended(producer, client, waits):
    client.codes[INIT].extend([CONCURRENT] * 3)

    await producer.start()

    assert client.names() == [INIT] * 4
    assert waits == [transactions.MARKERS_SECONDS] * 3


async def test_a_coordinator_is_asked_for_until_there_is_one(producer, client, waits):
    client.lookup_errors.extend([kafka_errors.CoordinatorNotAvailableError()] * 7)

    await producer.start()

    assert waits == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16, 0.2, 0.2])


@pytest.mark.parametrize(
    "error",
    [kafka_errors.TransactionalIdAuthorizationFailed, kafka_errors.KafkaConnectionError],
)
async def test_a_lookup_that_fails_otherwise_is_an_error(producer, client, error):
    client.lookup_errors.append(error())

    with pytest.raises(error):
        await producer.start()


async def test_an_id_that_may_not_be_used_is_an_error(producer, client):
    client.codes[INIT].append(kafka_errors.TransactionalIdAuthorizationFailed.errno)

    with pytest.raises(kafka_errors.TransactionalIdAuthorizationFailed, match="InitProducerId"):
        await producer.start()
    assert client.names() == [INIT]


async def test_a_stop_disconnects(started, client):
    await started.stop()

    assert not client.is_connected


# --- a transaction


async def test_a_transaction_names_partitions_and_group_then_writes_then_commits(
    started, client, packed
):
    await started.commit(packed((3, b"[1]")), "flow", {TP: 9})

    assert client.names() == [PARTITIONS, OFFSETS, PRODUCE, COMMIT, END]
    assert [sent.node for sent in client.sent] == [TRANSACTION, TRANSACTION, 1, GROUP, TRANSACTION]


async def test_each_request_has_what_it_is_about(started, client, packed):
    await started.commit(packed((3, b"[1]"), (1, b"[2]"), (3, b"[3]")), "flow", {TP: 9})

    for sent in client.sent:
        assert sent.fields.transactional_id == "flow/in/2"
        if sent.name != PRODUCE:
            assert (sent.fields.producer_id, sent.fields.producer_epoch) == (5, 7)
    assert client.of(PARTITIONS)[0].topics == [("out", [3, 1])]
    assert client.of(OFFSETS)[0].group_id == "flow"
    assert client.of(PRODUCE)[0].required_acks == -1
    assert client.of(COMMIT)[0].group_id == "flow"
    assert client.of(COMMIT)[0].topics == [("in", [(2, 9, "")])]
    assert client.of(END)[0].transaction_result is True


async def test_without_offsets_the_group_is_not_spoken_of(started, client, packed):
    await started.commit(packed((3, b"[1]")), "flow", {})

    assert client.names() == [PARTITIONS, PRODUCE, END]


@pytest.mark.parametrize("held", [PARTITIONS, OFFSETS])
async def test_nothing_is_written_before_partitions_and_group_are_named(
    committing, client, packed, turns, held
):
    client.held.add(held)

    task = committing(packed((3, b"[1]")), {TP: 9})
    await turns()
    assert PRODUCE not in client.names()

    client.held.clear()
    await task


async def test_every_batch_is_acknowledged_before_the_offsets_are_committed(
    committing, client, packed, turns
):
    client.leaders |= {TopicPartition("out", n): n for n in range(3)}
    client.held |= {(PRODUCE, n) for n in range(3)}
    task = committing(packed((0, b"[1]"), (1, b"[2]"), (2, b"[3]")), {TP: 9})

    for n in range(3):
        await turns()
        assert client.names().count(PRODUCE) == 3
        assert not {COMMIT, END} & set(client.names())
        client.held.remove((PRODUCE, n))

    await task
    assert client.names()[-2:] == [COMMIT, END]


async def test_the_offsets_are_committed_before_the_transaction_is_ended(
    committing, client, packed, turns
):
    client.held.add(COMMIT)

    task = committing(packed((3, b"[1]")), {TP: 9})
    await turns()
    assert client.names()[-1] == COMMIT

    client.held.clear()
    await task
    assert client.names()[-1] == END


async def test_it_is_done_when_the_end_is_acknowledged(committing, client, packed, turns):
    client.held.add(END)

    task = committing(packed((3, b"[1]")), {TP: 9})
    await turns()
    assert client.names()[-1] == END
    assert not task.done()

    client.held.clear()
    await task


# --- writing


async def test_records_are_written_as_they_were_packed(started, client, packed):
    await started.commit(packed((3, b"[1]", b"[2]"), (1, b"[3]")), "flow", {})

    assert written(client) == [(3, [b"[1]", b"[2]"], 0), (1, [b"[3]"], 0)]


async def test_partitions_of_one_leader_are_one_request(started, client, packed):
    client.leaders[TopicPartition("out", 1)] = 2

    await started.commit(packed((0, b"[1]"), (1, b"[2]"), (3, b"[3]")), "flow", {})

    requests = [sent for sent in client.sent if sent.name == PRODUCE]
    assert [sent.node for sent in requests] == [1, 2]
    assert [[p for p, _ in sent.fields.topics[0][1]] for sent in requests] == [[0, 3], [1]]


async def test_batches_of_one_partition_are_written_one_after_the_other(
    committing, client, packed, turns
):
    client.held.add(PRODUCE)
    task = committing(packed((3, b"[1]"), (3, b"[2]", b"[3]"), (3, b"[4]")), {})
    await turns()
    assert client.names().count(PRODUCE) == 1

    client.held.clear()
    await task
    assert written(client) == [(3, [b"[1]"], 0), (3, [b"[2]", b"[3]"], 1), (3, [b"[4]"], 3)]


async def test_the_sequence_of_a_partition_goes_on_in_the_next_transaction(started, client, packed):
    for _ in range(2):
        await started.commit(packed((3, b"[1]", b"[2]"), (1, b"[3]")), "flow", {})

    assert [(partition, first) for partition, _, first in written(client)] == [
        (3, 0), (1, 0), (3, 2), (1, 1)
    ]  # fmt: skip


async def test_only_what_was_not_taken_is_written_again_and_with_the_same_place(
    started, client, packed, waits
):
    client.codes[PRODUCE].extend([{1: NOT_LEADER}, {1: NOT_LEADER}])

    await started.commit(packed((3, b"[1]"), (1, b"[2]")), "flow", {TP: 9})

    assert written(client) == [(3, [b"[1]"], 0), (1, [b"[2]"], 0), (1, [b"[2]"], 0),
                               (1, [b"[2]"], 0)]  # fmt: skip
    assert waits == pytest.approx([0.01, 0.02])
    assert client.names()[-1] == END


async def test_a_partition_whose_leader_has_moved_is_written_to_the_new_one(
    started, client, packed
):
    client.codes[PRODUCE].append(NOT_LEADER)
    client.moves = {TopicPartition("out", 3): 2}

    await started.commit(packed((3, b"[1]")), "flow", {})

    assert [sent.node for sent in client.sent if sent.name == PRODUCE] == [1, 2]


@pytest.mark.parametrize("unknown", [None, -1])
async def test_a_partition_without_a_leader_is_waited_for(started, client, packed, unknown):
    client.leaders[TopicPartition("out", 3)] = unknown
    client.moves = {TopicPartition("out", 3): 2}

    await started.commit(packed((3, b"[1]")), "flow", {})

    assert client.updates == 1
    assert [sent.node for sent in client.sent if sent.name == PRODUCE] == [2]


async def test_a_batch_that_is_there_already_counts_as_written(started, client, packed):
    client.codes[PRODUCE].append(DUPLICATE)

    await started.commit(packed((3, b"[1]")), "flow", {})

    assert client.names().count(PRODUCE) == 1
    assert client.names()[-1] == END


# --- answers that ask for another attempt


@pytest.mark.parametrize("name", [PARTITIONS, OFFSETS, COMMIT, END])
async def test_a_coordinator_that_still_ends_the_transaction_before_is_asked_again_soon(
    started, client, packed, waits, name
):
    client.codes[name].append(CONCURRENT)

    await started.commit(packed((3, b"[1]")), "flow", {TP: 9})

    assert client.names().count(name) == 2
    assert waits == [transactions.MARKERS_SECONDS]


@pytest.mark.parametrize("code", [LOADING, UNKNOWN])
async def test_a_coordinator_that_is_not_ready_is_asked_again(started, client, packed, waits, code):
    client.codes[PARTITIONS].extend([code, code])

    await started.commit(packed((3, b"[1]")), "flow", {})

    assert client.names().count(PARTITIONS) == 3
    assert waits == pytest.approx([0.01, 0.02])
    assert client.lookups == []


@pytest.mark.parametrize("code", MOVED)
@pytest.mark.parametrize(
    ("name", "kind"), [(PARTITIONS, CoordinationType.TRANSACTION), (COMMIT, CoordinationType.GROUP)]
)
async def test_a_coordinator_that_has_moved_is_looked_for(
    started, client, packed, code, name, kind
):
    await started.commit(packed((3, b"[1]")), "flow", {TP: 9})
    client.lookups.clear()
    client.sent.clear()
    client.codes[name].append(code)

    await started.commit(packed((3, b"[1]")), "flow", {TP: 9})

    assert client.names().count(name) == 2
    assert [found for found, _ in client.lookups] == [kind]


async def test_what_is_not_attempted_is_asked_again_with_what_was_the_matter(
    started, client, packed
):
    client.codes[PARTITIONS].append({3: NOT_ATTEMPTED, 1: UNKNOWN})

    await started.commit(packed((3, b"[1]"), (1, b"[2]")), "flow", {})

    assert client.names() == [PARTITIONS, PARTITIONS, PRODUCE, END]


# --- errors


@pytest.mark.parametrize("code", FENCED)
@pytest.mark.parametrize("name", [PARTITIONS, OFFSETS, PRODUCE, COMMIT, END])
async def test_who_is_fenced_is_told_so_and_ends_nothing(started, client, packed, name, code):
    client.codes[name].append(code)

    with pytest.raises(kafka_errors.ProducerFenced):
        await started.commit(packed((3, b"[1]")), "flow", {TP: 9})
    assert client.names()[-1] == name or name == PARTITIONS
    assert name == END or END not in client.names()


async def test_transactions_are_counted_by_how_they_end(client, packed, waits):
    figures = DeliveryProgress()
    producer = TransactionalProducer("a:1", "flow/in/2", figures=figures)
    await producer.start()

    await producer.commit(packed((3, b"[1]")), "flow", {TP: 9})
    assert (figures.committed, figures.aborted, figures.fenced) == (1, 0, 0)
    assert figures.seconds.count == 1

    client.codes[END].append(FENCED[0])
    with pytest.raises(kafka_errors.ProducerFenced):
        await producer.commit(packed((3, b"[1]")), "flow", {TP: 9})
    assert (figures.committed, figures.aborted, figures.fenced) == (1, 0, 1)

    client.codes[END].append(kafka_errors.InvalidTxnState.errno)
    with pytest.raises(kafka_errors.InvalidTxnState):
        await producer.commit(packed((3, b"[1]")), "flow", {TP: 9})
    assert (figures.committed, figures.aborted, figures.fenced) == (1, 1, 1)
    assert figures.seconds.count == 1


async def test_a_transaction_that_is_given_up_counts_as_aborted(client, packed, waits):
    figures = DeliveryProgress()
    producer = TransactionalProducer("a:1", "flow/in/2", figures=figures)
    await producer.start()
    client.held.add(END)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await producer.commit(packed((3, b"[1]")), "flow", {TP: 9})

    assert (figures.committed, figures.aborted) == (0, 1)


@pytest.mark.parametrize("failing", range(3))
async def test_a_batch_that_is_refused_ends_no_transaction(started, client, packed, failing):
    code = kafka_errors.MessageSizeTooLargeError.errno
    client.codes[PRODUCE].append({failing: code})

    with pytest.raises(kafka_errors.MessageSizeTooLargeError, match=rf"out\[{failing}\]"):
        await started.commit(packed((0, b"[1]"), (1, b"[2]"), (2, b"[3]")), "flow", {TP: 9})
    assert client.names()[-1] == PRODUCE


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (PARTITIONS, kafka_errors.TopicAuthorizationFailedError),
        (OFFSETS, kafka_errors.GroupAuthorizationFailedError),
        (COMMIT, kafka_errors.GroupAuthorizationFailedError),
        (END, kafka_errors.InvalidTxnState),
    ],
)
async def test_another_answer_is_an_error_of_its_name(started, client, packed, name, error):
    client.codes[name].append(error.errno)

    with pytest.raises(error, match=name):
        await started.commit(packed((3, b"[1]")), "flow", {TP: 9})


async def test_the_error_of_one_partition_counts_and_not_that_the_others_were_not_attempted(
    started, client, packed
):
    client.codes[PARTITIONS].append({3: NOT_ATTEMPTED, 1: FORBIDDEN})

    with pytest.raises(kafka_errors.TopicAuthorizationFailedError):
        await started.commit(packed((3, b"[1]"), (1, b"[2]")), "flow", {})


@pytest.mark.parametrize("name", [PARTITIONS, OFFSETS, PRODUCE, COMMIT, END])
async def test_a_broker_that_does_not_answer_is_an_error(started, client, packed, name):
    client.errors[name].append(kafka_errors.RequestTimedOutError())

    with pytest.raises(kafka_errors.RequestTimedOutError):
        await started.commit(packed((3, b"[1]")), "flow", {TP: 9})
    assert client.names().count(name) == 1


async def test_a_transaction_that_is_cancelled_sends_no_more(committing, client, packed, turns):
    client.held.add(PRODUCE)
    task = committing(packed((3, b"[1]")), {TP: 9})
    await turns()

    task.cancel()
    await asyncio.wait([task])
    client.held.clear()
    await turns()

    assert client.names() == [PARTITIONS, OFFSETS, PRODUCE]


async def test_when_one_request_of_a_step_fails_the_other_does_not_go_on(client, started, packed):
    client.codes[PARTITIONS].append(29)
    client.codes[OFFSETS].extend([51] * 1000)
    with pytest.raises(kafka_errors.TopicAuthorizationFailedError):
        await started.commit(packed((0, b"1")), "flow", {TP: 3})

    sent = len(client.sent)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(client.sent) == sent
