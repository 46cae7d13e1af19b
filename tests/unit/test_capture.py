import asyncio

import pytest

from aiopype import Processor, Source
from aiopype.capture import Capture, CaptureProtocol
from aiopype.errors import RecordingError
from aiopype.inputs import RawInput
from aiopype.recording import EMITTED, Recording, RecordingWriter


class Feed(Source):
    """Makes events of frames, and emits some by itself."""

    async def take(self, raw):
        await self.emit_async("tick", raw.data.decode())
        async with self.transaction():
            self.emit("tick", "in a transaction")
            self.checkpoint(raw.data.decode())


class Step(Processor):
    def handle(self, *args):
        raise AssertionError("no handler runs")


@pytest.fixture
def protocol():
    return CaptureProtocol()


@pytest.fixture
def feed(protocol):
    feed = Feed("prices.feed", protocol)
    step = Step("prices.step", protocol)
    feed.on("tick", step.handle)
    return feed


@pytest.fixture
def path(tmp_path):
    return tmp_path / "recording.jsonl"


@pytest.fixture
def capture(protocol, feed, path):
    """Begins to record the feed."""
    writers = []

    def begin(**options):
        writers.append(RecordingWriter(path, "prices", 0.0))
        found = Capture(writers[-1], protocol, **options)
        found.attach(feed)
        return found

    yield begin
    for writer in writers:
        writer.close()


@pytest.fixture
def inputs(path):
    """Reads what is in the recording."""

    def read():
        with Recording(path) as recording:
            return list(recording.inputs())

    return read


def frame(text):
    return RawInput("frame", text.encode(), 1.0)


async def test_what_a_source_receives_is_recorded_and_what_it_makes_of_it_is_not(
    capture, feed, inputs
):
    capture()

    await feed.receive(frame("a"))
    await feed.receive(frame("b"))

    assert inputs() == [("prices.feed", frame("a")), ("prices.feed", frame("b"))]


async def test_what_a_source_emits_by_itself_is_recorded_as_the_event(capture, feed, inputs):
    capture()

    await feed.emit_async("connected", True, key="wss")
    feed.emit("disconnected", code=1006)
    await feed.receive(frame("a"))

    (_, connected), (_, disconnected), (_, received) = inputs()
    assert (connected.kind, connected.data) == (EMITTED, b"[true]")
    assert connected.meta == {"event": "connected", "key": "wss"}
    assert disconnected.data == b'{"$args":[],"$kwargs":{"code":1006}}'
    assert disconnected.meta == {"event": "disconnected"}
    assert received == frame("a")


async def test_the_events_of_a_transaction_are_recorded_each(capture, feed, inputs):
    capture()

    async with feed.transaction():
        feed.emit("tick", 1, key=7)
        await feed.emit_async("tick", 2)

    assert [(raw.data, raw.meta) for _, raw in inputs()] == [
        (b"[1]", {"event": "tick", "key": "7"}),
        (b"[2]", {"event": "tick"}),
    ]


async def test_of_a_transaction_around_inputs_only_what_is_not_made_of_them_is_recorded(
    capture, feed, inputs
):
    capture()

    async with feed.transaction():
        feed.emit("tick", 1)
        await feed.receive(frame("a"))
        await feed.receive(frame("b"))
        feed.emit("tick", 2)

    assert [raw.data for _, raw in inputs()] == [b"[1]", b"a", b"b", b"[2]"]


async def test_a_key_that_is_no_text_is_recorded_too(capture, feed, inputs):
    capture()

    await feed.emit_async("tick", 1, key=b"\xff\x00")

    ((_, raw),) = inputs()
    assert raw.meta == {"event": "tick", "key_base64": "/wA="}


async def test_an_event_of_another_task_is_recorded_while_an_input_is_taken(
    protocol, path, inputs, turns
):
    emitted = asyncio.Event()

    class Slow(Feed):
        async def take(self, raw):
            await emitted.wait()
            await super().take(raw)

    feed = Slow("prices.slow", protocol)
    with RecordingWriter(path, "prices", 0.0) as writer:
        Capture(writer, protocol).attach(feed)
        taking = asyncio.create_task(feed.receive(frame("a")))
        await turns()
        await feed.emit_async("connected")
        emitted.set()
        await taking

    assert [raw.kind for _, raw in inputs()] == ["frame", EMITTED]


async def test_a_source_goes_on_where_it_was(capture, feed):
    capture()
    assert feed.position is None

    await feed.receive(frame("a"))
    assert feed.position == "a"
    feed.checkpoint("b")
    assert feed.position == "b"

    await feed.flush()
    assert feed.epoch == 1


async def test_there_are_no_more_inputs_than_wanted(capture, feed, inputs):
    told = []
    found = capture(most=2)
    found.on_full = lambda: told.append(len(inputs()))

    for text in "abcd":
        await feed.receive(frame(text))

    assert [raw for _, raw in inputs()] == [frame("a"), frame("b")]
    assert found.is_full
    assert told == [2]


async def test_inputs_are_counted_by_source_also_where_there_are_none(capture, feed, protocol):
    found = capture()
    other = Feed("prices.other", protocol)
    found.attach(other)

    await feed.receive(frame("a"))

    assert found.counts == {"prices.feed": 1, "prices.other": 0}


async def test_an_input_that_cannot_be_written_is_the_last(capture, feed, monkeypatch):
    told = []
    found = capture()
    found.on_full = lambda: told.append(True)

    def fail(*args):
        raise RecordingError("disk full")

    monkeypatch.setattr(found._writer, "write", fail)

    with pytest.raises(RecordingError, match="disk full"):
        await feed.receive(frame("a"))

    assert str(found.error) == "disk full"
    assert told == [True]
    monkeypatch.undo()
    await feed.receive(frame("b"))
    assert found.counts["prices.feed"] == 0
