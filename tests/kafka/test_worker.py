"""A worker as a process: how it starts, fails and ends."""

from __future__ import annotations

import json
import re
import signal
from typing import Any

import pytest

pytestmark = pytest.mark.kafka

NUMBERS = """
    import os, time
    from aiopype import AsyncFlow, Manager, Processor, Source

    class Numbers(Source):
        async def start(self):
            if os.environ.get("SILENT"):
                return
            for n in range(20):
                await self.emit_async("number", n)

    class Step(Processor):
        def handle(self, n):
            if n == int(os.environ.get("FAIL_AT", -1)):
                raise ValueError(f"cannot take {n}")
            self.emit("done", n)
            print("handled", n)

    class Sink(Processor):
        def take(self, n):
            print("took", n)

    class Line(Manager):
        name = os.environ["NAME"]

        def __init__(self, handler):
            super().__init__(handler)
            self.source = Numbers(self.build_processor_name("source"), handler)
            self.step = Step(self.build_processor_name("step"), handler)
            self.sink = Sink(self.build_processor_name("sink"), handler)
            self.source.on("number", self.step.handle)
            self.step.on("done", self.sink.take)

    class Config:
        FLOWS = [os.environ["NAME"]]

    dataflow = AsyncFlow(Config(), name=os.environ["NAME"] + "-flow")

    if __name__ == "__main__":
        dataflow.start()
"""


def took(program: Any) -> list[int]:
    # Only whole lines: the last one may be half written.
    return [int(number) for number in re.findall(r"^took (\d+)\n", program.text, re.MULTILINE)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_worker_with_status_0(
    kafka: str, start: Any, wait_until: Any, number: signal.Signals
) -> None:
    program = start(NUMBERS, AIOPYPE_BROKER=kafka, NAME=f"signal{number.value}")
    wait_until(lambda: len(took(program)) == 20, what=program.text)
    program.send(number)
    assert program.wait(15) == 0
    assert took(program) == list(range(20))


async def test_a_handler_that_raises_stops_its_manager_with_the_offset_standing(
    kafka: str, start: Any, read_topic: Any, committed: Any, wait_until: Any
) -> None:
    program = start(NUMBERS, AIOPYPE_BROKER=kafka, NAME="fails", FAIL_AT="7")
    assert program.wait(30) == 1
    assert "manager 'fails' is stopped: ValueError" in program.text
    assert "cannot take 7" in program.text
    records = await read_topic("fails.source.number")
    bad = next(r for r in records if json.loads(r.value) == [7])
    stands = (await committed("fails-flow", "fails.source.number"))[bad.partition]
    assert (stands or 0) <= bad.offset
    # What it emitted in the failed try is not there, and nothing behind it was handled.
    done = [json.loads(r.value)[0] for r in await read_topic("fails.step.done")]
    assert not {7, 8, 19} & set(done)

    repaired = start(NUMBERS, AIOPYPE_BROKER=kafka, NAME="fails", SILENT="1")
    wait_until(lambda: 19 in took(repaired), what=repaired.text)
    repaired.send(signal.SIGTERM)
    assert repaired.wait(15) == 0
    assert set(took(program)) | set(took(repaired)) == set(range(20))


def test_poison_bytes_stop_the_manager_and_say_where(kafka: str, start: Any) -> None:
    poison = NUMBERS.replace(
        "for n in range(20):",
        'self.handler.emit(self.handler.topic(self.name, "number"), None, b"{garbage")\n'
        "            for n in range(20):",
    )
    program = start(poison, AIOPYPE_BROKER=kafka, NAME="poison")
    assert program.wait(30) == 1
    assert "is not JSON" in program.text
    assert "poison.source.number[" in program.text


def test_without_a_broker_a_worker_says_so_and_ends(start: Any) -> None:
    program = start(NUMBERS, AIOPYPE_BROKER="127.0.0.1:1", NAME="lonely")
    assert program.wait(30) == 1
    assert "no Kafka broker answers at 127.0.0.1:1" in program.text


def test_an_output_too_large_for_the_broker_stops_the_manager(kafka: str, start: Any) -> None:
    large = NUMBERS.replace('self.emit("done", n)', 'self.emit("done", "x" * 2_000_000)')
    program = start(large, AIOPYPE_BROKER=kafka, NAME="large")
    assert program.wait(40) == 1
    assert "cannot be written" in program.text
    assert "MessageSizeTooLarge" in program.text


def test_a_file_is_run_by_the_command_line(kafka: str, start: Any, wait_until: Any) -> None:
    program = start(
        NUMBERS,
        command=("-m", "aiopype", "run", "program.py", "--broker", kafka),
        NAME="commanded",
    )
    wait_until(lambda: len(took(program)) == 20, what=program.text)
    program.send(signal.SIGTERM)
    assert program.wait(15) == 0


def test_a_file_is_run_in_process_by_the_command_line(start: Any) -> None:
    program = start(
        NUMBERS, command=("-m", "aiopype", "run", "program.py", "--sync"), NAME="in-process"
    )
    assert program.wait(15) == 0
    assert took(program) == list(range(20))


def test_outputs_that_cannot_leave_for_a_while_leave_later(
    start: Any, wait_until: Any, tmp_path: Any
) -> None:
    from aiopype import broker  # noqa: PLC0415

    embedded = broker.start(tmp_path / "own-kafka")
    port = int(embedded.address.rpartition(":")[2])
    slow = NUMBERS.replace('self.emit("done", n)', 'self.emit("done", n); time.sleep(0.2)')
    program = start(slow, AIOPYPE_BROKER=embedded.address, NAME="patient")
    wait_until(lambda: "handled 5" in program.text, what=program.text)
    embedded.stop()
    wait_until(lambda: "handled 8" in program.text, what=program.text)
    with broker.running(tmp_path / "own-kafka", port=port):
        wait_until(lambda: set(took(program)) == set(range(20)), seconds=60, what="all taken")
        program.send(signal.SIGTERM)
        assert program.wait(15) == 0
