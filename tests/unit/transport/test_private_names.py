"""What `aiopype.transport` uses of Faust, mode and aiokafka beyond their public names.

A new version of theirs may change any of it without a word. Each test says which part of ours
stands on it.
"""

import asyncio
import inspect
import re
from types import SimpleNamespace

import aiokafka
import faust
import pytest
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.consumer import group_coordinator as aiokafka_coordinator
from aiokafka.consumer.group_coordinator import GroupCoordinator, NoGroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol import transaction
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.memory_records import MemoryRecords
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as faust_driver
from mode.utils.queues import FlowControlEvent, FlowControlQueue

from aiopype.errors import DeliveryError, OwnershipLost
from aiopype.ownership import Member
from aiopype.transport.assignor import SourceAssignor
from aiopype.transport.consumer import Consumer
from aiopype.transport.heartbeat import ask_group
from aiopype.transport.loop_thread import LoopThread
from aiopype.transport.outputs import VARINTS_BYTES
from aiopype.transport.records import RawRecords

TP = aiokafka.TopicPartition("t", 0)

RAW = "transport/records.py: RawRecords would hand over records that partitions cannot read"
NOTE_ENDS = "transport/driver.py: Transport.note_ends would not know the lag"
FETCH = "transport/consumer.py: Consumer._fetch and _pause would get no records"
IDLE = "transport/consumer.py: Consumer._drain_messages would be put out of its group when idle"
ERRORS = "transport/consumer.py: Consumer._drain_messages would not see errors of the group"
DRAIN = "transport/consumer.py: Consumer._drain_messages would not be what Faust runs"
CREATE = "transport/loop_thread.py: LoopThread would connect with Faust's own settings"
GIVE = "transport/consumer.py: Consumer.give would not reach the agents"
REBALANCE = "transport/consumer.py: Consumer would not hear of its partitions"

OWNERSHIP = "transport/heartbeat.py: ask_group would not see that others go on"
ELECTION = "transport/election.py: Election would not have the sources spread anew"
ASSIGNOR = "transport/assignor.py: SourceAssignor would not be asked, or not told"
TRANSACTION = "transport/transactions.py: TransactionalProducer could not write its batches"
COORDINATOR = "transport/transactions.py: TransactionalProducer would not reach its coordinators"
REQUESTS = "transport/transactions.py: TransactionalProducer would send something else"
ERRORS_OF = "transport/exactly_once.py: ExactlyOnce would take one error for another"
PACKED = "transport/outputs.py: pack would put no records into its batches"
LIMIT = "transport/outputs.py: pack would not know how large a batch is"

CONDITION = "transport/condition.py: the watchdog would not know how the consumer is"

CLOSING = "transport/closing.py: who stops a consumer would seem to be cancelled"

SURVEY = "transport/survey.py: `aiopype status` would not know how far topics go"


def parameters(function):
    return list(inspect.signature(function).parameters)


# --- aiokafka: how far a partition is


async def test_an_assigned_partition_has_a_position_and_the_end_of_its_log():
    subscriptions = SubscriptionState()
    subscriptions.assign_from_user([TP])
    state = subscriptions.subscription.assignment.state_value(TP)

    assert not state.has_valid_position, NOTE_ENDS
    state.seek(5)
    assert (state.has_valid_position, state.position, state.lso) == (True, 5, None), NOTE_ENDS


# --- aiokafka: the end of a consumer


def test_a_fetcher_awaits_the_fetches_that_it_cancels_when_it_closes():
    text = inspect.getsource(aiokafka_fetcher.Fetcher.close)
    assert "self._fetch_task.cancel()" in text, CLOSING
    assert re.search(r"in self._pending_tasks:\s+x.cancel\(\)\s+await x", text), CLOSING


# --- aiokafka: the buffer of fetch results


@pytest.fixture
async def fetched():
    """A fetch result of the records 0, 1 and 2, as aiokafka's fetcher makes it."""
    batch = BatchBuilder(100_000, 0)
    for n in range(3):
        batch.append(key=b"k%d" % n, value=b"[%d]" % n, timestamp=1_000 + n)
    batch.close()
    subscriptions = SubscriptionState()
    subscriptions.assign_from_user([TP])
    assignment = subscriptions.subscription.assignment
    assignment.state_value(TP).seek(0)
    records = aiokafka_fetcher.PartitionRecords(
        TP, MemoryRecords(bytes(batch._build())), [], 0, None, None, True, 0
    )
    return aiokafka_fetcher.FetchResult(
        TP, assignment=assignment, partition_records=records, backoff=0
    )


async def test_records_of_a_fetch_result_are_handed_over_as_they_are_stored(fetched):
    raw = RawRecords()
    raw[TP] = fetched

    found = raw[TP].getall(10)

    assert not any(isinstance(record, aiokafka.ConsumerRecord) for record in found), RAW
    assert [(r.offset, r.timestamp, r.key, r.value) for r in found] == [
        (n, 1_000 + n, b"k%d" % n, b"[%d]" % n) for n in range(3)
    ], RAW


async def test_a_fetch_result_can_be_given_another_way_to_take_its_records(fetched):
    assert hasattr(fetched, "_partition_records"), RAW
    assert parameters(aiokafka_fetcher.FetchResult.getall) == ["self", "max_records"], RAW
    assert not hasattr(aiokafka_fetcher.FetchResult, "__slots__"), RAW
    text = inspect.getsource(aiokafka_fetcher.Fetcher.fetched_records)
    assert "res_or_error.getall(max_records)" in text, RAW


async def test_a_fetch_result_moves_the_position_past_what_it_gave(fetched):
    raw = RawRecords()
    raw[TP] = fetched

    raw[TP].getall(10)

    assert fetched._assignment.state_value(TP).position == 3, FETCH


async def test_a_fetch_error_can_be_kept_beside_results():
    raw = RawRecords()
    error = aiokafka_fetcher.FetchError(error=LookupError(), backoff=0)

    raw[TP] = error

    assert raw[TP] is error, RAW


def test_the_fetcher_puts_results_into_its_records_by_item_and_keeps_the_mapping():
    text = inspect.getsource(aiokafka_fetcher.Fetcher)

    assert re.search(r"self\._records\[tp\] = FetchResult\(", text), RAW
    assert len(re.findall(r"self\._records = ", text)) == 1, RAW
    assert "self._records = collections.OrderedDict()" in text, RAW


def test_fetched_records_can_be_asked_for_some_partitions_without_waiting():
    assert parameters(aiokafka_fetcher.Fetcher.fetched_records) == [
        "self",
        "partitions",
        "timeout",
        "max_records",
    ], FETCH
    assert inspect.iscoroutinefunction(aiokafka_fetcher.Fetcher.fetched_records), FETCH


async def test_a_fetch_waiter_is_a_future_of_its_own():
    fetcher = SimpleNamespace(_loop=asyncio.get_running_loop(), _fetch_waiters=set())

    waiter = aiokafka_fetcher.Fetcher._create_fetch_waiter(fetcher)

    assert asyncio.isfuture(waiter), FETCH
    assert fetcher._fetch_waiters == {waiter}, FETCH
    waiter.cancel()


# --- aiokafka: subscription and group


async def test_a_consumer_that_counts_as_fetching_is_never_idle():
    state = SubscriptionState()
    state._last_fetch_ended -= 100
    assert state.fetcher_idle_time > 99, IDLE

    state._fetch_count += 1

    assert state.fetcher_idle_time == 0, IDLE


async def test_a_reassignment_is_in_progress_until_there_is_an_assignment():
    state = SubscriptionState()
    assert state.reassignment_in_progress is True, FETCH

    state.subscribe({"t"})
    assert state.reassignment_in_progress is True, FETCH

    state.assign_from_subscribed({TP})
    assert state.reassignment_in_progress is False, FETCH


@pytest.mark.parametrize("coordinator", [GroupCoordinator, NoGroupCoordinator])
def test_the_coordinator_can_be_asked_for_errors(coordinator):
    assert parameters(coordinator.check_errors) == ["self"], ERRORS
    assert not inspect.iscoroutinefunction(coordinator.check_errors), ERRORS


async def test_an_error_of_the_group_is_raised_when_it_is_asked_for():
    coordinator = SimpleNamespace(
        _coordination_task=asyncio.get_running_loop().create_future(),
        _error_consumed_fut=None,
        _pending_exception=LookupError("parked"),
    )

    with pytest.raises(LookupError, match="parked"):
        GroupCoordinator.check_errors(coordinator)
    assert coordinator._pending_exception is None, ERRORS


@pytest.mark.parametrize("name", ["_subscription", "_coordinator", "_fetcher"])
def test_a_consumer_has_the_parts_that_are_used(name):
    assert f"self.{name} = " in inspect.getsource(aiokafka.AIOKafkaConsumer), FETCH


# --- aiokafka: whether a worker is still in its group


@pytest.fixture
def heartbeat():
    """Has a member of generation 7 ask its group, which answers with this error.

    Returns what came back, and the coordinator.
    """

    async def send(error):
        coordinator = GroupCoordinator.__new__(GroupCoordinator)
        coordinator.group_id, coordinator.member_id = "flow", "me"
        coordinator.generation, coordinator.coordinator_id = 7, 1
        coordinator._coordinator_dead_fut = asyncio.get_running_loop().create_future()

        async def answer(node, request, *, group):
            request.prepare({request.API_KEY: (0, 99)}).encode()
            if error in UNANSWERED:
                raise error()
            return SimpleNamespace(error_code=error.errno)

        coordinator._client = SimpleNamespace(send=answer)
        return await ask_group(coordinator), coordinator

    return send


#: What a question without an answer ends with.
UNANSWERED = [kafka_errors.RequestTimedOutError, kafka_errors.NodeNotReadyError]


@pytest.mark.parametrize(
    ("error", "is_current"),
    [
        (kafka_errors.NoError, True),
        (kafka_errors.RebalanceInProgressError, True),
        (kafka_errors.IllegalGenerationError, False),
    ],
)
async def test_a_group_can_be_asked_without_a_change_of_what_the_member_knows(
    heartbeat, error, is_current
):
    found, coordinator = await heartbeat(error)

    assert found is is_current, OWNERSHIP
    assert (coordinator.generation, coordinator.member_id) == (7, "me"), OWNERSHIP


async def test_who_was_put_out_is_told_so(heartbeat):
    with pytest.raises(OwnershipLost):
        await heartbeat(kafka_errors.UnknownMemberIdError)


@pytest.mark.parametrize("error", UNANSWERED)
async def test_a_group_that_does_not_answer_is_told_apart(heartbeat, error):
    with pytest.raises(DeliveryError):
        await heartbeat(error)


async def test_a_coordinator_that_has_lost_its_broker_looks_for_it():
    assert parameters(GroupCoordinator.ensure_coordinator_known) == ["self"], OWNERSHIP
    assert inspect.iscoroutinefunction(GroupCoordinator.ensure_coordinator_known), OWNERSHIP
    assert parameters(HeartbeatRequest) == ["group", "generation_id", "member_id"], OWNERSHIP


def test_a_member_without_a_generation_has_a_negative_one():
    text = inspect.getsource(GroupCoordinator.reset_generation)

    assert "self.generation = OffsetCommitRequest.DEFAULT_GENERATION_ID" in text, OWNERSHIP
    assert OffsetCommitRequest.DEFAULT_GENERATION_ID < 0, OWNERSHIP


# --- aiokafka: an assignor of our own


def test_a_consumer_has_no_coordinator_before_it_is_connected():
    text = inspect.getsource(aiokafka.AIOKafkaConsumer.__init__)

    assert "self._coordinator = None" in text, ELECTION


async def test_a_member_can_be_made_to_join_again():
    coordinator = GroupCoordinator.__new__(GroupCoordinator)
    coordinator._rejoin_needed_fut = asyncio.get_running_loop().create_future()
    subscription = SimpleNamespace(assignment=object())
    assert not coordinator.need_rejoin(subscription), ELECTION

    coordinator.request_rejoin()
    coordinator.request_rejoin()

    assert coordinator.need_rejoin(subscription), ELECTION


def test_an_assignor_may_be_an_instance_that_is_asked_at_each_join():
    text = inspect.getsource(aiokafka_coordinator)

    assert "metadata = assignor.metadata(topics)" in text, ASSIGNOR
    assert "group_protocol = (assignor.name, metadata)" in text, ASSIGNOR
    assert "assignor.assign(self._cluster, member_metadata)" in text, ASSIGNOR
    assert "isinstance(assignor" not in text + inspect.getsource(aiokafka.AIOKafkaConsumer), (
        ASSIGNOR
    )


async def test_an_assignor_learns_what_is_assigned_before_the_listener_is_called():
    heard = []

    class Listener(aiokafka.ConsumerRebalanceListener):
        async def on_partitions_revoked(self, revoked):
            pass

        async def on_partitions_assigned(self, assigned):
            heard.append((assignor.assigned, assigned))

    assignor = SourceAssignor(lambda: Member(worker="me"))
    coordinator = GroupCoordinator.__new__(GroupCoordinator)
    coordinator.group_id = "flow"
    coordinator._assignors = (assignor,)
    coordinator._subscription = SubscriptionState()
    coordinator._subscription.subscribe({"t"}, listener=Listener())
    coordinator._commit_refresh_task = None
    coordinator.start_commit_offsets_refresh_task = lambda assignment: None
    assignment = ConsumerProtocolMemberAssignment(0, [], b'["m.s"]').encode()

    await coordinator._on_join_complete(1, "me", assignor.name, assignment)

    assert heard == [({"m.s"}, set())], ASSIGNOR


async def test_who_gets_no_partition_is_a_member_all_the_same():
    state = SubscriptionState()
    state.subscribe({"t"})

    state.assign_from_subscribed(set())

    assert state.subscription.assignment is not None, ASSIGNOR
    assert state.fetcher_idle_time < 1, ASSIGNOR


# --- aiokafka: transactions


def test_a_batch_takes_a_place_in_a_producers_sequence_and_gives_its_bytes_again_and_again():
    batch = BatchBuilder(100_000, 0, is_transactional=True)
    batch.append(key=None, value=b"[1]", timestamp=1_000)
    batch.close()

    batch._set_producer_state(5, 7, 40)

    first, second = bytes(batch._build()), bytes(batch._build())
    read = MemoryRecords(first).next_batch()
    assert first == second, TRANSACTION
    assert (read.producer_id, read.producer_epoch, read.base_sequence) == (5, 7, 40), TRANSACTION
    assert read.is_transactional, TRANSACTION
    assert batch.record_count() == 1, TRANSACTION


def test_a_batch_knows_its_size_before_it_is_built():
    batch = BatchBuilder(100_000, 0)
    empty = batch.size()
    batch.append(key=None, value=b"x" * 500, timestamp=1_000)

    assert empty + 500 < batch.size() < empty + 500 + VARINTS_BYTES, LIMIT
    assert len(batch._build()) == batch.size(), LIMIT


def test_a_full_batch_takes_no_more():
    batch = BatchBuilder(1_000, 0)
    record = {"key": None, "value": b"x" * 600, "timestamp": 1_000}

    assert batch.append(**record) is not None, LIMIT
    assert batch.append(**record) is None, LIMIT


def test_records_go_straight_into_the_builder_in_a_batch():
    batch = BatchBuilder(100_000, 0)
    for n in range(3):
        assert batch._builder.append(n, 1_000, b"k", b"%d" % n, []) is not None, PACKED
    batch._relative_offset = 3
    batch.close()

    read = MemoryRecords(bytes(batch._build())).next_batch()
    assert [(record.offset, record.value) for record in read] == [
        (0, b"0"), (1, b"1"), (2, b"2"),
    ], PACKED  # fmt: skip
    assert batch.record_count() == 3, PACKED


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("bootstrap", ["self"]),
        ("close", ["self"]),
        ("coordinator_lookup", ["self", "coordinator_type", "coordinator_key"]),
        ("force_metadata_update", ["self"]),
        ("send", ["self", "node_id", "request", "group"]),
        ("_wait_on_metadata", ["self", "topic"]),
    ],
)
def test_a_client_has_the_methods_that_are_used(name, wanted):
    assert parameters(getattr(AIOKafkaClient, name)) == wanted, COORDINATOR


async def test_a_client_gives_the_leader_of_a_partition_or_says_that_there_is_none():
    client = AIOKafkaClient(bootstrap_servers="localhost:1")
    assert client.cluster.leader_for_partition(TP) is None, TRANSACTION

    client.cluster._partitions = {"t": {0: SimpleNamespace(leader=-1)}}
    assert client.cluster.leader_for_partition(TP) == -1, TRANSACTION
    await client.close()


def test_coordinators_are_of_two_kinds_and_have_connections_of_their_own():
    assert {"GROUP", "TRANSACTION"} <= set(CoordinationType.__members__), COORDINATOR
    assert "COORDINATION" in ConnectionGroup.__members__, COORDINATOR


IDENTITY = ["transactional_id", "producer_id", "producer_epoch"]


@pytest.mark.parametrize(
    ("request_class", "wanted"),
    [
        (transaction.InitProducerIdRequest, ["transactional_id", "transaction_timeout_ms"]),
        (transaction.AddPartitionsToTxnRequest, [*IDENTITY, "topics"]),
        (transaction.AddOffsetsToTxnRequest, [*IDENTITY, "group_id"]),
        (transaction.EndTxnRequest, [*IDENTITY, "transaction_result"]),
        (
            transaction.TxnOffsetCommitRequest,
            ["transactional_id", "group_id", "producer_id", "producer_epoch", "topics"],
        ),
        (ProduceRequest, ["transactional_id", "required_acks", "timeout", "topics"]),
    ],
)
def test_a_request_has_the_fields_that_are_given(request_class, wanted):
    assert parameters(request_class) == wanted, REQUESTS


@pytest.mark.parametrize(
    ("request_class", "wanted"),
    [
        (transaction.InitProducerIdRequest, {"error_code", "producer_id", "producer_epoch"}),
        (transaction.AddPartitionsToTxnRequest, {"errors"}),
        (transaction.AddOffsetsToTxnRequest, {"error_code"}),
        (transaction.EndTxnRequest, {"error_code"}),
        (transaction.TxnOffsetCommitRequest, {"errors"}),
        (ProduceRequest, {"topics"}),
    ],
)
def test_an_answer_has_the_fields_that_are_read(request_class, wanted):
    for version in request_class._CLASSES:
        fields = set(version.RESPONSE_TYPE.SCHEMA.names)
        assert wanted <= fields, REQUESTS
        assert ("error_code" in fields) == ("error_code" in wanted), REQUESTS


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (3, "UnknownTopicOrPartitionError"),
        (10, "MessageSizeTooLargeError"),
        (14, "CoordinatorLoadInProgressError"),
        (15, "CoordinatorNotAvailableError"),
        (16, "NotCoordinatorError"),
        (18, "RecordListTooLargeError"),
        (29, "TopicAuthorizationFailedError"),
        (30, "GroupAuthorizationFailedError"),
        (46, "DuplicateSequenceNumber"),
        (47, "InvalidProducerEpoch"),
        (51, "ConcurrentTransactions"),
        (53, "TransactionalIdAuthorizationFailed"),
        (55, "OperationNotAttempted"),
    ],
)
def test_an_error_that_is_told_apart_has_kafkas_code(code, name):
    assert kafka_errors.for_code(code).errno == getattr(kafka_errors, name).errno == code, ERRORS_OF


@pytest.mark.parametrize("code", [5, 6, 7, 19, 20])
def test_an_answer_to_a_write_that_asks_for_another_attempt_is_retriable(code):
    assert kafka_errors.for_code(code).retriable, ERRORS_OF


@pytest.mark.parametrize("code", [10, 29, 45, 47, 48, 49, 59])
def test_an_answer_to_a_write_that_is_final_is_not(code):
    assert not kafka_errors.for_code(code).retriable, ERRORS_OF


def test_the_code_of_a_fenced_producer_is_not_aiokafkas():
    # As soon as it is, transactions.py can do without its own.
    assert kafka_errors.for_code(90) is kafka_errors.UnknownError, ERRORS_OF
    assert issubclass(kafka_errors.ProducerFenced, kafka_errors.KafkaError), ERRORS_OF


# --- aiokafka: what the watchdog looks at


async def test_a_partition_has_the_time_of_its_last_fetch():
    subscriptions = SubscriptionState()
    subscriptions.assign_from_user([TP])
    state = subscriptions.subscription.assignment.state_value(TP)

    assert (state.timestamp, state._position, state.paused) == (None, None, False), CONDITION
    assert "tp_state.timestamp = " in inspect.getsource(aiokafka_fetcher.Fetcher), CONDITION


async def test_a_connection_has_its_open_requests_and_the_time_of_the_last_answer():
    connection = AIOKafkaConnection("localhost", 1)

    assert len(connection._requests) == 0, CONDITION
    assert connection._last_action > 0, CONDITION
    assert connection.connected() is False, CONDITION


def test_a_client_keeps_its_connections_by_node_and_group():
    text = inspect.getsource(AIOKafkaClient)

    assert "self._conns[conn_id]" in text, CONDITION
    assert "conn_id = (node_id, group)" in text, CONDITION
    assert "DEFAULT" in ConnectionGroup.__members__, CONDITION


def test_a_coordinator_has_its_task_its_generation_and_its_broker():
    text = inspect.getsource(GroupCoordinator)

    for name in ("_coordination_task", "generation", "coordinator_id"):
        assert f"self.{name} = " in text, CONDITION
    assert OffsetCommitRequest.DEFAULT_GENERATION_ID < 0, CONDITION


# --- aiokafka: what a survey asks


async def test_the_admin_client_has_the_client_under_it():
    admin = AIOKafkaAdminClient(bootstrap_servers="localhost:1")

    assert isinstance(admin._client, AIOKafkaClient), SURVEY
    await admin.close()


def test_offsets_and_records_are_asked_for_with_these_fields():
    assert parameters(OffsetRequest)[:3] == ["replica_id", "isolation_level", "topics"], SURVEY
    assert parameters(FetchRequest)[:5] == [
        "max_wait_time", "min_bytes", "max_bytes", "isolation_level", "topics",
    ], SURVEY  # fmt: skip
    assert (OffsetResetStrategy.EARLIEST, OffsetResetStrategy.LATEST) == (-2, -1), SURVEY
    assert (aiokafka_fetcher.READ_UNCOMMITTED, aiokafka_fetcher.READ_COMMITTED) == (0, 1), SURVEY
    assert max(version.API_VERSION for version in OffsetRequest._CLASSES) < 4, SURVEY
    assert max(version.API_VERSION for version in FetchRequest._CLASSES) == 11, SURVEY


def test_the_records_of_a_partition_are_read_with_what_was_taken_back():
    assert parameters(aiokafka_fetcher.PartitionRecords) == [
        "tp", "records", "aborted_transactions", "fetch_offset", "key_deserializer",
        "value_deserializer", "check_crcs", "isolation_level",
    ], SURVEY  # fmt: skip


# --- Faust: the consumer and its thread


def test_fausts_fetcher_runs_drain_messages():
    assert parameters(faust_consumer.Consumer._drain_messages) == ["self", "fetcher"], DRAIN
    assert "await consumer._drain_messages(self)" in inspect.getsource(faust_consumer.Fetcher), (
        DRAIN
    )


def test_ours_replaces_methods_that_faust_has():
    for ours, theirs, names in [
        (
            Consumer,
            faust_driver.Consumer,
            [
                "_drain_messages",
                "_new_consumer_thread",
                "commit",
                "on_init",
                "on_partitions_assigned",
                "on_partitions_revoked",
                "perform_seek",
                "verify_event_path",
                "wait_empty",
            ],
        ),
        (
            LoopThread,
            faust_driver.AIOKafkaConsumerThread,
            [
                "_create_worker_consumer",
                "call_thread",
                "on_partitions_assigned",
                "on_partitions_revoked",
                "on_start",
                "start",
                "stop",
            ],
        ),
    ]:
        for name in names:
            assert name in vars(ours), f"{ours.__name__}.{name} is gone: take it out of this list"
            assert hasattr(theirs, name), (
                f"transport/consumer.py: {ours.__name__}.{name} replaces nothing any more"
            )


def test_the_thread_makes_its_consumer_by_create_worker_consumer():
    thread = faust_driver.AIOKafkaConsumerThread

    assert parameters(thread._create_worker_consumer) == ["self", "transport"], CREATE
    assert "self._create_worker_consumer(transport)" in inspect.getsource(
        thread._create_consumer
    ), CREATE
    assert "self._create_consumer(" in inspect.getsource(thread.on_start), CREATE


def test_the_thread_gives_its_consumer_or_says_that_there_is_none():
    thread = faust_driver.AIOKafkaConsumerThread

    assert parameters(thread._ensure_consumer) == ["self"], CREATE
    consumer = object()
    assert thread._ensure_consumer(SimpleNamespace(_consumer=consumer)) is consumer, CREATE


def test_the_helpers_of_the_driver_are_there():
    assert faust_driver.server_list([faust_driver.URL("kafka://a:1")], 9092) == ["a:1"], CREATE
    assert faust_driver.credentials_to_aiokafka_auth(None, None)["security_protocol"], CREATE


@pytest.mark.parametrize("name", ["flow_active", "can_resume_flow", "_thread"])
def test_fausts_consumer_has_what_says_whether_records_may_flow(name):
    source = inspect.getsource(faust_consumer) + inspect.getsource(faust_driver)

    assert re.search(rf"self\.{name}\b", source), DRAIN


class FakeThread:
    """Notes what the listener of rebalances tells it."""

    def __init__(self):
        self.heard = []
        self.app = SimpleNamespace(on_rebalance_start=lambda: None, consumer_generation_id=0)

    def _ensure_consumer(self):
        return SimpleNamespace(_coordinator=SimpleNamespace(generation=7))

    async def on_partitions_revoked(self, revoked):
        self.heard.append(("revoked", revoked))

    async def on_partitions_assigned(self, assigned, generation_id):
        self.heard.append(("assigned", assigned, generation_id))


async def test_the_listener_of_rebalances_tells_the_thread():
    thread = FakeThread()
    listener = faust_driver.Consumer.RebalanceListener(thread)

    await listener.on_partitions_revoked([TP])
    await listener.on_partitions_assigned([TP])

    assert thread.heard == [("revoked", {TP}), ("assigned", {TP}, 7)], REBALANCE
    assert thread.app.consumer_generation_id == 7, GIVE


# --- mode and Faust: the queue of an agent


async def test_a_queue_takes_what_is_forced_in_although_it_is_full():
    queue = FlowControlQueue(1, flow_control=FlowControlEvent())

    for n in range(3):
        queue.force_put_nowait(n)

    assert [queue.get_nowait() for _ in range(3)] == [0, 1, 2], GIVE


async def test_what_is_forced_in_wakes_the_one_who_waits(turns):
    queue = FlowControlQueue(1, flow_control=FlowControlEvent())
    waiting = asyncio.ensure_future(queue.get())
    await turns()

    queue.force_put_nowait("batch")

    assert await asyncio.wait_for(waiting, 5) == "batch", GIVE


async def test_the_queue_of_an_agents_channel_is_such_a_queue():
    queue = faust.App("private-names").channel(maxsize=1).queue

    for n in range(3):
        queue.force_put_nowait(n)

    assert isinstance(queue, FlowControlQueue), GIVE
    assert queue.qsize() == 3, GIVE


def test_an_app_makes_events_of_key_value_headers_and_message():
    assert parameters(faust.App.create_event)[:5] == [
        "self",
        "key",
        "value",
        "headers",
        "message",
    ], GIVE
