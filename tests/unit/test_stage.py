import json

import pytest

from aiopype import Source
from aiopype.clock import SYSTEM_CLOCK
from aiopype.errors import OutputTooLarge
from aiopype.stage import Where, on_stage

SOURCE = "prices.feed"


class Numbers(Source):
    pass


@pytest.fixture
def source(recorder):
    return Numbers(SOURCE, recorder)


@pytest.fixture
def where(recorder):
    """Where a replay is, by what is stored: recording, number of the next input, own position."""

    def read():
        found = json.loads(recorder.positions[SOURCE])
        return found["recording"], found["next"], found["position"]

    return read


def values(recorder):
    return [value for _, _, _, value in recorder.sent]


async def test_what_an_input_leaves_goes_out_when_it_is_over_with_the_place(
    source, recorder, where
):
    with on_stage(source, "r1") as stage:
        source.emit("number", 1, key="k")
        await source.emit_async("number", 2)
        assert recorder.sent == []
        await stage.end()

    assert recorder.sent == [
        ("emit_all", "prices.feed.number", b"k", b"[1]"),
        ("emit_all", "prices.feed.number", None, b"[2]"),
    ]
    assert where() == ("r1", 1, None)


async def test_the_events_of_a_transaction_keep_their_place_among_the_others(source, recorder):
    with on_stage(source, "r1") as stage:
        await source.emit_async("number", 1)
        async with source.transaction():
            source.emit("number", 2)
            source.checkpoint("two")
        await source.emit_async("number", 3)
        await stage.end()

    assert values(recorder) == [b"[1]", b"[2]", b"[3]"]


async def test_the_own_position_of_a_source_is_kept_beside_the_place(source, where):
    with on_stage(source, "r1") as stage:
        assert source.position is None
        source.checkpoint({"page": 2})
        assert source.position == {"page": 2}
        await stage.end()
    assert where() == ("r1", 1, {"page": 2})

    with on_stage(source, "r1") as stage:
        assert stage.number == 1
        assert source.position == {"page": 2}


async def test_an_input_that_leaves_nothing_is_played_again_with_the_next_that_leaves_something(
    source, recorder, where
):
    with on_stage(source, "r1") as stage:
        await stage.end()
        await stage.end()
        assert recorder.positions == {}
        source.emit("number", 1)
        await stage.end()

    assert where() == ("r1", 3, None)


async def test_the_end_of_all_inputs_is_noted_though_the_last_left_nothing(source, where):
    with on_stage(source, "r1") as stage:
        await stage.end()
        stage.close()

    assert where() == ("r1", 1, None)


async def test_what_an_unusable_input_left_is_dropped(source, recorder, where):
    with on_stage(source, "r1") as stage:
        source.checkpoint("good")
        await stage.end()
        source.emit("number", 1)
        source.checkpoint("bad")
        stage.drop()
        source.emit("number", 2)
        await stage.end()

    assert values(recorder) == [b"[2]"]
    assert where() == ("r1", 2, "good")


async def test_a_flush_within_an_input_lets_out_what_there_is_and_the_input_is_under_way(
    source, recorder, where
):
    with on_stage(source, "r1") as stage:
        source.emit("number", 1)
        await source.flush()
        assert values(recorder) == [b"[1]"]
        assert where() == ("r1", 0, None)
        source.emit("number", 2)
        await stage.end()

    assert values(recorder) == [b"[1]", b"[2]"]
    assert where() == ("r1", 1, None)


async def test_events_have_stamps_of_the_replay_and_not_of_the_recording(source, monkeypatch):
    stamps = []

    async def emit_all(component, events, position):
        stamps.extend(timestamp for _, _, _, timestamp, _ in events)

    monkeypatch.setattr(source.handler, "emit_all", emit_all)
    with on_stage(source, "r1") as stage:
        stage.begin(1.0)
        source.emit("number", 1)
        async with source.transaction():
            source.emit("number", 2)
        await stage.end()

    assert len(stamps) == 2
    assert min(stamps) > 1_700_000_000_000


def test_an_event_that_its_topic_does_not_take_is_refused_where_it_is_emitted(source, recorder):
    recorder.topic(SOURCE, "number").largest = 10

    with on_stage(source, "r1"), pytest.raises(OutputTooLarge):
        source.emit("number", "x" * 10)


@pytest.mark.parametrize("stored", [b"7", b'"text"', b'{"page": 2}', b"garbage"])
async def test_the_position_of_a_source_that_ran_for_real_is_none_of_a_replay(
    source, recorder, stored
):
    recorder.positions[SOURCE] = stored

    with on_stage(source, "r1") as stage:
        assert stage.number == 0
        assert source.position is None


async def test_another_recording_begins_at_its_beginning(source, recorder):
    with on_stage(source, "r1") as stage:
        source.checkpoint("there")
        await stage.end()

    with on_stage(source, "r2") as stage:
        assert (stage.number, source.position) == (0, None)


async def test_the_clock_shows_the_time_of_the_input_and_does_not_wait(source):
    with on_stage(source, "r1") as stage:
        stage.begin(500.0)
        await source.clock.sleep(10**6)
        assert source.clock.time() == source.clock.monotonic() == 500.0
        stage.begin(400.0)
        assert source.clock.time() == 400.0
        assert source.clock.monotonic() == 500.0


async def test_a_source_has_its_own_back_when_it_leaves_the_stage(source, recorder):
    async def fail():
        with on_stage(source, "r1"):
            source.emit("number", 1)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()

    assert source.handler is recorder
    assert source.clock is SYSTEM_CLOCK
    assert recorder.sent == []


def test_what_is_asked_beside_goes_to_the_protocol(source, recorder):
    with on_stage(source, "r1"):
        assert source.epoch == recorder.epoch(SOURCE)
        assert not source.is_done
        assert source.listeners("number") == []


def test_where_nothing_is_stored_a_replay_is_at_its_beginning():
    assert Where.read(None, "r1") == Where(recording="r1", next=0)
