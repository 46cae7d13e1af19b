import pytest

from aiopype import AsyncProtocol, Source
from aiopype.errors import EmitError, GraphError, OutboxFull


class FakeOutbox:
    """Takes what is put while it has room."""

    position = b"7"
    epoch = 3

    def __init__(self, room=10):
        self.room = room
        self.got = []

    def put_nowait(self, topic, key, value):
        if len(self.got) >= self.room:
            raise OutboxFull("no room")
        self.got.append((topic.name, key, value))

    async def put(self, topic, key, value):
        self.got.append(("waited", topic.name, key, value))

    async def put_all(self, events, position):
        self.got.append(([(topic.name, key, value) for topic, key, value, *_ in events], position))

    def checkpoint(self, position):
        self.got.append(("at", position))

    async def flush(self):
        self.got.append("flushed")


@pytest.fixture
def protocol():
    return AsyncProtocol()


@pytest.fixture
def source(protocol):
    return Source("m.source", protocol)


def test_a_running_source_emits_into_its_outbox(protocol, source):
    outbox = FakeOutbox()
    protocol.open_outbox("m.source", outbox)

    source.emit("number", 1, key="k")

    assert outbox.got == [("m.source.number", "k", b"[1]")]


async def test_a_running_source_waits_for_room(protocol, source):
    outbox = FakeOutbox()
    protocol.open_outbox("m.source", outbox)

    await source.emit_async("number", 1)

    assert outbox.got == [("waited", "m.source.number", None, b"[1]")]


def test_emit_does_not_wait_for_room(protocol, source):
    protocol.open_outbox("m.source", FakeOutbox(room=0))

    with pytest.raises(OutboxFull):
        source.emit("number", 1)


def test_each_source_has_its_own_outbox(protocol, source):
    other = Source("m.source.inner", protocol)
    outboxes = {}
    for component in (source, other):
        outboxes[component] = FakeOutbox()
        protocol.open_outbox(component.name, outboxes[component])

    source.emit("a.b", 1)
    other.emit("c", 2)

    assert outboxes[source].got == [("m.source.a.b", None, b"[1]")]
    assert outboxes[other].got == [("m.source.inner.c", None, b"[2]")]


async def test_a_source_that_does_not_run_here_cannot_emit(source):
    with pytest.raises(EmitError, match=r"'m.source' is no source that runs on this worker"):
        source.emit("number", 1)
    with pytest.raises(EmitError, match=r"'m.source' is no source that runs on this worker"):
        await source.emit_async("number", 1)


def test_a_source_that_no_longer_runs_here_cannot_emit(protocol, source):
    outbox = FakeOutbox()
    protocol.open_outbox("m.source", outbox)
    protocol.close_outbox("m.source")

    with pytest.raises(EmitError, match=r"'m.source' is no source that runs on this worker now"):
        source.emit("number", 1)
    assert outbox.got == []


async def test_where_a_running_source_is_its_outbox_knows(protocol, source):
    outbox = FakeOutbox()
    protocol.open_outbox("m.source", outbox)

    assert (source.position, source.epoch) == (7, 3)
    source.checkpoint({"page": 2})
    await source.flush()
    assert outbox.got == [("at", b'{"page":2}'), "flushed"]


async def test_a_transaction_of_a_running_source_goes_into_its_outbox_as_one(protocol, source):
    outbox = FakeOutbox()
    protocol.open_outbox("m.source", outbox)

    async with source.transaction():
        source.emit("number", 1)
        source.checkpoint(5)
        source.emit("number", 2, key="k")

    assert outbox.got == [
        ([("m.source.number", None, b"[1]"), ("m.source.number", b"k", b"[2]")], b"5")
    ]


@pytest.mark.parametrize(
    "ask",
    [
        lambda source: source.position,
        lambda source: source.epoch,
        lambda source: source.checkpoint(1),
    ],
)
def test_where_a_source_is_that_does_not_run_here_nobody_knows(source, ask):
    with pytest.raises(EmitError, match=r"'m.source' is no source that runs on this worker"):
        ask(source)


async def test_a_source_that_does_not_run_here_has_nothing_to_flush_and_no_transactions(source):
    with pytest.raises(EmitError, match=r"'m.source' is no source that runs on this worker"):
        await source.flush()
    with pytest.raises(EmitError, match=r"'m.source' is no source that runs on this worker"):
        async with source.transaction():
            pass


def test_an_outbox_that_was_never_opened_can_be_closed(protocol):
    protocol.close_outbox("m.source")


def test_once_is_refused_with_the_reason(protocol, source, collector):
    sink = collector("m.sink", protocol)

    with pytest.raises(GraphError, match="handled on several workers and again after a crash"):
        source.once("number", sink.take)
    assert source.listeners("number") == []


def test_on_subscribes(protocol, source, collector):
    sink = collector("m.sink", protocol)

    source.on("number", sink.take)

    assert source.listeners("number") == [sink.take]
