"""The testing kit: one test, in process and on Kafka."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import aiopype
from aiopype import AsyncFlow, Manager, PermanentError, Processor, RestartPolicy, Retry, Source
from aiopype.errors import BrokerError
from aiopype.inputs import RawInput
from aiopype.testing import Crash, Emit, Fail, Pause, ScriptedSource, run_flow, run_managers

pytestmark = pytest.mark.kafka


class Feed(Source):
    async def start(self) -> None:
        raise AssertionError("nobody asked it to")

    async def take(self, raw: RawInput) -> None:
        await self.emit_async("n", int(raw.data), key="k")


class Adds(Processor):
    retry = Retry(tries=2, first_delay_seconds=0.01)

    def __init__(self, name: str, handler: Any) -> None:
        super().__init__(name, handler)
        self.total = 0

    def add(self, number: int) -> None:
        if number < 0:
            raise PermanentError("negative")
        self.total += number
        self.emit("total", self.total)


def adding(*script: Any, cls: type[Source] | None = None) -> type[Manager]:
    class Sums(Manager):
        name = "sums"
        restarts = RestartPolicy(first_delay_seconds=0.01)

        def __init__(self, handler: Any) -> None:
            super().__init__(handler)
            name = self.build_processor_name("source")
            self.source = cls(name, handler) if cls else ScriptedSource(name, handler, script)
            self.adds = Adds(self.build_processor_name("adds"), handler)
            self.source.on("n", self.adds.add)

    return Sums


@pytest.fixture(params=["in process", "on Kafka"])
def broker(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "in process" else request.getfixturevalue("kafka")


async def test_a_source_is_fed_and_emits_what_the_test_says(broker: str | None) -> None:
    async with run_managers(adding(cls=Feed), broker=broker) as run:
        await run.feed("sums.source", RawInput("frame", b"20", 0.0))
        assert run.events("sums.adds.total") == [(20,)]

        await run.emit("sums.source", "n", 22, key="k")
        assert run.events("sums.adds.total") == [(20,), (42,)]

        await run.emit("sums.source", "n", -1, key="k")
        assert [letter.message for letter in run.dead_letters] == ["negative"]
        assert {record.key for record in run.records("sums.source.n")} == {b"k"}

        with pytest.raises(ValueError, match="garbage"):
            await run.feed("sums.source", RawInput("frame", b"garbage", 0.0))


async def test_a_script_goes_on_behind_failures_and_crashes(broker: str | None) -> None:
    script = [
        Emit("n", 1), Fail(OSError("no route")), Emit("n", 2), Pause(0.05),
        Crash(), Emit("n", 3), Crash(), Emit("n", 4),
    ]  # fmt: skip
    async with run_managers(adding(*script), broker=broker) as run:
        run.start_sources()
        await run.ended()

        assert run.events("sums.source.n") == [(1,), (2,), (3,), (4,)]
        assert run.source("sums.source").position == 8
        # The first two were in a component that is no more; a crash may come before the third is
        # handled on Kafka, which is in the last one then.
        assert run.events("sums.adds.total")[-1] in {(4,), (7,)}


async def test_a_flow_is_run_with_its_settings(broker: str | None) -> None:
    manager = adding(Emit("n", 1))
    manager.name = "flown-sums"
    flow = AsyncFlow(SimpleNamespace(FLOWS=["flown-sums"], BROKER="127.0.0.1:1"), "flown")
    async with run_flow(flow, broker=broker) as run:
        run.start_sources()
        await run.ended()

        assert run.events("flown-sums.adds.total") == [(1,)]


async def test_runs_do_not_see_each_others_events(kafka: str) -> None:
    for _ in range(2):
        async with run_managers(adding(Emit("n", 1)), broker=kafka) as run:
            run.start_sources()
            await run.ended()
            assert run.events("sums.adds.total") == [(1,)]


async def test_a_run_may_be_over_before_it_is_up(broker: str | None) -> None:
    async with asyncio.timeout(20), run_managers(adding(cls=Feed), broker=broker):
        pass


async def test_a_broker_that_does_not_answer_is_said_so() -> None:
    async def run_in_vain() -> None:
        async with run_managers(adding(Emit("n", 1)), broker="127.0.0.1:1"):
            pass

    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1"):
        await run_in_vain()


async def test_a_broker_is_started_for_a_run() -> None:
    async with run_managers(adding(cls=Feed), broker="embedded") as run:
        await run.emit("sums.source", "n", 2)

        assert run.events("sums.adds.total") == [(2,)]


def test_the_example_of_the_guide_runs_in_both_worlds(start: Any, tmp_path: Path) -> None:
    guide = Path(aiopype.__file__).parents[1] / "docs" / "testing.md"
    found = re.findall(r"```python\n(# (\S+\.py)\n.*?)```", guide.read_text(), re.DOTALL)
    files = {name: code for code, name in found}
    (tmp_path / "prices.py").write_text(files["prices.py"])
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")

    ended = start(files["test_both.py"], file="test_both.py", command=("-m", "pytest", "-q"))

    assert ended.wait(60) == 0, ended.text
    assert "2 passed" in ended.text
