import pytest
from aiokafka import errors as kafka_errors
from aiokafka.producer.message_accumulator import BatchBuilder

from aiopype.errors import BrokerError, DeliveryError, StateCorrupt
from aiopype.ownership import SourceState, Wish
from aiopype.transport import operating
from aiopype.transport.operating import Operator
from aiopype.transport.outputs import pack, partition_of
from aiopype.transport.stored import Outgoing


class Brokers:
    """What an operator's clients reach.

    Attributes:
        steps: what they were asked, in order.
        last: the state that is stored of the source; or what reading it raises.
        errors: what writing states raises, one each; then it writes.
        refusal: what a creation of topics raises.
        created: the topics that were asked for, by name.
        written: records of wishes; and record batches of states, with topic and partition.
        unstopped: how many clients are open.
    """

    def __init__(self):
        self.steps, self.errors = [], []
        self.last = self.refusal = None
        self.created, self.written = {}, []
        self.unstopped = 0


class Admin:
    def __init__(self, brokers, topics, *, security):
        assert (brokers, security) == ("a:1", {"s": 1})
        self.topics = topics

    async def __aenter__(self):
        if it.refusal is not None:
            raise it.refusal
        for topic in self.topics:
            topic.partitions = topic.spec.partitions
            it.created[topic.name] = topic
        return self

    async def __aexit__(self, *_):
        pass


class Writer:
    def __init__(self, brokers, *, security):
        assert (brokers, security) == ("a:1", {"s": 1})

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def write(self, records):
        it.written += records


class Producer:
    def __init__(self, brokers, name, security):
        assert (brokers, security) == ("a:1", {"s": 1})
        self.name = name

    async def start(self):
        it.unstopped += 1
        it.steps.append(f"fence {self.name}")

    async def stop(self):
        it.unstopped -= 1

    def create_batch(self):
        return BatchBuilder(2, 0, is_transactional=True)

    async def commit(self, packed, group, offsets):
        assert (group, offsets) == ("flow", {})
        it.steps.append("write")
        if it.errors:
            raise it.errors.pop(0)
        it.written += packed


class States:
    def __init__(self, brokers, topic, security):
        assert (brokers, security) == ("a:1", {"s": 1})
        assert topic.partitions

    async def read(self, source):
        it.steps.append(f"read {source}")
        if isinstance(it.last, Exception):
            raise it.last
        return it.last

    async def stop(self):
        pass


it = Brokers()


@pytest.fixture(autouse=True)
def brokers(monkeypatch):
    it.__init__()
    monkeypatch.setattr(operating, "Admin", Admin)
    monkeypatch.setattr(operating, "Writer", Writer)
    monkeypatch.setattr(operating, "TransactionalProducer", Producer)
    monkeypatch.setattr(operating, "SourceStates", States)
    monkeypatch.setattr(operating, "pack", lambda events, batch, at, of: list(events))
    return it


@pytest.fixture
def operator():
    return Operator("a:1", "flow", security={"s": 1})


def state(**given):
    facts = {"epoch": 4, "run": "r", "number": 9, "worker": "w", "since_ms": 1, "at_ms": 1}
    return SourceState(**{**facts, **given})


async def test_wishes_are_records_of_a_topic_with_one_partition(operator):
    wish = Wish(is_paused=True, at_ms=7)

    await operator.wish({"m.s": wish})

    assert it.written == [Outgoing("flow.sources", 0, 7, b"m.s", wish.encode())]
    topic = it.created["flow.sources"]
    assert topic.spec.partitions == 1
    assert topic.spec.configs["cleanup.policy"] == "compact"


async def test_a_state_is_written_after_its_owner_is_fenced_with_the_next_epoch(operator):
    it.last = state()

    put = await operator.put("m.s", b'{"page":2}', 2)

    assert it.steps == ["fence flow.src.m.s", "read m.s", "write"]
    ((topic, key, value, *_),) = it.written
    assert (topic.name, key) == ("flow.source-state", b"m.s")
    written = SourceState.decode("m.s", value)
    assert written.encode() == put.encode()
    assert (written.epoch, written.raw_position, written.number) == (5, b'{"page":2}', 0)
    assert (written.worker, written.is_reset) == ("operator", True)
    assert it.unstopped == 0


@pytest.mark.parametrize("last", [None, StateCorrupt("garbage"), state(epoch=3)])
async def test_an_epoch_that_is_known_otherwise_counts(operator, last):
    it.last = last

    assert (await operator.put("m.s", None, 7)).epoch == 8


async def test_the_beginning_is_no_position(operator):
    assert (await operator.put("m.s", None, 0)).raw_position is None


async def test_two_resets_are_different_runs(operator):
    assert (await operator.put("m.s", b"1", 0)).run != (await operator.put("m.s", b"1", 0)).run


async def test_an_owner_that_fences_back_is_fenced_again(operator):
    it.errors = [kafka_errors.ProducerFenced()] * 2

    await operator.put("m.s", b"1", 0)

    assert it.steps == ["fence flow.src.m.s", "read m.s", "write"] * 3
    assert len(it.written) == 1
    assert it.unstopped == 0


async def test_an_owner_that_always_fences_back_is_told(operator):
    it.errors = [kafka_errors.ProducerFenced()] * 100

    with pytest.raises(BrokerError, match=r"writing where m\.s is"):
        await operator.put("m.s", b"1", 0)

    assert it.steps.count("write") == operating.ATTEMPTS
    assert it.unstopped == 0


@pytest.mark.parametrize("error", [kafka_errors.KafkaError("no"), TimeoutError(), OSError("no")])
async def test_another_error_is_told_at_once(operator, error):
    it.errors = [error]

    with pytest.raises(BrokerError, match=r"writing where m.s is: .*; look into the brokers'"):
        await operator.put("m.s", b"1", 0)

    assert it.steps.count("write") == 1
    assert it.unstopped == 0


async def test_a_state_that_does_not_come_is_told(operator):
    it.last = DeliveryError("reading the states of sources: TimeoutError()")

    with pytest.raises(BrokerError, match=r"writing where m\.s is: reading the states"):
        await operator.put("m.s", b"1", 0)

    assert it.written == []


@pytest.mark.parametrize("error", [TimeoutError(), kafka_errors.KafkaError("no"), OSError("no")])
async def test_topics_that_cannot_be_made_are_told(operator, error):
    it.refusal = error

    with pytest.raises(BrokerError, match=r"creating topic flow\.sources"):
        await operator.wish({"m.s": Wish()})
    with pytest.raises(BrokerError, match=r"creating topic flow\.source-state"):
        await operator.put("m.s", b"1", 0)


async def test_the_record_goes_to_the_partition_that_its_owner_reads(operator, monkeypatch):
    monkeypatch.setattr(operating, "pack", pack)

    await operator.put("m.s", b"1", 0)

    ((topic, partition, batch),) = it.written
    assert topic == "flow.source-state"
    assert partition == partition_of(b"m.s", it.created[topic].partitions)
    assert batch.record_count() == 1
