"""What the watchdog is told of a consumer; the real one is in tests/faults/test_watchdog.py."""

import asyncio
import time
from collections import deque
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from aiokafka.client import ConnectionGroup
from aiokafka.consumer.subscription_state import SubscriptionState

from aiopype.transport.condition import condition_of
from aiopype.watchdog import Condition

TP = TopicPartition("t", 0)
LEADER = 7


class FakePartition(SimpleNamespace):
    def __repr__(self):
        return "t[0]"


class FakeConnection:
    """A connection whose last answer came so many seconds ago."""

    def __init__(self, seconds=0.0, asked=(), is_open=True):
        self._last_action = time.monotonic() - seconds
        self._requests = deque(asked)
        self.connected = lambda: is_open


class Worker:
    """A consumer of one partition, healthy and idle."""

    def __init__(self):
        self.subscription = SubscriptionState()
        self.subscription.subscribe({"t"})
        self.subscription.assign_from_subscribed({TP})
        self.state = self.subscription.subscription.assignment.state_value(TP)
        self.state.seek(5)
        self.partition = FakePartition(
            busy_since=None, has_room=True, is_open=True, is_closed=False
        )
        self.connections = {(LEADER, ConnectionGroup.DEFAULT): FakeConnection()}
        self.coordinator = SimpleNamespace(
            _coordination_task=asyncio.get_running_loop().create_future(),
            coordinator_id=LEADER,
            generation=3,
        )
        client = SimpleNamespace(
            cluster=SimpleNamespace(leader_for_partition=lambda tp: LEADER),
            _conns=self.connections,
        )
        self.client = SimpleNamespace(
            _subscription=self.subscription, _client=client, _coordinator=self.coordinator
        )
        self.consumer = SimpleNamespace(
            _thread=SimpleNamespace(_consumer=self.client),
            partitions={TP: self.partition},
            is_feeding=True,
            transport=SimpleNamespace(is_stopped=lambda partition: self.is_stopped),
        )
        self.is_stopped = False

    @property
    def condition(self):
        return condition_of(self.consumer)


@pytest.fixture
async def worker():
    return Worker()


async def test_a_worker_that_is_well_is_in_its_group_and_connected(worker):
    assert worker.condition == Condition(fetches={"t[0]": (None, 5)})


async def test_before_there_is_a_client_nothing_is_wrong(worker):
    worker.consumer._thread._consumer = None

    assert worker.condition == Condition()


async def test_a_batch_in_work_tells_since_when(worker):
    worker.partition.busy_since = 12.5

    assert worker.condition.busy == {"t[0]": 12.5}


async def test_a_fetch_changes_the_mark_of_its_partition_with_or_without_records(worker):
    first = worker.condition.fetches["t[0]"]
    worker.state.timestamp = 1_000
    second = worker.condition.fetches["t[0]"]
    worker.state.seek(6)
    third = worker.condition.fetches["t[0]"]

    assert len({first, second, third}) == 3


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda w: setattr(w.partition, "has_room", False), id="without room"),
        pytest.param(lambda w: setattr(w.consumer, "is_feeding", False), id="when it drains"),
        pytest.param(lambda w: w.state.pause(), id="when it is paused"),
        pytest.param(lambda w: w.connections.clear(), id="without its leader"),
        pytest.param(lambda w: w.connections.update(
            {(LEADER, ConnectionGroup.DEFAULT): FakeConnection(is_open=False)}
        ), id="when its leader has hung up"),
        pytest.param(lambda w: w.subscription.unsubscribe(), id="without a subscription"),
    ],
)  # fmt: skip
async def test_a_partition_is_not_expected_to_be_fetched(worker, change):
    change(worker)

    assert worker.condition.fetches == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.connections.clear(), "its leader is out of reach"),
        (lambda w: setattr(w.partition, "is_open", False), "not open"),
        (lambda w: setattr(w.partition, "is_closed", True), "given up"),
    ],
    ids=["without its leader", "before it is open", "closed"],
)
async def test_why_a_partition_cannot_be_fetched_is_told(worker, change, reason):
    change(worker)

    assert worker.condition.unready == {"t[0]": reason}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda w: vars(w.partition).update(is_closed=True) or setattr(
            w, "is_stopped", True
        ), id="when its manager is down"),
        pytest.param(lambda w: setattr(w.partition, "has_room", False), id="without room"),
        pytest.param(lambda w: setattr(w.consumer, "is_feeding", False), id="when it drains"),
    ],
)  # fmt: skip
async def test_a_partition_that_need_not_be_fetched_is_not_told_of(worker, change):
    worker.connections.clear()
    change(worker)

    assert worker.condition.unready == {}


async def test_without_a_generation_it_is_out_of_its_group(worker):
    worker.coordinator.generation = -1

    assert not worker.condition.is_member


async def test_when_nobody_keeps_it_in_its_group_it_is_out(worker):
    worker.coordinator._coordination_task.set_result(None)

    assert not worker.condition.is_member


async def test_a_group_whose_broker_is_not_known_is_an_outage(worker):
    worker.coordinator.generation = -1
    worker.coordinator.coordinator_id = None

    assert worker.condition.is_member


async def test_a_flow_without_topics_needs_no_group(worker):
    worker.subscription.unsubscribe()
    worker.coordinator.generation = -1

    assert worker.condition.is_member


@pytest.mark.parametrize(
    ("connections", "is_connected"),
    [
        ([], False),
        ([{"is_open": False}], False),
        ([{"seconds": 600}], True),
        ([{"seconds": 5, "asked": ["heartbeat"]}], True),
        ([{"seconds": 20, "asked": ["heartbeat"]}], False),
        ([{}, {"seconds": 20, "asked": ["fetch"]}], False),
    ],
    ids=["none", "closed", "idle", "asked just now", "does not answer", "one does not answer"],
)
async def test_brokers_are_connected_unless_one_leaves_a_request_without_an_answer(
    worker, connections, is_connected
):
    worker.connections.clear()
    worker.connections.update(enumerate(FakeConnection(**options) for options in connections))

    assert worker.condition.is_connected is is_connected
