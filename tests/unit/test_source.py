import asyncio
import time
from contextlib import suppress

import msgspec
import pytest

from aiopype import DeadLetter, Source
from aiopype import source as source_module
from aiopype.errors import CodecError, EmitError, OutboxFull, OutputTooLarge
from aiopype.inputs import RawInput
from aiopype.testing.clock import FakeClock

LETTERS = "m.source.error"


@pytest.fixture
def clock():
    return FakeClock(1_000.0)


@pytest.fixture
def source(recorder, clock):
    made = Source("m.source", recorder)
    made.clock = clock
    return made


@pytest.fixture
def raw():
    return RawInput("frame", b"bytes", 7.0, {"event": "number"})


async def test_a_source_without_start_says_what_to_do(source):
    with pytest.raises(NotImplementedError, match=r"'m.source' has no start.*override `async def"):
        await source.start()


def test_a_source_is_run_on_one_worker_unless_it_says_otherwise():
    assert Source.is_owned


# --- where it is


def test_before_the_first_checkpoint_a_source_has_no_position(source):
    assert source.position is None


def test_the_position_is_the_last_that_was_given_in_the_types_of_json(source):
    source.checkpoint({"page": 1})
    source.checkpoint({"page": (2, 3)})

    assert source.position == {"page": [2, 3]}


def test_who_changes_the_position_that_it_was_given_changes_nothing(source):
    source.checkpoint([1])

    source.position.append(2)

    assert source.position == [1]


def test_a_position_without_a_json_form_is_refused_and_the_last_one_stays(source):
    source.checkpoint(1)

    with pytest.raises(CodecError, match="has no JSON form"):
        source.checkpoint(object())
    assert source.position == 1


def test_a_position_goes_to_the_protocol_as_json(source, recorder):
    source.checkpoint({"page": 2})

    assert recorder.positions == {"m.source": b'{"page":2}'}


def test_the_epoch_is_what_the_protocol_says(source, recorder, monkeypatch):
    monkeypatch.setattr(recorder, "epoch", {"m.source": 5}.__getitem__)

    assert source.epoch == 5


async def test_a_flush_is_the_protocols(source, recorder, monkeypatch):
    flushed = []

    async def flush(component):
        flushed.append(component)

    monkeypatch.setattr(recorder, "flush", flush)

    await source.flush()

    assert flushed == ["m.source"]


# --- transactions


async def test_the_events_of_a_transaction_leave_together_and_in_order(source, recorder):
    async with source.transaction():
        source.emit("number", 1)
        await source.emit_async("other", 2, key="k")
        source.emit("number", 3)
        assert recorder.sent == []

    assert recorder.sent == [
        ("emit_all", "m.source.number", None, b"[1]"),
        ("emit_all", "m.source.other", b"k", b"[2]"),
        ("emit_all", "m.source.number", None, b"[3]"),
    ]


async def test_the_position_of_a_transaction_is_known_in_it_and_leaves_with_it(source, recorder):
    source.checkpoint(1)

    async with source.transaction():
        assert source.position == 1
        source.checkpoint(2)
        assert source.position == 2
        assert recorder.positions == {"m.source": b"1"}

    assert recorder.positions == {"m.source": b"2"}


async def test_of_several_positions_of_a_transaction_the_last_one_counts(source, recorder):
    async with source.transaction():
        source.checkpoint(1)
        source.emit("number", 1)
        source.checkpoint(2)

    assert recorder.positions == {"m.source": b"2"}


async def test_a_transaction_that_raises_leaves_nothing_behind(source, recorder):
    source.checkpoint(1)

    async def work():
        async with source.transaction():
            source.emit("number", 1)
            source.checkpoint(2)
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await work()
    assert recorder.sent == []
    assert source.position == 1


async def test_a_transaction_that_is_cancelled_leaves_nothing_behind(source, recorder, turns):
    async def work():
        async with source.transaction():
            source.emit("number", 1)
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(work())
    await turns()
    task.cancel()
    await asyncio.wait([task])

    assert recorder.sent == []


async def test_a_transaction_in_another_one_leaves_with_it(source, recorder):
    async with source.transaction():
        source.emit("number", 1)
        async with source.transaction():
            source.checkpoint(2)
            source.emit("number", 2)
        assert recorder.sent == []

    assert [value for *_, value in recorder.sent] == [b"[1]", b"[2]"]
    assert source.position == 2


async def test_a_transaction_in_another_one_that_raises_leaves_the_outer_as_it_was(
    source, recorder
):
    async with source.transaction():
        source.checkpoint(1)
        source.emit("number", 1)
        with suppress(ZeroDivisionError):
            async with source.transaction():
                source.checkpoint(2)
                source.emit("number", 2)
                raise ZeroDivisionError

    assert [value for *_, value in recorder.sent] == [b"[1]"]
    assert source.position == 1


async def test_after_a_transaction_events_leave_at_once_again(source, recorder):
    async with source.transaction():
        pass
    source.emit("number", 1)

    assert recorder.sent == [("emit", "m.source.number", None, b"[1]")]


async def test_other_tasks_of_a_source_are_not_in_its_transaction(source, recorder, turns):
    async def beside():
        await started.wait()
        await source.emit_async("number", 1)

    started = asyncio.Event()
    task = asyncio.create_task(beside())
    async with source.transaction():
        started.set()
        await turns()
        assert recorder.sent == [("emit_async", "m.source.number", None, b"[1]")]
    await task


async def test_what_outlives_its_transaction_can_no_longer_emit_into_it(source, recorder):
    async def late():
        await ended.wait()
        source.emit("number", 1)

    ended = asyncio.Event()
    async with source.transaction():
        task = asyncio.create_task(late())
    ended.set()

    with pytest.raises(EmitError):
        await task
    assert recorder.sent == []


async def test_an_event_that_its_topic_does_not_take_is_refused_in_the_transaction(
    source, recorder
):
    recorder.topic("m.source", "number").largest = 5

    async with source.transaction():
        with pytest.raises(OutputTooLarge):
            source.emit("number", "too long")
        source.emit("number", 1)

    assert [value for *_, value in recorder.sent] == [b"[1]"]


async def test_a_transaction_has_a_bound(source, recorder, monkeypatch):
    monkeypatch.setattr(source_module, "TOGETHER", 3)

    async def work():
        async with source.transaction():
            for n in range(4):
                source.emit("number", n)

    with pytest.raises(OutboxFull, match=r"a transaction of 'm.source' has 3 events; end it"):
        await work()
    assert recorder.sent == []


async def test_the_events_of_a_transaction_have_the_time_at_which_it_began(source, monkeypatch):
    seen = []

    async def emit_all(component, events, position):
        seen.extend(timestamp for *_, timestamp, _ in events)

    monkeypatch.setattr(source.handler, "emit_all", emit_all)

    async with source.transaction():
        source.emit("number", 1)

    assert seen == [1_000_000]


# --- how it is doing


def test_what_a_source_hears_is_noted_by_a_clock_that_does_not_jump(source, clock):
    clock._monotonic = 50.0
    clock.set(9e9)

    source.heard()

    assert source.heard_at == 50.0


@pytest.mark.parametrize("way", ["emit", "emit_async", "receive"])
async def test_what_a_source_emits_and_receives_is_heard(source, clock, raw, way):
    clock._monotonic = 50.0

    if way == "emit":
        source.emit("number", 1)
    elif way == "emit_async":
        await source.emit_async("number", 1)
    else:
        await source.receive(raw)

    assert source.heard_at == 50.0


async def test_a_source_that_waits_for_room_says_so(source, recorder, clock, turns):
    room = asyncio.Event()

    async def wait(*_event):
        await room.wait()

    recorder.emit_async = wait
    tasks = [asyncio.create_task(source.emit_async("number", n)) for n in range(2)]
    await turns()
    assert source.waiting == 2
    clock._monotonic = 50.0

    room.set()
    await asyncio.gather(*tasks)

    assert source.waiting == 0
    assert source.heard_at == 50.0


async def test_a_source_whose_event_is_refused_waits_no_more(source):
    with pytest.raises(CodecError):
        await source.emit_async("number", object())

    assert source.waiting == 0


async def test_without_a_rate_limit_nobody_waits(source):
    began = time.monotonic()

    for _ in range(10_000):
        await source.pace()

    assert time.monotonic() - began < 2


@pytest.mark.parametrize(("limit", "burst"), [(50.0, 50), (0.5, 1), (1.5, 1)])
async def test_a_rate_limit_lets_no_more_pass_at_once_than_in_a_second(
    source, monkeypatch, turns, limit, burst
):
    source.rate_limit = limit
    loop = asyncio.get_running_loop()
    began = loop.time()
    monkeypatch.setattr(loop, "time", lambda: began)
    for _ in range(burst):
        await asyncio.wait_for(source.pace(), 5)

    waiting = asyncio.create_task(source.pace())
    await turns()
    assert not waiting.done()

    waiting.cancel()
    await asyncio.wait([waiting])


async def test_a_rate_limit_lets_so_many_a_second_pass(source):
    source.rate_limit = 100.0
    began = time.monotonic()

    for _ in range(110):
        await source.pace()

    assert time.monotonic() - began >= 0.09


# --- what comes from outside


async def test_what_comes_is_recorded_before_it_is_taken(source, raw):
    steps = []

    async def take(taken):
        steps.append(("taken", taken))

    source.tap = lambda name, seen: steps.append((name, seen))
    source.take = take

    await source.receive(raw)

    assert steps == [("m.source", raw), ("taken", raw)]


async def test_without_a_recording_what_comes_is_taken(source, raw):
    taken = []

    async def take(each):
        taken.append(each)

    source.take = take

    await source.receive(raw)

    assert taken == [raw]


async def test_what_a_source_raises_that_takes_is_raised(source, raw):
    async def take(_raw):
        raise LookupError("mine")

    source.take = take

    with pytest.raises(LookupError, match="mine"):
        await source.receive(raw)


async def test_a_source_that_takes_nothing_of_its_own_emits_what_was_recorded(source, recorder):
    await source.take(RawInput("event", b"[1]", 7.0, {"event": "number", "key": "k"}))
    await source.take(RawInput("event", b"[2]", 7.0, {"event": "number"}))

    assert recorder.sent == [
        ("emit_async", "m.source.number", "k", b"[1]"),
        ("emit_async", "m.source.number", None, b"[2]"),
    ]


# --- what cannot be used


async def test_what_cannot_be_used_becomes_a_dead_letter_of_the_source(
    source, recorder, raw, caplog
):
    await source.reject(raw, ValueError("no number"))

    ((way, topic, key, value),) = recorder.sent
    letter = msgspec.json.decode(value, type=DeadLetter)
    assert (way, topic, key) == ("emit_async", LETTERS, None)
    assert (letter.component, letter.error, letter.message) == (
        "m.source", "ValueError", "no number",
    )  # fmt: skip
    assert (letter.value, letter.value_bytes) == (b"bytes", 5)
    assert "frame cannot be used: ValueError: no number" in caplog.text


async def test_of_what_is_too_large_for_a_letter_the_beginning_is_kept(source, recorder):
    recorder.topic("m.source", "error").largest = 2_000

    await source.reject(RawInput("body", b"x" * 100_000, 7.0), ValueError("too much"))

    ((*_, value),) = recorder.sent
    letter = msgspec.json.decode(value, type=DeadLetter)
    assert len(value) <= 2_000
    assert (letter.is_cut, letter.value_bytes) == (True, 100_000)
    assert letter.value[:10] == b"x" * 10


async def test_in_a_transaction_the_letter_is_part_of_it(source, recorder, raw):
    async with source.transaction():
        source.emit("number", 1)
        await source.reject(raw, ValueError("no number"))
        source.emit("number", 2)
        assert recorder.sent == []

    assert [(way, topic) for way, topic, *_ in recorder.sent] == [
        ("emit_all", "m.source.number"),
        ("emit_all", LETTERS),
        ("emit_all", "m.source.number"),
    ]


async def test_the_letters_of_a_transaction_that_raises_are_dropped_with_it(source, recorder, raw):
    async def work():
        async with source.transaction():
            await source.reject(raw, ValueError("no number"))
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await work()
    assert recorder.sent == []


async def test_a_letter_in_a_transaction_has_a_time_of_its_own(source, raw, monkeypatch):
    # The time of the source's clock may be long ago, as in a recording.
    seen = []

    async def emit_all(component, events, position):
        seen.extend(timestamp for *_, timestamp, _ in events)

    monkeypatch.setattr(source.handler, "emit_all", emit_all)
    before = int(time.time() * 1000)

    async with source.transaction():
        await source.reject(raw, ValueError("no number"))

    assert before <= seen[0] <= int(time.time() * 1000)
