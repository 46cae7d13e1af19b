import asyncio
from collections import defaultdict, deque
from typing import NamedTuple

import pytest
from aiokafka import errors as kafka_errors

from aiopype.errors import DeliveryError, StateCorrupt
from aiopype.ownership import SourceState
from aiopype.transport import source_states as source_states_module
from aiopype.transport.outputs import partition_of
from aiopype.transport.source_states import SourceStates, new_state_topic

NAME = "quotes.source-state"


class Record(NamedTuple):
    key: bytes
    value: bytes | None


class FakeKafka:
    """The topic of states, and who reads it.

    Attributes:
        log: the records of each partition, a transaction marker as None.
        open: how many of the last records of a partition belong to transactions that are open.
        errors: raised by the next questions for ends, one each.
        consumers: all of them.
        readings: how often partitions were read from their beginning.
        may_answer: cleared, it holds the questions for ends.
    """

    def __init__(self):
        self.log = defaultdict(list)
        self.open = defaultdict(int)
        self.errors = deque()
        self.consumers = []
        self.readings = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    def connect(self, **options):
        self.consumers.append(FakeConsumer(self, options))
        return self.consumers[-1]

    def write(self, source, value, partitions=16, number=None):
        """Write what an owner committed."""
        number = partition_of(source.encode(), partitions) if number is None else number
        self.log[number] += [Record(source.encode(), value), None]


class FakeConsumer:
    def __init__(self, kafka, options):
        self.kafka = kafka
        self.options = options
        self.places, self.positions = [], {}
        self.is_started = self.is_stopped = False

    async def start(self):
        self.is_started = True

    async def stop(self):
        self.is_stopped = True

    def assign(self, places):
        self.places = places

    async def seek_to_beginning(self, *places):
        self.kafka.readings.append(sorted(place.partition for place in places))
        self.positions = dict.fromkeys(places, 0)

    async def end_offsets(self, places):
        await self.kafka.may_answer.wait()
        if self.kafka.errors:
            raise self.kafka.errors.popleft()
        return {place: self._end(place) for place in places}

    async def position(self, place):
        return self.positions[place]

    async def getmany(self, timeout_ms):
        """A record of each partition, as far as this consumer may read it."""
        await asyncio.sleep(0)
        found = {}
        for place in self.places:
            position = self.positions[place]
            if position < self._end(place):
                self.positions[place] += 1
                record = self.kafka.log[place.partition][position]
                found[place] = [] if record is None else [record]
        return found

    def _end(self, place):
        assert place.topic == NAME
        end = len(self.kafka.log[place.partition])
        if self.options["isolation_level"] == "read_committed":
            end -= self.kafka.open[place.partition]
        return end


@pytest.fixture
async def kafka(monkeypatch):
    fake = FakeKafka()
    monkeypatch.setattr(source_states_module, "AIOKafkaConsumer", fake.connect)
    return fake


@pytest.fixture
async def states(kafka):
    topic = new_state_topic("quotes")
    made = SourceStates("a:1", topic, {"security_protocol": "SSL"})
    yield made
    await made.stop()
    assert all(consumer.is_stopped for consumer in kafka.consumers)


def state(run, **given):
    whole = {"epoch": 3, "number": 7, "worker": "a:1", "since_ms": 5, "at_ms": 6}
    return SourceState(run=run, **whole | given).encode()


def test_the_topic_of_states_is_compacted_and_has_partitions_and_a_name_of_its_own():
    topic = new_state_topic("quotes", 3)

    assert topic.name == NAME
    assert (topic.spec.partitions, topic.spec.replication) == (16, 3)
    assert topic.spec.configs["cleanup.policy"] == "compact"


async def test_of_a_source_that_never_ran_there_is_none(states, kafka):
    kafka.write("m.other", state("r"))

    assert await states.read("m.s") is None


async def test_the_last_state_counts(states, kafka):
    for n in range(3):
        kafka.write("m.s", state(f"r{n}"))
        kafka.write("m.other", state("other"))

    assert (await states.read("m.s")).run == "r2"


async def test_a_state_is_looked_for_where_its_key_leads(states, kafka):
    states.topic.partitions = 5
    kafka.write("m.s", state("r"), partitions=5)

    assert (await states.read("m.s")).run == "r"
    assert kafka.readings == [[partition_of(b"m.s", 5)]]


async def test_what_is_read_is_what_is_committed_and_it_connects_as_it_is_told(states, kafka):
    await states.read("m.s")

    levels = [consumer.options.pop("isolation_level") for consumer in kafka.consumers]
    assert sorted(levels) == ["read_committed", "read_uncommitted"]
    for consumer in kafka.consumers:
        assert consumer.options["bootstrap_servers"] == "a:1"
        assert consumer.options["security_protocol"] == "SSL"
        assert consumer.options["enable_auto_commit"] is False
        assert "group_id" not in consumer.options


async def test_behind_the_open_transaction_of_another_source_there_may_be_the_last_state(
    states, kafka, turns
):
    number = partition_of(b"m.s", 16)
    kafka.write("m.s", state("old"))
    kafka.log[number].append(Record(b"m.other", state("open")))
    kafka.write("m.s", state("new"))
    kafka.open[number] = 3

    reading = asyncio.create_task(states.read("m.s"))
    await turns(100)
    assert not reading.done()

    kafka.open[number] = 0
    assert (await reading).run == "new"


async def test_what_is_written_while_it_is_read_is_not_waited_for(states, kafka):
    kafka.write("m.s", state("r"))
    number = partition_of(b"m.s", 16)
    getmany = FakeConsumer.getmany

    async def written_to(consumer, timeout_ms):
        kafka.log[number] += [Record(b"m.busy", b"")] * 3
        return await getmany(consumer, timeout_ms)

    FakeConsumer.getmany = written_to
    try:
        assert (await asyncio.wait_for(states.read("m.s"), 5)).run == "r"
    finally:
        FakeConsumer.getmany = getmany


# --- several at once


async def test_those_that_are_wanted_at_the_same_time_are_read_together(states, kafka):
    names = [f"m.s{n}" for n in range(40)]
    for name in names:
        kafka.write(name, state(name))

    found = await asyncio.gather(*map(states.read, names))

    assert [each.run for each in found] == names
    assert len(kafka.readings) == 1


async def test_who_asks_during_a_reading_is_not_answered_by_it(states, kafka, turns):
    kafka.write("m.s", state("r"))
    kafka.errors.append(kafka_errors.RequestTimedOutError())
    kafka.may_answer.clear()
    first = asyncio.create_task(states.read("m.s"))
    await turns()
    second = asyncio.create_task(states.read("m.s"))
    await turns()
    kafka.may_answer.set()

    with pytest.raises(DeliveryError):
        await first
    assert (await second).run == "r"
    assert len(kafka.readings) == 1


async def test_two_who_ask_for_the_same_source_get_the_same(states, kafka):
    kafka.write("m.s", state("r"))

    one, other = await asyncio.gather(states.read("m.s"), states.read("m.s"))

    assert one.run == other.run == "r"


async def test_who_is_cancelled_keeps_nobody_from_an_answer(states, kafka, turns):
    kafka.write("m.s", state("r"))
    kafka.may_answer.clear()
    gone = asyncio.create_task(states.read("m.s"))
    waiting = asyncio.create_task(states.read("m.s"))
    await turns()

    gone.cancel()
    kafka.may_answer.set()

    assert (await waiting).run == "r"


# --- errors


@pytest.mark.parametrize("value", [b"garbage", None])
async def test_a_state_that_cannot_be_read_is_the_trouble_of_its_source_alone(states, kafka, value):
    kafka.write("m.bad", value)
    kafka.write("m.s", state("r"))

    bad, good = await asyncio.gather(
        states.read("m.bad"), states.read("m.s"), return_exceptions=True
    )

    assert isinstance(bad, StateCorrupt)
    assert "'m.bad'" in str(bad)
    assert good.run == "r"


@pytest.mark.parametrize(
    "error", [kafka_errors.KafkaConnectionError("no route"), OSError("no route")]
)
async def test_an_error_of_the_brokers_is_told_to_all_who_asked_and_the_next_one_asks_again(
    states, kafka, error
):
    kafka.write("m.s", state("r"))
    kafka.errors.append(error)

    found = await asyncio.gather(states.read("m.s"), states.read("m.other"), return_exceptions=True)

    assert [type(each) for each in found] == [DeliveryError, DeliveryError]
    assert "no route" in str(found[0])
    assert (await states.read("m.s")).run == "r"


async def test_brokers_that_do_not_answer_in_time_are_an_error(states, kafka, monkeypatch):
    monkeypatch.setattr(source_states_module, "READ_SECONDS", 0.01)
    kafka.may_answer.clear()

    with pytest.raises(DeliveryError, match="reading the states of sources: TimeoutError"):
        await states.read("m.s")


async def test_an_open_transaction_that_is_not_ended_in_time_is_an_error(
    states, kafka, monkeypatch
):
    # Never the state before it: what is behind might have been written by the last owner.
    monkeypatch.setattr(source_states_module, "READ_SECONDS", 0.01)
    kafka.write("m.s", state("old"))
    kafka.open[partition_of(b"m.s", 16)] = 1

    with pytest.raises(DeliveryError):
        await states.read("m.s")


def test_a_dead_workers_transaction_is_waited_for_until_the_broker_ends_it():
    assert source_states_module.READ_SECONDS > source_states_module.TRANSACTION_SECONDS


# --- the end


async def test_a_stop_ends_a_reading_and_whoever_waits_for_it(states, kafka, turns):
    kafka.may_answer.clear()
    first = asyncio.create_task(states.read("m.s"))
    await turns()
    second = asyncio.create_task(states.read("m.s"))
    await turns()

    await states.stop()
    await asyncio.wait([first, second], timeout=5)

    assert first.cancelled()
    assert second.cancelled()


async def test_a_stop_without_a_reading_is_nothing(states):
    await states.stop()
