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

FAILING = NUMBERS.replace(
    "class Step(Processor):", "class Step(Processor):\n        retry = Retry(tries=3)"
).replace("import AsyncFlow, Manager", "import AsyncFlow, Retry, Manager")


def took(program: Any) -> list[int]:
    # Only whole lines: the last one may be half written.
    return [int(number) for number in re.findall(r"^took (\d+)\n", program.text, re.MULTILINE)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_worker_with_status_0(
    kafka: str, start: Any, wait_until: Any, number: signal.Signals
) -> None:
    program = start(NUMBERS, AIOPYPE_BROKER=kafka, NAME=f"signal{number.value}")
    wait_until(lambda: len(took(program)) == 20, what=program)
    program.send(number)
    assert program.wait(15) == 0
    assert took(program) == list(range(20))


async def test_an_event_whose_handler_raises_becomes_a_dead_letter_and_its_neighbours_go_on(
    kafka: str, start: Any, read_topic: Any, wait_until: Any
) -> None:
    program = start(FAILING, AIOPYPE_BROKER=kafka, NAME="fails", FAIL_AT="7")
    wait_until(lambda: "dead letter" in program.text, what=program)
    wait_until(lambda: 19 in took(program), what=program)
    program.send(signal.SIGTERM)
    assert program.wait(15) == 0
    assert took(program) == [n for n in range(20) if n != 7]
    (record,) = await read_topic("fails.step.error")
    letter = json.loads(record.value)
    assert (letter["error"], letter["message"]) == ("ValueError", "cannot take 7")
    assert "in handle" in letter["traceback"]
    assert letter["tries"] == 3
    # What it emitted in a failed try is not there.
    done = [json.loads(r.value)[0] for r in await read_topic("fails.step.done")]
    assert 7 not in done


async def test_poison_bytes_become_a_dead_letter_that_says_where(
    kafka: str, start: Any, read_topic: Any, wait_until: Any
) -> None:
    poison = FAILING.replace(
        "for n in range(20):",
        'self.handler.emit(self.handler.topic(self.name, "number"), None, b"{garbage")\n'
        "            for n in range(20):",
    )
    program = start(poison, AIOPYPE_BROKER=kafka, NAME="poison")
    wait_until(lambda: 19 in took(program), what=program)
    assert "poison.source.number[" in program.text
    (record,) = await read_topic("poison.step.error")
    letter = json.loads(record.value)
    assert "is not JSON" in letter["message"]
    assert (letter["topic"], letter["tries"]) == ("poison.source.number", 1)


def test_without_a_broker_a_worker_says_so_and_ends(start: Any) -> None:
    program = start(NUMBERS, AIOPYPE_BROKER="127.0.0.1:1", NAME="lonely")
    assert program.wait(30) == 1
    assert "no Kafka broker answers at 127.0.0.1:1" in program.text


async def test_an_output_too_large_for_its_topic_becomes_a_dead_letter(
    kafka: str, start: Any, read_topic: Any, wait_until: Any
) -> None:
    large = FAILING.replace(
        'self.emit("done", n)', 'self.emit("done", "x" * 2_000_000 if n == 7 else n)'
    )
    program = start(large, AIOPYPE_BROKER=kafka, NAME="outsized")
    wait_until(lambda: 19 in took(program), what=program)
    (record,) = await read_topic("outsized.step.error")
    letter = json.loads(record.value)
    assert letter["error"] == "aiopype.errors.OutputTooLarge"
    assert "max.message.bytes" in letter["message"]
    assert 'self.emit("done"' in letter["traceback"]


def test_a_file_is_run_by_the_command_line(kafka: str, start: Any, wait_until: Any) -> None:
    program = start(
        NUMBERS,
        command=("-m", "aiopype", "run", "program.py", "--broker", kafka),
        NAME="commanded",
    )
    wait_until(lambda: len(took(program)) == 20, what=program)
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
    wait_until(lambda: "handled 5" in program.text, what=program)
    embedded.stop()
    wait_until(lambda: "handled 8" in program.text, what=program)
    with broker.running(tmp_path / "own-kafka", port=port):
        wait_until(lambda: set(took(program)) == set(range(20)), seconds=60, what="all taken")
        program.send(signal.SIGTERM)
        assert program.wait(15) == 0
