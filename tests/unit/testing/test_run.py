"""The runner in process; on Kafka it is tested by tests/contract, which runs on it, and by
tests/kafka/test_testing.py.
"""

import asyncio
import gc
from types import SimpleNamespace

import pytest

from aiopype import AsyncFlow, Flow, Manager, PermanentError, Processor, RestartPolicy, Source
from aiopype.clock import SystemClock
from aiopype.errors import CodecError, ConfigurationError, GraphError
from aiopype.inputs import RawInput
from aiopype.recording import RecordingWriter
from aiopype.testing import (
    Crash,
    Emit,
    Fail,
    FakeClock,
    Pause,
    ScriptedSource,
    Silence,
    run_flow,
    run_managers,
)


class Adds(Processor):
    """Adds up what it gets, in memory; fails at odd ones as often as `fails` says."""

    fails = 0

    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.total = 0
        self.failed = 0

    async def add(self, number, **named):
        if number % 2 and self.failed < self.fails:
            self.failed += 1
            raise OSError("odd")
        if number < 0:
            raise PermanentError("negative")
        self.total += number
        self.emit("total", self.total, **named)


class Feed(Source):
    async def start(self):
        raise AssertionError("nobody asked it to")

    async def take(self, raw):
        await self.clock.sleep(3)
        await self.emit_async("n", int(raw.data), key="k")


class Poller(Source):
    async def start(self):
        while True:
            await self.emit_async("n", int(self.clock.monotonic()))
            await self.clock.sleep(30)


@pytest.fixture
def adding(declare):
    """Declares a manager with a source of this script, or of this class, and what adds up."""

    def make(*script, cls=ScriptedSource, **attributes):
        fails = attributes.pop("fails", 0)

        def wire(manager):
            name = manager.build_processor_name("source")
            arguments = [list(script)] if cls is ScriptedSource else []
            manager.source = cls(name, manager.handler, *arguments)
            manager.source.expect_every = attributes.get("expect_every")
            manager.adds = Adds(manager.build_processor_name("adds"), manager.handler)
            manager.adds.fails = fails
            manager.source.on("n", manager.adds.add)

        return declare(wire, name=attributes.pop("name", "sums"), **attributes)

    return make


TOTAL = "sums.adds.total"


# --- by hand


async def test_an_event_is_emitted_in_the_name_of_a_source(adding):
    async with run_managers(adding(cls=Feed)) as run:
        await run.emit("sums.source", "n", 2, key="a", why="because")

        assert run.events("sums.source.n") == [(2, {"why": "because"})]
        assert run.events(TOTAL) == [(2, {"why": "because"})]
        assert run.records(TOTAL)[0].key == b"a"


async def test_an_input_is_fed_to_a_source_and_is_through_then(adding):
    async with run_managers(adding(cls=Feed)) as run:
        await run.feed("sums.source", RawInput("frame", b"20", 0.0))
        await run.feed("sums.source", RawInput("frame", b"22", 0.0))

        assert run.events(TOTAL) == [(20,), (42,)]
        assert run.manager.adds.total == 42


async def test_what_take_raises_is_raised_to_the_test(adding):
    async with run_managers(adding(cls=Feed)) as run:
        with pytest.raises(ValueError, match="garbage"):
            await run.feed("sums.source", RawInput("frame", b"garbage", 0.0))

        assert run.failures == {}


async def test_a_source_that_was_not_started_does_nothing(adding):
    async with run_managers(adding(cls=Feed)) as run:
        await run.clock.advance(1_000)
        await run.ended()

        assert run.events("sums.source.n") == []
        assert run.failures == {}


async def test_what_has_failed_for_good_is_among_the_dead_letters(adding):
    async with run_managers(adding(cls=Feed)) as run:
        await run.emit("sums.source", "n", -2)

        (letter,) = run.dead_letters
        assert (letter.component, letter.message) == ("sums.adds", "negative")


async def test_an_event_is_tried_again_without_waiting(adding):
    async with run_managers(adding(cls=Feed, fails=5)) as run:
        await run.emit("sums.source", "n", 1)

        assert run.manager.adds.failed == 5
        assert run.events(TOTAL) == [(1,)]
        assert run.dead_letters == []


async def test_a_recording_is_played_each_time_from_its_beginning(adding, tmp_path):
    path = tmp_path / "recording.jsonl"
    with RecordingWriter(path, "sums", 0.0) as writer:
        for n in (1, 2):
            writer.write("sums.source", RawInput("frame", b"%d" % n, 1_000.0 * n))

    async with run_managers(adding(cls=Feed)) as run:
        await run.replay(path)
        await run.replay(str(path), speed=10)

        assert run.events(TOTAL) == [(1,), (3,), (4,), (6,)]
        assert run.clock.monotonic() == 100


# --- sources that run


async def test_sources_run_to_their_end(adding):
    async with run_managers(adding(Emit("n", 1), Pause(3_600), Emit("n", 2))) as run:
        run.start_sources()
        await run.ended()

        assert run.events(TOTAL) == [(1,), (3,)]
        assert run.clock.monotonic() == 3_600


async def test_sources_run_until_a_condition_holds(adding):
    async with run_managers(adding(cls=Poller)) as run:
        run.start_sources()
        await run.until(lambda: len(run.events(TOTAL)) == 4)

        assert run.events("sums.source.n") == [(0,), (30,), (60,), (90,)]


async def test_a_test_can_have_the_clock_in_its_own_hand(adding):
    clock = FakeClock()
    async with run_managers(adding(cls=Poller), clock=clock) as run:
        run.start_sources()
        await clock.advance(59)
        assert run.events("sums.source.n") == [(0,), (30,)]
        await clock.advance(1)
        assert run.events("sums.source.n") == [(0,), (30,), (60,)]


async def test_some_sources_are_started_and_others_are_not(adding):
    managers = adding(Emit("n", 1), name="a"), adding(Emit("n", 2), name="b")
    async with run_managers(*managers) as run:
        run.start_sources("b.source")
        await run.ended()

        assert (run.events("a.source.n"), run.events("b.source.n")) == ([], [(2,)])
        assert [manager.name for manager in run.managers] == ["a", "b"]


async def test_a_source_that_fails_is_started_again_without_waiting(adding):
    script = [Emit("n", 1), Fail(OSError("no route")), Emit("n", 2)]
    async with run_managers(adding(*script)) as run:
        run.start_sources()
        await run.ended()

        assert run.events(TOTAL) == [(1,), (3,)]
        assert run.supervisor.restarts["sums.source"] == 1
        assert run.clock.monotonic() == 1


async def test_a_source_in_quarantine_has_ended_and_says_why(adding):
    manager = adding(Fail(OSError("no route")), restarts=RestartPolicy(failures=0))
    async with run_managers(manager) as run:
        run.start_sources()
        await run.ended()

        assert str(run.failures["sums.source"]) == "no route"


async def test_a_silent_source_is_started_again(adding):
    manager = adding(Emit("n", 1), Silence(), Emit("n", 2), expect_every=60)
    async with run_managers(manager) as run:
        run.start_sources()
        await run.ended()

        assert run.events(TOTAL) == [(1,), (3,)]
        assert run.clock.monotonic() == 61


async def test_a_crash_takes_what_is_in_memory_and_leaves_what_is_durable(adding):
    script = [Emit("n", 1), Emit("n", 2), Crash(), Emit("n", 3)]
    async with run_managers(adding(*script)) as run:
        run.start_sources()
        before = run.manager
        await run.ended()

        assert run.events("sums.source.n") == [(1,), (2,), (3,)]
        assert run.events(TOTAL) == [(1,), (3,), (3,)]
        assert run.manager is not before


async def test_a_run_can_be_restarted_by_hand(adding):
    async with run_managers(adding(cls=Feed)) as run:
        await run.emit("sums.source", "n", 2)
        await run.restart()
        await run.emit("sums.source", "n", 4)

        assert run.events(TOTAL) == [(2,), (4,)]


async def test_what_is_waited_for_in_vain_says_how_the_sources_are(adding):
    manager = adding(Fail(OSError("no route")), restarts=RestartPolicy(failures=0))
    async with run_managers(manager, clock=SystemClock()) as run:
        run.start_sources()
        with pytest.raises(TimeoutError, match=r"'sums.source': 'quarantined'.*no route"):
            await run.until(lambda: False, within_seconds=0.05)


async def test_on_the_clock_of_the_machine_time_is_real(adding):
    async with run_managers(adding(Pause(0.05), Emit("n", 1)), clock=SystemClock()) as run:
        began = asyncio.get_running_loop().time()
        run.start_sources()
        await run.ended()

        assert asyncio.get_running_loop().time() - began >= 0.05
        assert run.events(TOTAL) == [(1,)]


async def test_the_sources_are_stopped_at_the_end_whatever_happened(adding):
    async def fail():
        async with run_managers(adding(cls=Poller)) as run:
            run.start_sources()
            await run.until(lambda: run.events(TOTAL))
            raise LookupError

    with pytest.raises(LookupError):
        await fail()

    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert tasks == []


async def test_a_component_may_refuse_what_is_emitted(adding):
    async with run_managers(adding(cls=Feed)) as run:
        with pytest.raises(CodecError):
            await run.emit("sums.source", "n", object())


# --- what does not exist


@pytest.mark.parametrize("name", ["sums.sorce", "nothing"])
async def test_a_source_that_does_not_exist_is_refused_with_the_nearest(adding, name):
    async with run_managers(adding(cls=Feed)) as run:
        for call in (run.source, run.start_sources):
            with pytest.raises(ConfigurationError, match=r"sums\.source"):
                call(name)
        with pytest.raises(ConfigurationError, match=r"sums\.source"):
            await run.emit(name, "n", 1)


async def test_an_event_of_no_component_is_refused_with_the_nearest(adding):
    async with run_managers(adding(cls=Feed)) as run:
        for call in (run.events, run.records):
            with pytest.raises(ConfigurationError, match=r"did you mean sums\.adds\?"):
                call("sums.add.total")
        assert run.events("sums.adds.never_emitted") == []


async def test_managers_of_one_name_in_different_tests_are_told_apart():
    def declare(number):
        class Only(Manager):
            name = "only"

            def __init__(self, handler):
                super().__init__(handler)
                self.source = ScriptedSource("only.source", handler, [Emit("n", number)])

        return Only

    kept = [declare(1), declare(2)]
    for number, manager in enumerate(kept, 1):
        async with run_managers(manager) as run:
            run.start_sources()
            await run.ended()
            assert run.events("only.source.n") == [(number,)]
    kept.clear()
    del manager
    gc.collect()


# --- a flow


@pytest.fixture
def config(adding):
    manager = adding(Emit("n", 1), name="flown")
    return SimpleNamespace(FLOWS=["flown"], manager=manager)


@pytest.mark.parametrize("cls", [Flow, AsyncFlow])
async def test_a_flow_is_run(config, cls):
    async with run_flow(cls(config, "flow")) as run:
        run.start_sources()
        await run.ended()

        assert run.events("flown.adds.total") == [(1,)]


async def test_a_flow_in_process_does_not_run_on_kafka(config):
    with pytest.raises(ConfigurationError, match="runs in process only"):
        async with run_flow(Flow(config, "flow"), broker="k:1"):
            pass


async def test_a_wrong_flow_is_said_so():
    with pytest.raises(GraphError, match="no_such_manager"):
        async with run_flow(Flow(SimpleNamespace(FLOWS=["no_such_manager"]), "flow")):
            pass
