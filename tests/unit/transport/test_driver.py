import asyncio
from types import SimpleNamespace

import pytest
from faust.types import TP
from yarl import URL

from aiopype.transport.consumer import Consumer
from aiopype.transport.driver import Transport
from aiopype.transport.parked_topics import ParkedTopics


class FakeStream:
    """The stream of an agent: gives these batches."""

    def __init__(self, *batches):
        self.channel = object()
        self.batches = batches
        self.is_acking = True

    def noack(self):
        self.is_acking = False
        return self

    async def events(self):
        for batch in self.batches:
            yield SimpleNamespace(value=batch)


class FakeManagers:
    """Who watches the managers.

    Attributes:
        stopped: those that do not run.
        failures: what was reported of which.
    """

    def __init__(self):
        self.stopped = set()
        self.failures = []

    def fail(self, manager, error, what):
        self.failures.append((manager, error, what))

    def is_running(self, manager):
        return manager not in self.stopped


class FakeDelivery:
    """Notes which partitions it keeps."""

    def __init__(self):
        self.kept = []

    async def keep(self, partitions):
        self.kept.append(list(partitions))


@pytest.fixture
def managers():
    return FakeManagers()


@pytest.fixture
def deliveries():
    """The deliveries of two managers."""
    return {"a": FakeDelivery(), "b": FakeDelivery()}


@pytest.fixture
def parked(recorder):
    """The topics of waiting events."""
    return ParkedTopics("a:1", recorder.graph, SimpleNamespace())


@pytest.fixture
async def transport(recorder, collector, managers, deliveries, parked):
    """A transport of a flow with two managers, of two and one subscribed topics."""
    for manager in ("a", "b"):
        sink = collector(f"{manager}.sink", recorder)
        sink.on("in", sink.take)
        sink.on("in", sink.take_async)
    sink.on("other", sink.take)
    recorder.topic("a.sink", "unheard")
    return Transport(
        [URL("kafka://a:1")],
        None,
        recorder.graph,
        deliveries,
        SimpleNamespace(),
        parked,
        managers,
    )


async def test_its_consumer_is_ours(transport):
    assert transport.Consumer is Consumer


async def test_a_partition_of_a_subscribed_topic_has_its_subscriptions(transport, recorder):
    partition = transport.new_partition(TP("a.sink.in", 2), SimpleNamespace())

    topic = recorder.topic("a.sink", "in")
    assert (partition.topic, partition.number) == (topic, 2)
    assert partition.subscriptions == recorder.graph.subscriptions(topic)
    assert not partition.has_room


async def test_the_waiting_events_of_a_partition_are_in_the_topic_beside_its_own(
    transport, recorder, parked
):
    partition = transport.new_partition(TP("a.sink.in", 2), SimpleNamespace())

    assert partition.parking.topic is parked.topic(recorder.topic("a.sink", "in"))
    assert partition.parking.topic.name == "a.sink.in.parked"


async def test_a_partition_that_is_assigned_counts_as_this_workers(transport):
    transport.new_partition(TP("a.sink.in", 2), SimpleNamespace())

    assert list(transport.progress.topics["a.sink.in"].partitions) == [2]


async def test_each_manager_has_its_own_delivery(transport, deliveries):
    a = transport.new_partition(TP("a.sink.in", 0), SimpleNamespace())
    b = transport.new_partition(TP("b.sink.in", 0), SimpleNamespace())

    assert (a._delivery, b._delivery) == (deliveries["a"], deliveries["b"])


async def test_each_delivery_keeps_the_partitions_of_its_managers(transport, deliveries):
    a = transport.new_partition(TP("a.sink.in", 0), SimpleNamespace())
    b = transport.new_partition(TP("b.sink.in", 0), SimpleNamespace())

    await transport.keep([a, b])
    await transport.keep([b])

    assert deliveries["a"].kept == [[a], []]
    assert deliveries["b"].kept == [[b], [b]]


async def test_a_delivery_that_serves_several_managers_is_asked_once(transport, deliveries):
    deliveries["b"] = deliveries["a"]
    a = transport.new_partition(TP("a.sink.in", 0), SimpleNamespace())
    b = transport.new_partition(TP("b.sink.in", 0), SimpleNamespace())

    await transport.keep([a, b])

    assert deliveries["a"].kept == [[a, b]]


@pytest.mark.parametrize("name", ["a.sink.unheard", "foreign", "a.sink.in.more"])
async def test_a_topic_that_nobody_is_subscribed_to_has_no_partition(transport, name):
    assert transport.new_partition(TP(name, 0), SimpleNamespace()) is None


async def test_a_failure_of_a_partition_is_that_of_its_manager(transport, managers):
    partition = transport.new_partition(TP("b.sink.in", 0), SimpleNamespace())
    error = LookupError()

    partition._fail(error, "what")

    assert managers.failures == [("b", error, "what")]


async def test_the_topics_of_a_manager_are_those_that_are_consumed(transport):
    assert transport.topics_of("a") == ["a.sink.in"]
    assert transport.topics_of("b") == ["b.sink.in", "b.sink.other"]
    assert transport.topics_of("c") == []


async def test_a_partition_is_stopped_with_its_manager(transport, managers):
    a = transport.new_partition(TP("a.sink.in", 0), SimpleNamespace())
    b = transport.new_partition(TP("b.sink.in", 0), SimpleNamespace())

    managers.stopped.add("a")

    assert transport.is_stopped(a)
    assert not transport.is_stopped(b)


def consumer_at(**states):
    """A consumer that is so far in these partitions of `a.sink.in`."""
    states = {TP("a.sink.in", int(n[1:])): state for n, state in states.items()}
    assignment = SimpleNamespace(state_value=states.get)
    return SimpleNamespace(
        _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
    )


async def test_the_end_of_a_log_is_where_committed_records_end(transport):
    transport.new_partition(TP("a.sink.in", 0), SimpleNamespace())
    state = SimpleNamespace(has_valid_position=True, position=3, lso=8, highwater=20)

    transport.note_ends(consumer_at(p0=state), [TP("a.sink.in", 0)])

    assert transport.progress.topics["a.sink.in"].lag == 5


async def test_there_is_no_end_of_a_partition_that_has_no_position_yet(transport):
    transport.new_partition(TP("a.sink.in", 0), SimpleNamespace())
    state = SimpleNamespace(has_valid_position=False)

    transport.note_ends(consumer_at(p0=state), [TP("a.sink.in", 0), TP("a.sink.in", 1)])

    assert transport.progress.topics["a.sink.in"].lag is None


async def test_an_agent_runs_its_subscription_over_each_batch_in_turn(transport, recorder):
    ran = []

    async def run(batch, index):
        ran.append((batch.number, index, "begins"))
        await asyncio.sleep(0)
        ran.append((batch.number, index, "ends"))

    _, second = recorder.graph.subscriptions(recorder.topic("a.sink", "in"))
    batches = [SimpleNamespace(number=n, partition=SimpleNamespace(run=run)) for n in (1, 2)]

    await transport.agent(second)(FakeStream(*batches))

    assert ran == [(1, 1, "begins"), (1, 1, "ends"), (2, 1, "begins"), (2, 1, "ends")]


async def test_an_agent_makes_its_queue_known_and_lets_faust_acknowledge_nothing(
    transport, recorder
):
    first, _ = recorder.graph.subscriptions(recorder.topic("a.sink", "in"))
    stream = FakeStream()

    await transport.agent(first)(stream)

    assert transport.channels == {first: stream.channel}
    assert not stream.is_acking
