import asyncio
from collections import deque
from typing import NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors

from aiopype.errors import BrokerError
from aiopype.ownership import Wish
from aiopype.transport import wishes as wishes_module
from aiopype.transport.wishes import Wishes

PLACE = TopicPartition("quotes.sources", 0)


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None


class FakeAdmin:
    def __init__(self, **partitions):
        self.topics = partitions
        self.created = []

    async def partitions(self, names):
        return {name: self.topics[name] for name in names if name in self.topics}

    async def create(self, names, partitions, configs):
        self.created.append((names, partitions, configs))


class FakeConsumer:
    """Reads the topic, two records at a time; raises the errors it was given first.

    Attributes:
        log: the topic; errors: raised by the next reads, one each.
    """

    log: list
    errors: deque

    def __init__(self, **options):
        self.options = options
        self.next = None
        self.is_stopped = False

    async def start(self):
        pass

    async def stop(self):
        self.is_stopped = True

    def assign(self, places):
        assert places == [PLACE]

    async def seek_to_beginning(self, place):
        self.next = 0

    async def end_offsets(self, places):
        return {place: len(self.log) for place in places}

    async def position(self, place):
        return self.next

    async def getmany(self, place, timeout_ms):
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.popleft()
        found = self.log[self.next : self.next + 2]
        self.next += len(found)
        return {place: found} if found else {}


@pytest.fixture
def log(monkeypatch):
    """The records of the topic."""
    monkeypatch.setattr(FakeConsumer, "log", [], raising=False)
    monkeypatch.setattr(FakeConsumer, "errors", deque(), raising=False)
    monkeypatch.setattr(wishes_module, "AIOKafkaConsumer", FakeConsumer)
    monkeypatch.setattr(wishes_module, "AGAIN_SECONDS", 0.001)
    return FakeConsumer.log


@pytest.fixture
def errors(log):
    """What the next reads raise."""
    return FakeConsumer.errors


@pytest.fixture
def admin():
    return FakeAdmin()


@pytest.fixture
def changes():
    """What was wished at each change that was told of."""
    return []


@pytest.fixture
async def wishes(log, admin, changes):
    made = Wishes(
        brokers="a:1",
        group="quotes",
        admin=admin,
        on_change=lambda: changes.append(dict(made.of)),
        security={"security_protocol": "SSL"},
    )
    yield made
    await made.stop()


def wish(source, **wished):
    return Record(source.encode(), Wish(**wished).encode())


# --- the beginning


async def test_all_that_is_wished_is_known_after_the_start_and_the_last_word_counts(
    wishes, log, changes
):
    log += [wish("m.a", is_paused=True), wish("m.b", worker="host"), wish("m.a", restart=1)]

    await wishes.on_start()

    assert wishes.of == {"m.a": Wish(restart=1), "m.b": Wish(worker="host")}
    assert wishes.position == 3
    assert changes == []


async def test_where_nothing_is_wished_the_start_waits_for_nothing(wishes):
    await asyncio.wait_for(wishes.on_start(), 5)

    assert wishes.of == {}
    assert wishes.position == 0


async def test_the_topic_is_made_compacted_and_of_one_partition(wishes, admin):
    await wishes.on_start()

    assert admin.created == [(["quotes.sources"], 1, wishes_module.WISH_CONFIGS)]
    assert wishes_module.WISH_CONFIGS["cleanup.policy"] == "compact"


async def test_a_topic_that_is_there_is_left_as_it_is(wishes, admin):
    admin.topics["quotes.sources"] = 1

    await wishes.on_start()

    assert admin.created == []


async def test_it_reads_what_is_committed_in_no_group_and_connects_as_it_is_told(wishes):
    await wishes.on_start()

    options = wishes._consumer.options
    assert options["bootstrap_servers"] == "a:1"
    assert options["security_protocol"] == "SSL"
    assert options["isolation_level"] == "read_committed"
    assert "group_id" not in options


@pytest.mark.parametrize("error", [kafka_errors.KafkaConnectionError("no route"), OSError()])
async def test_wishes_that_cannot_be_read_keep_the_worker_from_starting(wishes, log, errors, error):
    log.append(wish("m.a"))
    errors.append(error)

    with pytest.raises(BrokerError, match="reading what is wished of sources"):
        await wishes.on_start()


async def test_brokers_that_do_not_answer_in_time_are_an_error(wishes, log, monkeypatch):
    monkeypatch.setattr(wishes_module, "READ_SECONDS", 0.01)
    monkeypatch.setattr(
        FakeConsumer, "start", lambda self: asyncio.get_running_loop().create_future()
    )

    with pytest.raises(BrokerError, match="TimeoutError"):
        await wishes.on_start()


# --- what is wished


async def test_a_wish_that_cannot_be_read_is_none_and_stops_nothing(wishes, log):
    log += [Record(b"m.a", b"garbage"), Record(b"m.b", None), Record(None, b"{}")]
    log += [Record(b"\xff", b"{}"), wish("m.c", is_paused=True)]

    await wishes.on_start()

    assert [wishes.of[name] for name in ("m.a", "m.b")] == [Wish(), Wish()]
    assert wishes.of["m.c"].is_paused


async def test_pins_are_the_wishes_for_a_worker(wishes, log):
    log += [wish("m.a", worker="host"), wish("m.b", is_paused=True), wish("m.c", worker="b:1")]
    log += [wish("m.c")]

    await wishes.on_start()

    assert wishes.pins == {"m.a": "host"}


async def test_what_is_wished_later_is_told_of(wishes, log, changes, until):
    await wishes.start()
    log.append(wish("m.a", is_paused=True))

    await until(lambda: changes)

    assert changes == [{"m.a": Wish(is_paused=True)}]
    assert wishes.position == 1


async def test_what_knows_of_the_wishes_sees_them_change(wishes, log, changes, until):
    known = wishes.of
    await wishes.start()
    log.append(wish("m.a", is_paused=True))

    await until(lambda: changes)

    assert known["m.a"].is_paused


async def test_when_nothing_is_wished_nothing_is_told(wishes, changes, turns):
    await wishes.start()

    await turns()

    assert changes == []


async def test_an_error_of_the_brokers_is_logged_and_the_following_goes_on(
    wishes, log, errors, changes, until, caplog
):
    await wishes.start()
    errors += [kafka_errors.RequestTimedOutError(), OSError("no route")]
    log.append(wish("m.a", restart=1))

    await until(lambda: changes)

    assert caplog.text.count("following what is wished of sources") == 2
    assert wishes.of == {"m.a": Wish(restart=1)}


# --- the end


async def test_a_stop_disconnects(wishes):
    await wishes.start()

    await wishes.stop()

    assert wishes._consumer.is_stopped


async def test_a_stop_without_a_start_is_nothing(wishes):
    await wishes.on_stop()


@pytest.mark.parametrize("error", [kafka_errors.KafkaConnectionError(), OSError()])
async def test_a_reader_that_cannot_be_closed_stops_nobody(wishes, monkeypatch, error):
    async def stop(self):
        raise error

    await wishes.on_start()
    monkeypatch.setattr(FakeConsumer, "stop", stop)

    await wishes.on_stop()


async def test_a_stop_does_not_wait_for_ever(wishes, monkeypatch):
    monkeypatch.setattr(wishes_module, "CLOSE_SECONDS", 0.01)
    await wishes.on_start()
    monkeypatch.setattr(
        FakeConsumer, "stop", lambda self: asyncio.get_running_loop().create_future()
    )

    await asyncio.wait_for(wishes.on_stop(), 5)
