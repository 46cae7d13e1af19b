import asyncio
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from aiopype import RestartPolicy, Source, cli
from aiopype.commands import recording as command
from aiopype.inputs import RawInput
from aiopype.recording import Recording

PROGRAM = """
import asyncio
from aiopype import AsyncFlow, Manager, Processor, Source

class Ticks(Source):
    async def start(self):
        number = self.position or 0
        while True:
            self.checkpoint(number := number + 1)
            await self.emit_async("tick", number)
            print("tick", flush=True)
            await asyncio.sleep(0.01)

class Sink(Processor):
    def take(self, number):
        print("handled")

class Ticking(Manager):
    name = "ticking"
    def __init__(self, handler):
        super().__init__(handler)
        self.source = Ticks(self.build_processor_name("source"), handler)
        self.sink = Sink(self.build_processor_name("sink"), handler)
        self.source.on("tick", self.sink.take)

class Config:
    FLOWS = ["ticking"]

dataflow = AsyncFlow(Config())
"""


class Frames(Source):
    """Gets frames, and ends."""

    count = 3

    async def start(self):
        for number in range(self.count):
            await self.receive(RawInput("frame", b"%d" % number, float(number)))
            await asyncio.sleep(0)

    async def take(self, raw):
        await self.emit_async("taken", raw.data.decode())


class Endless(Frames):
    count = 10**9


class Fails(Frames):
    restarts = RestartPolicy(failures=0)

    async def start(self):
        await super().start()
        raise LookupError("mine")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "recording.jsonl"


@pytest.fixture
def record(declare, monkeypatch, output):
    """Runs `aiopype record` over a flow with sources of these classes, by the last part of name."""
    from aiopype import AsyncFlow  # noqa: PLC0415 - a flow knows the file that makes it

    def run(sources, *options):
        def wire(manager):
            for name, cls in sources.items():
                cls(manager.build_processor_name(name), manager.handler)

        manager = declare(wire, name="m")
        config = type("Config", (), {"FLOWS": [manager.name]})
        monkeypatch.setattr(command, "load_flow", lambda target: AsyncFlow(config(), "quotes"))
        arguments = ["record", "quotes.py", "--output", str(output), *options]
        return CliRunner().invoke(cli.main, arguments)

    return run


@pytest.fixture
def inputs(output):
    """Reads what was recorded: sources and data."""

    def read():
        with Recording(output) as recording:
            return [(source, raw.data) for source, raw in recording.inputs()]

    return read


def test_what_sources_get_is_in_the_file_when_they_have_ended(record, inputs):
    result = record({"a": Frames})

    assert result.exit_code == 0, result.output
    assert inputs() == [("m.a", b"0"), ("m.a", b"1"), ("m.a", b"2")]
    assert "3 inputs in " in result.output
    assert "m.a 3" in result.output


def test_the_recording_has_the_name_of_the_flow(record, output):
    record({"a": Frames})

    with Recording(output) as recording:
        assert recording.flow == "quotes"


def test_only_the_sources_that_are_named_run(record, inputs):
    class Never(Frames):
        async def start(self):
            raise AssertionError("it is not recorded")

    result = record({"a": Frames, "b": Never, "c": Frames}, "--source", "m.a", "--source", "m.c")

    assert result.exit_code == 0
    assert {source for source, _ in inputs()} == {"m.a", "m.c"}


def test_it_ends_after_so_many_inputs(record, inputs):
    result = record({"a": Endless}, "--count", "5")

    assert result.exit_code == 0
    assert inputs() == [("m.a", b"%d" % n) for n in range(5)]


def test_it_ends_after_so_long(record, inputs):
    result = record({"a": Endless}, "--seconds", "0.05")

    assert result.exit_code == 0
    assert len(inputs()) > 5


def test_a_source_that_keeps_failing_is_recorded_and_makes_the_status_1(record, inputs):
    result = record({"a": Fails, "b": Frames})

    assert result.exit_code == 1
    assert len(inputs()) == 6
    assert "6 inputs" in result.output


def test_a_source_without_inputs_is_told_of(record):
    class Quiet(Frames):
        count = 0

    assert "m.a 3, m.quiet 0" in record({"a": Frames, "quiet": Quiet}).output


def test_an_unknown_source_is_refused_and_nothing_is_written(record, output):
    result = record({"feed": Frames}, "--source", "m.fede")

    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "there is no source 'm.fede' to record; did you mean m.feed?" in result.output
    assert not output.exists()


def test_a_flow_without_sources_is_refused(record, output):
    result = record({})

    assert result.exit_code == 1
    assert "has no sources" in result.output
    assert not output.exists()


def test_an_existing_file_is_left_alone(record, output):
    output.write_text("precious")

    result = record({"a": Frames})

    assert result.exit_code == 1
    assert "exists already" in result.output
    assert output.read_text() == "precious"


def test_an_input_that_cannot_be_written_ends_it_with_the_reason(record, monkeypatch, inputs):
    monkeypatch.setattr("aiopype.recording.LINE_BYTES", 300)

    class Large(Frames):
        async def start(self):
            await super().start()
            await self.receive(RawInput("frame", b"x" * 300, 0.0))

    result = record({"a": Large})

    assert result.exit_code == 1
    assert "a frame of 'm.a' makes a line of" in result.output
    assert len(inputs()) == 3


@pytest.mark.parametrize("option", [("--seconds", "0"), ("--count", "0")])
def test_nothing_to_record_is_a_wrong_use(record, option):
    assert record({"a": Frames}, *option).exit_code == 2


def test_without_an_output_it_is_a_wrong_use():
    result = CliRunner().invoke(cli.main, ["record", "quotes.py"])

    assert result.exit_code == 2
    assert "--output" in result.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=str)
def test_a_recording_that_is_ended_from_outside_can_be_played(environment, tmp_path, number):
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, "-m", "aiopype", "record", "program.py", "--output", "a.jsonl"],
        env=environment, cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    for _ in range(3):
        assert process.stdout.readline() == "tick\n"

    process.send_signal(number)
    out, err = process.communicate(timeout=20)

    with Recording(tmp_path / "a.jsonl") as recording:
        recorded = len(recording)
    assert recorded >= 3
    assert "handled" not in out
    if number != signal.SIGKILL:
        assert process.returncode == 0, err
        assert f"{recorded} inputs in " in out
    played = subprocess.run(
        [sys.executable, "-m", "aiopype", "run", "program.py", "--sync",
         "--replay", "a.jsonl", "--speed", "max"],
        env=environment, cwd=tmp_path, text=True, capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    assert played.returncode == 0, played.stderr
    assert played.stdout.count("handled") == recorded
    assert played.stdout.count("tick") == 0
