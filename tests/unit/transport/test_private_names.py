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
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator, NoGroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as faust_driver
from mode.utils.queues import FlowControlEvent, FlowControlQueue

from aiopype.transport.consumer import Consumer, LoopThread
from aiopype.transport.records import RawRecords

TP = aiokafka.TopicPartition("t", 0)

RAW = "transport/records.py: RawRecords would hand over records that partitions cannot read"
NOTE_ENDS = "transport/driver.py: Transport.note_ends would not know the lag"
FETCH = "transport/consumer.py: Consumer._fetch and _pause would get no records"
IDLE = "transport/consumer.py: Consumer._drain_messages would be put out of its group when idle"
ERRORS = "transport/consumer.py: Consumer._drain_messages would not see errors of the group"
DRAIN = "transport/consumer.py: Consumer._drain_messages would not be what Faust runs"
CREATE = "transport/consumer.py: LoopThread would connect with Faust's own settings"
GIVE = "transport/consumer.py: Consumer.give would not reach the agents"
REBALANCE = "transport/consumer.py: Consumer would not hear of its partitions"


def parameters(function):
    return list(inspect.signature(function).parameters)


# --- aiokafka: how far a partition is


async def test_an_assigned_partition_has_a_position_and_the_end_of_its_log():
    subscriptions = SubscriptionState()
    subscriptions.assign_from_user([TP])
    state = subscriptions.subscription.assignment.state_value(TP)

    assert not state.has_valid_position, NOTE_ENDS
    state.seek(5)
    assert (state.has_valid_position, state.position, state.highwater) == (True, 5, None), NOTE_ENDS


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


async def test_a_fetch_result_has_partition_records_that_make_consumer_records(fetched):
    assert hasattr(fetched, "_partition_records"), RAW
    assert parameters(aiokafka_fetcher.PartitionRecords._consumer_record) == [
        "self",
        "tp",
        "record",
    ], RAW
    assert not hasattr(aiokafka_fetcher.PartitionRecords, "__slots__"), RAW


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
