import asyncio
import json
import logging

import pytest

from aiopype import Source, SyncProtocol
from aiopype.errors import DeliveryError, RecordingError
from aiopype.inputs import RawInput
from aiopype.pipelines import Pipelines
from aiopype.playback import Playback, Replay, playing
from aiopype.recording import EMITTED, Recording, RecordingWriter
from aiopype.testing import FakeClock


class Feed(Source):
    """Emits what it takes, with the time; cannot take `bad`."""

    async def start(self):
        raise AssertionError("no source starts in a replay")

    async def take(self, raw):
        self.emit("before", raw.data.decode())
        if raw.data == b"bad":
            raise ValueError("bad")
        await self.emit_async("taken", raw.data.decode(), self.clock.time())


@pytest.fixture
def record(tmp_path):
    """Writes a recording: of each input the last part of its source's name, time and data."""
    opened = []

    def make(*inputs):
        path = tmp_path / f"{len(opened)}.jsonl"
        with RecordingWriter(path, "prices", 0.0) as writer:
            for source, at, data in inputs:
                raw = data if isinstance(data, RawInput) else RawInput("frame", data.encode(), at)
                writer.write(f"prices.{source}", raw)
        opened.append(Recording(path))
        return opened[-1]

    yield make
    for recording in opened:
        recording.close()


@pytest.fixture
def feeds(recorder):
    """Builds sources that are called so."""
    return lambda *names: [Feed(f"prices.{name}", recorder) for name in names]


@pytest.fixture
def clock():
    return FakeClock()


def playback_of(recording, feeds, **options):
    return Playback(recording, [feed.name for feed in feeds], **options)


async def play(recording, feeds, **options):
    playback = playback_of(recording, feeds, **options)
    async with asyncio.timeout(5):
        await asyncio.gather(*(playback.run(feed) for feed in feeds))


def taken(recorder):
    """What was taken, in the order in which it left."""
    return [json.loads(v)[0] for _, topic, _, v in recorder.sent if topic.endswith(".taken")]


# --- inputs


async def test_each_input_goes_to_its_source_with_its_time(record, feeds, recorder):
    recording = record(("a", 5.0, "one"), ("b", 6.5, "two"), ("a", 7.0, "three"))

    await play(recording, feeds("a", "b"), speed=0, in_order=True)

    sent = [(topic, json.loads(v)) for _, topic, _, v in recorder.sent if "taken" in topic]
    assert sent == [
        ("prices.a.taken", ["one", 5.0]),
        ("prices.b.taken", ["two", 6.5]),
        ("prices.a.taken", ["three", 7.0]),
    ]


async def test_inputs_of_all_sources_are_played_in_the_order_of_the_file(record, feeds, recorder):
    names = "abcab" * 40 + "c" * 20
    inputs = [(name, float(n), str(n)) for n, name in enumerate(names)]

    await play(record(*inputs), feeds("c", "a", "b"), speed=0, in_order=True)

    assert taken(recorder) == [str(n) for n in range(len(names))]


async def test_of_one_source_alone_the_inputs_are_played_in_order(record, feeds, recorder):
    recording = record(*[("ab"[n % 2], float(n), str(n)) for n in range(20)])
    sources = feeds("a", "b")

    await playback_of(recording, sources, speed=0).run(sources[1])

    assert taken(recorder) == [str(n) for n in range(1, 20, 2)]


async def test_an_event_that_a_source_had_emitted_is_emitted_again(record, feeds, recorder):
    event = RawInput(EMITTED, b'{"$args":[],"$kwargs":{"code":1}}', 1.0, {"event": "lost"})
    keyed = RawInput(EMITTED, b"[1]", 1.0, {"event": "lost", "key": "wss"})
    bytes_ = RawInput(EMITTED, b"[2]", 1.0, {"event": "lost", "key_base64": "/wA="})

    await play(record(("a", 0, event), ("a", 0, keyed), ("a", 0, bytes_)), feeds("a"), speed=0)

    assert [(topic, key, value) for _, topic, key, value in recorder.sent] == [
        ("prices.a.lost", None, event.data),
        ("prices.a.lost", b"wss", b"[1]"),
        ("prices.a.lost", b"\xff\x00", b"[2]"),
    ]


async def test_an_input_that_cannot_be_taken_is_a_dead_letter_and_leaves_nothing_else(
    record, feeds, recorder
):
    recording = record(("a", 1.0, "one"), ("a", 2.0, "bad"), ("a", 3.0, "three"))

    await play(recording, feeds("a"), speed=0)

    assert [topic for _, topic, _, _ in recorder.sent] == [
        "prices.a.before", "prices.a.taken",
        "prices.a.error",
        "prices.a.before", "prices.a.taken",
    ]  # fmt: skip
    letter = json.loads(recorder.sent[2][3])
    assert (letter["error"], letter["message"]) == ("ValueError", "bad")


async def test_a_hand_made_event_without_a_name_is_a_dead_letter(record, feeds, recorder):
    await play(record(("a", 0, RawInput(EMITTED, b"[]", 1.0))), feeds("a"), speed=0)

    assert [topic for _, topic, _, _ in recorder.sent] == ["prices.a.error"]


async def test_what_cannot_be_delivered_fails_the_source_and_is_played_again(
    record, feeds, recorder, monkeypatch
):
    recording = record(("a", 1.0, "one"), ("a", 2.0, "two"))
    (feed,) = sources = feeds("a")
    playback = playback_of(recording, sources, speed=0, in_order=True)
    emit_all = recorder.emit_all

    async def fail(component, events, position):
        if b'"two"' in events[0][2]:
            raise DeliveryError("no answer")
        await emit_all(component, events, position)

    monkeypatch.setattr(recorder, "emit_all", fail)
    with pytest.raises(DeliveryError):
        await playback.run(feed)
    assert taken(recorder) == ["one"]

    monkeypatch.undo()
    await playback.run(feed)
    assert taken(recorder) == ["one", "two"]


async def test_a_source_without_inputs_ends_at_once_and_says_so(record, feeds, recorder, caplog):
    caplog.set_level(logging.INFO)
    sources = feeds("a", "quiet")

    await play(record(("a", 1.0, "one")), sources, speed=0, in_order=True)

    assert taken(recorder) == ["one"]
    assert "has no inputs of source prices.quiet, which ends" in caplog.text


def test_a_source_that_the_flow_has_not_is_refused_with_the_nearest_name(record, feeds):
    with pytest.raises(RecordingError, match=r"'prices.fede', which .* mean prices.feed\?"):
        playback_of(record(("fede", 1.0, "one")), feeds("feed", "other"))


# --- going on


async def test_a_replay_that_was_cut_off_goes_on_behind_what_it_has_left(
    record, feeds, recorder, clock
):
    recording = record(*[("a", float(n), str(n)) for n in range(6)])
    (feed,) = sources = feeds("a")
    first = asyncio.create_task(playback_of(recording, sources, clock=clock).run(feed))
    await clock.advance(2)
    first.cancel()
    await asyncio.wait([first])
    assert taken(recorder) == list("012")

    await play(recording, sources, speed=0)

    assert taken(recorder) == list("012345")


async def test_sources_of_which_one_goes_on_keep_the_order_of_what_is_left(record, feeds, recorder):
    recording = record(*[("ab"[n % 2], float(n), str(n)) for n in range(8)])
    sources = feeds("a", "b")
    await playback_of(recording, sources, speed=0).run(sources[0])
    recorder.sent.clear()

    await play(recording, sources, speed=0, in_order=True)

    assert taken(recorder) == list("1357")


async def test_what_is_through_is_not_played_again_unless_under_another_id(
    record, feeds, recorder, caplog
):
    caplog.set_level(logging.INFO)
    recording = record(("a", 1.0, "one"))
    sources = feeds("a")
    await play(recording, sources, speed=0)

    await play(recording, sources, speed=0, in_order=True)
    assert taken(recorder) == ["one"]
    assert "played already; --as NAME plays them anew" in caplog.text

    await play(recording, sources, speed=0, id="another")
    assert taken(recorder) == ["one", "one"]


async def test_a_replay_is_through_when_the_positions_of_all_sources_with_inputs_say_so(
    record, feeds, recorder
):
    recording = record(("a", 1.0, "one"), ("b", 2.0, "two"))
    sources = feeds("a", "b", "quiet")
    playback = playback_of(recording, sources, speed=0)
    assert not playback.is_through({})

    await playback.run(sources[0])
    assert not playback.is_through(recorder.positions)

    await playback.run(sources[1])
    assert playback.is_through(recorder.positions)
    assert not playback_of(record(("a", 1.0, "x")), sources).is_through(recorder.positions)


def test_an_empty_recording_is_through(record, feeds):
    assert playback_of(record(), feeds("a")).is_through({})


# --- speed


@pytest.mark.parametrize("speed", [1.0, 10.0, 0.5])
async def test_an_input_is_played_when_its_time_has_come_at_that_speed(
    record, feeds, recorder, clock, speed
):
    recording = record(("a", 100.0, "0"), ("b", 102.0, "2"), ("a", 110.0, "10"))
    sources = feeds("a", "b")
    playback = playback_of(recording, sources, speed=speed, clock=clock)
    runs = [asyncio.create_task(playback.run(source)) for source in sources]

    await clock.advance(0)
    assert taken(recorder) == ["0"]
    await clock.advance(2.0 / speed - 0.01)
    assert taken(recorder) == ["0"]
    await clock.advance(0.02)
    assert taken(recorder) == ["0", "2"]
    await clock.advance(8.0 / speed)
    assert taken(recorder) == ["0", "2", "10"]
    await asyncio.gather(*runs)


async def test_as_fast_as_it_goes_nothing_is_waited_for(record, feeds, recorder, clock):
    recording = record(("a", 0.0, "0"), ("a", 10.0**9, "1"))

    await play(recording, feeds("a"), speed=0, clock=clock)

    assert taken(recorder) == ["0", "1"]
    assert clock.monotonic() == 0


async def test_times_that_went_back_are_played_at_once(record, feeds, recorder, clock):
    recording = record(("a", 100.0, "0"), ("a", 40.0, "1"))
    (feed,) = sources = feeds("a")
    run = asyncio.create_task(playback_of(recording, sources, clock=clock).run(feed))

    await clock.advance(0)

    assert taken(recorder) == ["0", "1"]
    await run


async def test_a_replay_that_goes_on_does_not_wait_for_what_is_behind_it(
    record, feeds, recorder, clock
):
    recording = record(("a", 0.0, "0"), ("a", 1000.0, "1"), ("a", 1001.0, "2"))
    (feed,) = sources = feeds("a")
    first = asyncio.create_task(playback_of(recording, sources, clock=clock).run(feed))
    await clock.advance(0)
    first.cancel()
    await asyncio.wait([first])

    second = asyncio.create_task(playback_of(recording, sources, clock=clock).run(feed))
    await clock.advance(0)
    assert taken(recorder) == ["0", "1"]
    await clock.advance(1)
    assert taken(recorder) == ["0", "1", "2"]
    await second


async def test_others_run_while_a_recording_is_played_as_fast_as_it_goes(record, feeds, turns):
    recording = record(*[("a", 0.0, str(n)) for n in range(200)])
    (feed,) = sources = feeds("a")
    run = asyncio.create_task(playback_of(recording, sources, speed=0).run(feed))

    await turns(5)

    assert not run.done()
    await run


# --- a flow's


@pytest.fixture
def pipelines(declare):
    """A manager `prices` with a feed and what keeps its events."""

    def wire(manager):
        Feed(manager.build_processor_name("a"), manager.handler)

    return Pipelines([declare(wire, name="prices")], SyncProtocol(), end_with_sources=True)


async def test_a_recording_is_played_in_place_of_the_sources(pipelines, record):
    replay = Replay(file=record(("a", 1.0, "one"), ("a", 2.0, "two")).path, speed=0)

    with playing(replay, pipelines, in_order=True):
        pipelines.start_sources()
        await asyncio.wait_for(pipelines.supervisor.none_left(), 5)

    assert pipelines.protocol.progress.topics["prices.a.taken"].emitted == 2
    assert pipelines.supervisor.failures == {}


def test_without_a_replay_the_sources_are_left_alone(pipelines):
    with playing(None, pipelines) as playback:
        assert playback is None

    assert pipelines.run_source == pipelines.run_start


@pytest.mark.parametrize(("name", "namespace"), [(None, "replay"), ("friday", "replay.friday")])
def test_a_replay_on_kafka_has_a_namespace(tmp_path, name, namespace):
    assert Replay(file=tmp_path / "a", name=name).namespace == namespace
