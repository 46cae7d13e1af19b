import asyncio
from types import SimpleNamespace

import pytest
from faust.types import TP
from yarl import URL

from aiopype.transport.consumer import Consumer
from aiopype.transport.driver import Transport


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


@pytest.fixture
def stopped():
    """The managers that do not run."""
    return set()


@pytest.fixture
def failures():
    return []


@pytest.fixture
async def transport(recorder, collector, stopped, failures):
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
        SimpleNamespace(),
        SimpleNamespace(),
        lambda manager, error, what: failures.append((manager, error, what)),
        lambda manager: manager not in stopped,
    )


async def test_its_consumer_is_ours(transport):
    assert transport.Consumer is Consumer


async def test_a_partition_of_a_subscribed_topic_has_its_subscriptions(transport, recorder):
    partition = transport.new_partition(TP("a.sink.in", 2), SimpleNamespace())

    topic = recorder.topic("a.sink", "in")
    assert (partition.topic, partition.number) == (topic, 2)
    assert partition.subscriptions == recorder.graph.subscriptions(topic)


@pytest.mark.parametrize("name", ["a.sink.unheard", "foreign", "a.sink.in.more"])
async def test_a_topic_that_nobody_is_subscribed_to_has_no_partition(transport, name):
    assert transport.new_partition(TP(name, 0), SimpleNamespace()) is None


async def test_a_failure_of_a_partition_is_that_of_its_manager(transport, failures):
    partition = transport.new_partition(TP("b.sink.in", 0), SimpleNamespace())
    error = LookupError()

    partition._fail(error, "what")

    assert failures == [("b", error, "what")]


async def test_the_topics_of_a_manager_are_those_that_are_consumed(transport):
    assert transport.topics_of("a") == ["a.sink.in"]
    assert transport.topics_of("b") == ["b.sink.in", "b.sink.other"]
    assert transport.topics_of("c") == []


async def test_a_partition_is_stopped_with_its_manager(transport, stopped):
    a = transport.new_partition(TP("a.sink.in", 0), SimpleNamespace())
    b = transport.new_partition(TP("b.sink.in", 0), SimpleNamespace())

    stopped.add("a")

    assert transport.is_stopped(a)
    assert not transport.is_stopped(b)


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
