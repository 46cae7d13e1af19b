import asyncio
import json
import logging
import os
import threading

import msgspec
import pytest

from aiopype import SyncProtocol
from aiopype.dead_letters import DeadLetter
from aiopype.errors import CircuitOpen, ConfigurationError, EmitError, SourceError, StateCorrupt
from aiopype.inputs import RawInput
from aiopype.sources import FileSource
from aiopype.sources import file as file_module

letter_in = msgspec.json.Decoder(DeadLetter).decode


class Clock:
    """A clock whose sleeps end at once, and are noted."""

    def __init__(self):
        self.slept = []

    def time(self):
        return 1_000.0

    def monotonic(self):
        return 0.0

    async def sleep(self, seconds):
        self.slept.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.jsonl"


@pytest.fixture
def source(recorder, path):
    """Makes a source of a file, which ends at its end if nothing else is said."""

    def make(options=None, path=path, name="m.files"):
        made = FileSource(name, recorder, path, {"follow": False} | (options or {}))
        made.clock = Clock()
        return made

    return make


@pytest.fixture
async def running(until):
    """Starts a source in a task that is cancelled after the test."""
    tasks = []

    def start(source):
        tasks.append(asyncio.create_task(source.start(), name="start"))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def lines(recorder):
    """What was emitted as `line`: the values."""
    return lambda: [json.loads(v) for _, topic, _, v in recorder.sent if topic.endswith(".line")]


@pytest.fixture
def letters(recorder):
    """What was rejected."""
    return lambda: [letter_in(v) for _, topic, _, v in recorder.sent if topic.endswith(".error")]


def position(recorder):
    return json.loads(recorder.positions["m.files"])


# --- what it emits


async def test_each_line_of_json_is_an_event(source, path, lines):
    path.write_bytes(b'{"a":1}\n[1,2]\n"text"\nnull\n')

    await source().start()

    assert lines() == [{"a": 1}, [[1, 2]], ["text"], [None]]


async def test_each_row_of_csv_is_a_dict_by_the_header(source, tmp_path, lines):
    path = tmp_path / "data.csv"
    path.write_bytes(b'id,text\n1,"two\nlines"\n2,\n')

    await source(path=path).start()

    assert lines() == [{"id": "1", "text": "two\nlines"}, {"id": "2", "text": ""}]


async def test_a_handler_gets_it_in_process(path, collector):
    path.write_bytes(b'{"a":1}\n[1,2]\n')
    protocol = SyncProtocol()
    source = FileSource("m.files", protocol, path, {"follow": False})
    end = collector("m.end", protocol)
    source.on("line", end.take)

    await source.start()

    assert end.got == [({"a": 1},), ([1, 2],)]
    assert source.position["offset"] == 14


@pytest.mark.parametrize(
    ("suffix", "options", "data", "expected"),
    [
        (".ndjson", {}, b"1\n", [[1]]),
        (".tsv", {}, b"a\tb\n1\t2\n", [{"a": "1", "b": "2"}]),
        (".CSV", {"delimiter": ";"}, b"a;b\n1;2\n", [{"a": "1", "b": "2"}]),
        (".log", {"format": "json"}, b"1\n", [[1]]),
        (".log", {"format": "csv"}, b"a\n1\n", [{"a": "1"}]),
    ],
)
async def test_the_format_is_told_by_the_suffix_or_an_option(
    source, tmp_path, lines, suffix, options, data, expected
):
    path = tmp_path / f"data{suffix}"
    path.write_bytes(data)

    await source(options, path).start()

    assert lines() == expected


async def test_the_value_of_a_member_may_be_the_key(source, path, recorder):
    path.write_bytes(b'{"id":"a"}\n{"id":7}\n')

    await source({"key": "id"}).start()

    assert [key for _, _, key, _ in recorder.sent] == [b"a", b"7"]


@pytest.mark.parametrize("line", [b'{"x":1}', b'{"id":1.5}', b'{"id":null}', b'{"id":true}', b"7"])
async def test_a_record_without_its_key_is_rejected(source, path, lines, letters, line):
    path.write_bytes(line + b'\n{"id":"a"}\n')

    await source({"key": "id"}).start()

    assert lines() == [{"id": "a"}]
    assert "'id'" in letters()[0].message


# --- what it cannot use


@pytest.mark.parametrize("bad", [b"{", b"NaN", b'"\xff"', b'{"$args":1}'])
async def test_a_line_that_cannot_be_used_is_rejected_and_the_source_goes_on(
    source, path, lines, letters, bad
):
    path.write_bytes(b"1\n" + bad + b"\n2\n")

    await source().start()

    assert lines() == [[1], [2]]
    (letter,) = letters()
    assert (letter.component, letter.value) == ("m.files", bad)
    assert letter.message.startswith(f"{path} at byte 2: ")


async def test_a_line_that_its_topic_does_not_take_is_rejected(
    source, path, lines, letters, recorder
):
    one = source()
    recorder.topic("m.files", "line").largest = 100
    path.write_bytes(b'"' + b"x" * 200 + b'"\n2\n')

    await one.start()

    assert lines() == [[2]]
    assert "topic takes 100 at most" in letters()[0].message


@pytest.mark.parametrize("size", [50, 600_000])
async def test_a_line_longer_than_allowed_is_rejected(source, path, lines, letters, size):
    path.write_bytes(b'"' + b"x" * size + b'"\n2\n')

    await source({"max_line_bytes": 20}).start()

    assert lines() == [[2]]
    assert len(letters()) == 1


async def test_a_line_as_long_as_allowed_is_taken(source, path, lines):
    path.write_bytes(b'"' + b"x" * 299_998 + b'"\n')

    await source({"max_line_bytes": 300_000}).start()

    assert len(lines()) == 1


async def test_without_a_key_for_a_compacted_topic_the_source_fails(source, path, recorder):
    one = source()
    recorder.topic("m.files", "line").needs_key = True
    path.write_bytes(b"1\n")

    with pytest.raises(EmitError, match="has no key"):
        await one.start()
    assert recorder.positions == {}


# --- where it is


async def test_the_events_of_a_chunk_and_the_position_behind_it_belong_together(
    source, path, recorder, monkeypatch
):
    path.write_bytes(b"1\n2\n3\n")
    monkeypatch.setattr(file_module, "CHUNK_RECORDS", 2)
    groups = []

    async def emit_all(component, events, position):
        groups.append(([value for _, _, value, *_ in events], json.loads(position)["offset"]))

    monkeypatch.setattr(recorder, "emit_all", emit_all)

    await source().start()

    assert groups == [([b"[1]", b"[2]"], 4), ([b"[3]"], 6)]


async def test_another_source_goes_on_from_the_position(source, path, recorder, lines):
    path.write_bytes(b"1\n2\n")
    await source().start()
    stored = dict(recorder.positions)
    recorder.sent.clear()
    path.write_bytes(b"1\n2\n3\n")
    recorder.positions = stored

    await source(name="m.again").start()
    assert lines() == [[1], [2], [3]]
    recorder.sent.clear()
    recorder.positions["m.third"] = stored["m.files"]
    await source(name="m.third").start()

    assert lines() == [[3]]


async def test_a_line_that_is_passed_over_is_a_position(source, path, recorder):
    path.write_bytes(b"x" * 300_000 + b"\n")

    await source({"max_line_bytes": 20}).start()

    assert position(recorder)["offset"] == 300_001
    assert "is_in_long" not in position(recorder)


@pytest.mark.parametrize("stored", [b"7", b'{"offset":"x"}', b'["a"]'])
async def test_a_position_that_is_none_of_a_file_is_an_error(source, path, recorder, stored):
    path.write_bytes(b"1\n")
    recorder.positions["m.files"] = stored

    with pytest.raises(StateCorrupt, match="none of a file"):
        await source().start()


# --- following


async def test_it_waits_for_a_file_and_for_what_is_added_to_it(
    source, path, running, until, lines, caplog
):
    caplog.set_level(logging.INFO)
    one = source({"follow": True, "poll_interval": 0.5})
    running(one)
    await until(lambda: len(one.clock.slept) > 2)
    path.write_bytes(b"1\n")
    await until(lambda: len(lines()) == 1)

    with path.open("ab") as file:
        file.write(b"2\n")

    await until(lambda: len(lines()) == 2)
    assert set(one.clock.slept) == {0.5}
    assert caplog.text.count("does not exist") == 1


async def test_a_rotated_file_is_read_to_its_end_and_then_the_next_one(
    source, path, running, until, lines, caplog
):
    caplog.set_level(logging.INFO)
    path.write_bytes(b"1\n")
    running(source({"follow": True}))
    await until(lambda: len(lines()) == 1)

    with path.open("ab") as file:
        file.write(b"2\n")
        path.rename(path.with_suffix(".1"))
        path.write_bytes(b"3\n")
        file.write(b"4\n")

    await until(lambda: len(lines()) == 4)
    assert lines() == [[1], [2], [4], [3]]
    assert [r.levelname for r in caplog.records if "another file now" in r.message] == ["INFO"]


async def test_a_truncated_file_is_told_as_a_warning(source, path, running, until, lines, caplog):
    path.write_bytes(b"1\n2\n")
    running(source({"follow": True}))
    await until(lambda: len(lines()) == 2)

    path.write_bytes(b"3\n")

    await until(lambda: len(lines()) == 3)
    assert [r.levelname for r in caplog.records] == ["WARNING"]


async def test_truncation_may_be_an_error(source, path, recorder):
    path.write_bytes(b"1\n2\n")
    await source().start()
    path.write_bytes(b"3\n")
    again = source({"on_truncation": "fail"}, name="m.again")
    recorder.positions["m.again"] = recorder.positions["m.files"]

    with pytest.raises(SourceError, match="was truncated"):
        await again.start()


async def test_what_it_reads_are_signs_of_life_and_looking_is_none(
    source, path, running, until, lines
):
    path.write_bytes(b"1\n")
    one = source({"follow": True, "expect_every": 10})
    assert one.expect_every == 10
    one.heard_at = -1.0
    running(one)
    await until(lambda: len(lines()) == 1)
    assert one.heard_at == 0.0
    one.heard_at = -1.0

    await until(lambda: len(one.clock.slept) > 3)

    assert one.heard_at == -1.0


async def test_the_rate_limit_counts_records(source, path, recorder):
    path.write_bytes(b"1\n" * 5)
    one = source({"rate_limit": 2})
    groups, paces = [], []

    async def emit_all(component, events, position):
        groups.append((len(events), len(paces)))

    async def pace():
        paces.append(1)

    recorder.emit_all, one.pace = emit_all, pace

    await one.start()

    assert groups == [(2, 2), (2, 4), (1, 5)]


# --- errors of the file system


async def test_an_error_is_waited_after_and_tried_again(source, path, lines, caplog, monkeypatch):
    path.write_bytes(b"1\n")
    errors = [PermissionError("mine"), OSError("mine too")]
    opened = os.open

    def fail_first(*arguments):
        if errors:
            raise errors.pop(0)
        return opened(*arguments)

    monkeypatch.setattr(os, "open", fail_first)
    one = source({"first_delay_seconds": 8})

    await one.start()

    assert lines() == [[1]]
    assert [round(seconds / 8, 1) for seconds in one.clock.slept] == pytest.approx([1, 2], rel=0.25)
    assert "PermissionError: mine; again in" in caplog.text


async def test_too_many_errors_open_the_circuit(source, path):
    path.mkdir()
    path.rmdir()
    path.symlink_to(path)  # ELOOP

    with pytest.raises(CircuitOpen, match="3 errors in a row"):
        await source({"exception_threshold": 3}).start()


async def test_a_file_system_that_hangs_is_an_error_and_takes_one_thread(
    source, path, lines, monkeypatch, caplog
):
    path.write_bytes(b"1\n")
    monkeypatch.setattr(file_module, "ANSWER_SECONDS", 0.02)
    answer, threads = threading.Event(), []
    opened = os.open

    def hang(*arguments):
        threads.append(threading.current_thread())
        assert answer.wait(10)
        return opened(*arguments)

    monkeypatch.setattr(os, "open", hang)
    one = source({"exception_threshold": 4, "first_delay_seconds": 1})

    async def sleep(seconds):
        one.clock.slept.append(seconds)
        if len(one.clock.slept) == 3:
            answer.set()

    one.clock.sleep = sleep

    await one.start()

    assert lines() == [[1]]
    assert len(threads) == 1
    assert "no answer in 0.02 s" in caplog.text


async def test_it_ends_at_once_when_it_is_cancelled_while_the_file_system_hangs(
    source, path, monkeypatch, turns
):
    answer, hangs = threading.Event(), threading.Event()

    def hang(*arguments):
        hangs.set()
        answer.wait(10)
        raise OSError("too late")

    path.write_bytes(b"1\n")
    monkeypatch.setattr(os, "open", hang)
    task = asyncio.create_task(source().start())
    await asyncio.to_thread(hangs.wait, 5)

    task.cancel()
    await asyncio.wait([task], timeout=5)

    assert task.cancelled()
    answer.set()


# --- recordings


async def test_what_it_receives_makes_the_same_events_again(source, recorder, tmp_path, lines):
    path = tmp_path / "data.csv"
    path.write_bytes(b"id\n1\n" + b"x" * 300_000 + b"\n2\n3,4\n")
    one = source({"max_line_bytes": 100_000}, path)
    raws = []
    one.tap = lambda name, raw: raws.append(raw)
    await one.start()
    before, recorder.sent = list(recorder.sent), []
    path.unlink()

    recorded = msgspec.json.decode(msgspec.json.encode(raws), type=list[RawInput])
    for raw in recorded:
        await one.take(raw)

    assert lines() == [{"id": "1"}, {"id": "2"}]
    assert [e[:3] for e in recorder.sent] == [e[:3] for e in before]


# --- options


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"folow": True}, "did you mean 'follow'"),
        ({"format": "xml"}, "format='xml'"),
        ({"delimiter": ";;"}, "give one character"),
        ({"delimiter": '"'}, "give one character"),
        ({"poll_interval": 0}, "poll_interval=0"),
        ({"max_line_bytes": 0}, "max_line_bytes=0"),
        ({"on_truncation": "ignore"}, "on_truncation='ignore'"),
    ],
)
def test_options_that_make_no_sense_are_refused(source, options, reason):
    with pytest.raises(ConfigurationError, match=reason):
        source(options)


def test_a_suffix_that_tells_no_format_is_refused(source, tmp_path):
    with pytest.raises(ConfigurationError, match="set format='json' or format='csv'"):
        source(path=tmp_path / "data.json")
