import asyncio

import pytest
from aiokafka import errors as kafka_errors

from aiopype.progress import Progress
from aiopype.transport import offsets as offsets_module
from aiopype.transport.offsets import Offsets

IN = "m.worker.in"
ERROR = "m.worker.error"


class FakeConsumer:
    """A client of brokers that know where topics begin and end.

    Attributes:
        begins, ends: the offsets, by topic; of each partition.
        asked: the topics that were asked about, in order.
        errors: raised by the next starts and questions; None answers.
        options: what it was made with.
    """

    def __init__(self):
        self.begins, self.ends = {}, {}
        self.asked, self.errors = [], []
        self.options = None
        self.is_started = False

    async def start(self):
        self._fail()
        self.is_started = True

    async def stop(self):
        self.is_started = False

    async def beginning_offsets(self, places):
        return self._find(self.begins, places)

    async def end_offsets(self, places):
        return self._find(self.ends, places)

    def _find(self, offsets, places):
        assert self.is_started
        self.asked += sorted({place.topic for place in places})
        self._fail()
        return {place: offsets[place.topic] for place in places}

    def _fail(self):
        if self.errors and (error := self.errors.pop(0)):
            raise error


@pytest.fixture
def client(monkeypatch):
    fake = FakeConsumer()

    def connect(**options):
        fake.options = options
        return fake

    monkeypatch.setattr(offsets_module, "AIOKafkaConsumer", connect)
    return fake


@pytest.fixture
def now():
    """The seconds since 1970, in a list."""
    return [100.0]


@pytest.fixture
def progress(now):
    return Progress(clock=lambda: now[0])


@pytest.fixture
def group():
    """What the flow's group says of partitions."""
    return {}


@pytest.fixture
def graph(recorder, collector):
    """A worker's graph: one subscription; the component's `error` topic has two partitions."""
    worker = collector("m.worker", recorder)
    recorder.on("m.worker", "in", worker.take)
    recorder.topic("m.worker", "error").partitions = 2
    return recorder.graph


@pytest.fixture
async def offsets(client, progress, group, graph):
    async def committed(topic, partition):
        return group.get((topic, partition))

    made = Offsets("a:1", graph, progress, committed, security={"security_protocol": "SSL"})
    yield made
    await made.stop()


@pytest.fixture
def partition(progress):
    """How far a partition is."""
    progress.assign(IN, 0)
    return progress.topics[IN].partitions[0]


# --- dead letters


async def test_it_is_known_how_long_the_error_topic_of_each_component_is(offsets, client, progress):
    client.begins, client.ends = {ERROR: 3}, {ERROR: 10}

    await offsets.look()

    assert progress.dead_letters == {"m.worker": 14}


async def test_a_topic_that_does_not_exist_is_not_asked_for(offsets, client, progress, graph):
    graph.find("m.worker", "error").partitions = None

    await offsets.look()

    assert (client.asked, progress.dead_letters) == ([], {})


@pytest.mark.parametrize("error", [kafka_errors.KafkaTimeoutError(), OSError(), TimeoutError()])
async def test_where_brokers_do_not_answer_nothing_is_said(
    offsets, client, progress, error, caplog
):
    client.begins, client.ends = {ERROR: 3}, {ERROR: 10}
    await offsets.look()

    client.errors = [None, error]
    await offsets.look()

    assert progress.dead_letters == {}
    assert not caplog.records


async def test_a_broker_that_was_not_there_is_tried_again(offsets, client, progress):
    client.begins, client.ends = {ERROR: 0}, {ERROR: 0}
    client.errors = [kafka_errors.KafkaConnectionError(), kafka_errors.KafkaConnectionError()]
    await offsets.look()
    assert progress.dead_letters == {}

    await offsets.look()

    assert progress.dead_letters == {"m.worker": 0}


async def test_it_asks_with_the_settings_of_the_worker_and_joins_no_group(offsets, client):
    client.begins, client.ends = {ERROR: 0}, {ERROR: 0}

    await offsets.look()

    assert client.options["bootstrap_servers"] == "a:1"
    assert client.options["security_protocol"] == "SSL"
    assert "group_id" not in client.options
    # What cannot be read yet is no lag.
    assert client.options["isolation_level"] == "read_committed"


async def test_an_error_that_nobody_foresaw_does_not_end_the_worker(offsets, client, caplog):
    client.errors = [None, None, LookupError("what")]

    await offsets.look()

    assert "asking for offsets" in caplog.text


# --- ends of partitions


@pytest.fixture(autouse=True)
def no_dead_letters(request, graph):
    if "partition" in request.fixturenames:
        graph.find("m.worker", "error").partitions = None


async def test_the_end_of_a_partition_that_is_not_fetched_is_asked_for(
    offsets, client, progress, partition, now
):
    progress.fetched(IN, 0, position=5, end=5)
    now[0] += 6
    client.ends = {IN: 9}

    await offsets.look()

    assert (partition.position, partition.end, partition.heard) == (5, 9, 106.0)
    assert partition.lag_seconds(107.0) == 1


async def test_the_end_of_a_partition_that_is_fetched_is_not_asked_for(
    offsets, client, progress, partition, now
):
    progress.fetched(IN, 0, position=5, end=5)
    now[0] += 4

    await offsets.look()

    assert client.asked == []


async def test_a_partition_that_was_never_fetched_is_where_its_group_is(
    offsets, client, partition, group
):
    client.ends, group[IN, 0] = {IN: 9}, 4

    await offsets.look()

    assert partition.lag == 5


async def test_a_partition_of_which_the_group_says_nothing_is_at_its_beginning(
    offsets, client, partition
):
    client.begins, client.ends = {IN: 2}, {IN: 9}

    await offsets.look()

    assert partition.lag == 7


async def test_or_at_its_end_where_its_topic_is_begun_there(
    offsets, client, partition, graph, monkeypatch
):
    topic = graph.find("m.worker", "in")
    monkeypatch.setattr(type(topic), "begins_at_end", True)
    client.ends = {IN: 9}

    await offsets.look()

    assert partition.lag == 0


async def test_a_partition_that_was_given_up_meanwhile_is_left_alone(
    offsets, client, progress, partition, monkeypatch
):
    client.begins, client.ends = {IN: 2}, {IN: 9}
    ask = client.beginning_offsets

    async def lose(places):
        progress.revoke()
        progress.assign(IN, 0)
        return await ask(places)

    monkeypatch.setattr(client, "beginning_offsets", lose)
    await offsets.look()

    assert progress.topics[IN].partitions[0].lag is None


async def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(
    offsets, client, partition, monkeypatch
):
    monkeypatch.setattr(offsets_module, "ANSWER_SECONDS", 0.01)

    async def wait(places):
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(client, "end_offsets", wait)
    await offsets.look()

    assert partition.end is None


# --- as a service


async def test_it_asks_again_and_again_until_it_is_stopped(
    offsets, client, progress, until, monkeypatch
):
    monkeypatch.setattr(offsets_module, "LOOK_SECONDS", 0.001)
    client.begins, client.ends = {ERROR: 0}, {ERROR: 0}
    await offsets.start()
    await until(lambda: progress.dead_letters == {"m.worker": 0})

    client.ends = {ERROR: 4}
    await until(lambda: progress.dead_letters == {"m.worker": 8})

    await offsets.stop()
    assert not client.is_started
