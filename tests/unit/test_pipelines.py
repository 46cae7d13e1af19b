import asyncio
import contextlib

import pytest

from aiopype import Source, SyncProtocol, pipelines
from aiopype.errors import CircuitOpen, GraphError, SourceSilent
from aiopype.pipelines import Pipelines
from aiopype.restarts import RestartPolicy
from aiopype.sources import TopicSource
from aiopype.states import State
from aiopype.supervision import Supervisor

#: Restarts without a delay and without an end.
AT_ONCE = RestartPolicy(first_delay_seconds=0, last_delay_seconds=0, failures=10**9)


class Ticker(Source):
    """Emits `tick` for ever, and notes when it is cancelled."""

    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.starts = 0
        self.is_cancelled = False

    async def start(self):
        self.starts += 1
        try:
            while True:
                await self.emit_async("tick", self.starts)
                await asyncio.sleep(0)
        finally:
            self.is_cancelled = True


class Failing(Source):
    """Raises soon."""

    async def start(self):
        await asyncio.sleep(0)
        raise LookupError("mine")


@pytest.fixture
def sources(declare):
    """Declares a manager with one source of each of these classes; returns its name."""

    def make(*classes, **attributes):
        def wire(manager):
            for cls in classes:
                name = manager.build_processor_name(cls.__name__.lower())
                setattr(manager, cls.__name__.lower(), cls(name, manager.handler))

        return declare(wire, **attributes).name

    return make


@pytest.fixture
async def running():
    """Builds the pipelines of these managers and starts their sources; stops them at the end."""
    started = []

    def start(*names, **options):
        started.append(Pipelines(names, SyncProtocol(), **options))
        started[-1].start_sources()
        return started[-1]

    yield start
    for one in started:
        await one.stop_sources()


# --- building


def test_managers_are_built_in_the_order_they_are_named(sources):
    names = [sources(), sources(), sources()][::-1]

    built = Pipelines(names, SyncProtocol())

    assert [manager.name for manager in built.managers] == names


def test_the_wiring_is_closed_when_all_are_built(sources, collector):
    protocol = SyncProtocol()

    Pipelines([sources()], protocol)

    with pytest.raises(GraphError, match="after the start"):
        collector("late.sink", protocol)


def test_a_component_that_is_not_named_after_its_manager_is_refused(declare, collector):
    manager = declare(lambda manager: collector("sink", manager.handler))

    with pytest.raises(GraphError, match=r"component 'sink' .* self.build_processor_name"):
        Pipelines([manager.name], SyncProtocol())


def test_a_manager_with_a_dot_in_its_name_is_refused(declare):
    manager = declare(name="a.b")

    with pytest.raises(GraphError, match=r"manager name 'a.b': a '.' separates"):
        Pipelines([manager.name], SyncProtocol())


def test_an_unknown_manager_is_refused():
    with pytest.raises(GraphError, match="does not exist"):
        Pipelines(["no_such_manager"], SyncProtocol())


# --- running


async def test_every_source_of_every_manager_is_started(sources, running, until):
    built = running(sources(Ticker), sources(Ticker))

    await until(lambda: all(manager.ticker.starts for manager in built.managers))


async def test_a_source_is_made_ready_before_it_runs(sources, until):
    built = Pipelines([sources(Ticker)], SyncProtocol())
    (manager,) = built.managers
    heard = []

    async def prepare(source):
        heard.append((source, source.starts))

    built.start_source(manager.ticker.name, prepare)

    await until(lambda: manager.ticker.starts)
    assert heard == [(manager.ticker, 0)]
    await built.stop_sources()


async def test_stopped_sources_are_cancelled_and_their_end_is_awaited(sources, running, until):
    built = running(sources(Ticker))
    (manager,) = built.managers
    await until(lambda: manager.ticker.starts)

    await built.stop_sources()

    assert manager.ticker.is_cancelled
    assert built.supervisor.failures == {}


async def test_stopped_sources_can_be_started_again(sources, running, until):
    built = running(sources(Ticker))
    (manager,) = built.managers
    await until(lambda: manager.ticker.starts == 1)
    await built.stop_sources()

    built.start_sources()

    await until(lambda: manager.ticker.starts == 2)


async def test_sources_can_be_stopped_as_soon_as_they_are_started(sources):
    built = Pipelines([sources(Ticker)], SyncProtocol())

    built.start_sources()
    await built.stop_sources()

    assert built.supervisor.failures == {}


async def test_a_source_that_raises_is_down_and_its_neighbours_run_on(sources, running, until):
    name = sources(Failing, Ticker)

    built = running(name)
    await until(lambda: built.supervisor.failures)

    assert isinstance(built.supervisor.failures[f"{name}.failing"], LookupError)
    assert built.supervisor.is_running(name)
    assert not built.managers[0].ticker.is_cancelled


async def test_a_source_that_raised_is_started_again(sources, running, until):
    class Twice(Ticker):
        async def start(self):
            await super().start() if self.starts else await self.fail()

        async def fail(self):
            self.starts += 1
            raise LookupError("mine")

    built = running(sources(Twice, restarts=AT_ONCE))
    (manager,) = built.managers

    await until(lambda: manager.twice.starts == 2)
    assert built.supervisor.restarts[manager.twice.name] == 1
    assert built.supervisor.is_running(manager.twice.name)


async def test_a_source_is_made_ready_each_time_it_starts(sources, until):
    built = Pipelines([sources(Failing, restarts=AT_ONCE)], SyncProtocol())
    heard = []

    async def prepare(source):
        heard.append(source)

    built.start_source(built.managers[0].failing.name, prepare)

    await until(lambda: len(heard) >= 3)
    await built.stop_sources()


async def test_a_source_beyond_its_budget_is_in_quarantine(sources, running, until):
    policy = RestartPolicy(failures=2, first_delay_seconds=0)
    name = sources(Failing, restarts=policy)

    built = running(name)

    source = f"{name}.failing"
    await until(lambda: built.supervisor.status(source).state is State.QUARANTINED)
    assert built.supervisor.restarts[source] == 2


async def test_a_manager_that_fails_has_its_sources_stopped_and_started_again(
    sources, running, until
):
    built = running(sources(Ticker, restarts=AT_ONCE), sources(Ticker))
    failing, other = built.managers
    await until(lambda: failing.ticker.starts and other.ticker.starts)

    built.supervisor.fail(failing.name, LookupError(), "what")
    await until(lambda: failing.ticker.is_cancelled)
    await until(lambda: failing.ticker.starts == 2)

    assert not other.ticker.is_cancelled


async def test_a_source_is_not_started_beside_its_last_run(sources, running, until, turns):
    released = asyncio.Event()

    class Slow(Ticker):
        async def start(self):
            try:
                await super().start()
            finally:
                await released.wait()

    built = running(sources(Slow, restarts=AT_ONCE))
    (manager,) = built.managers
    await until(lambda: manager.slow.starts)

    built.supervisor.fail(manager.name, LookupError(), "what")
    await until(lambda: built.supervisor.is_running(manager.name))
    await turns()
    assert manager.slow.starts == 1

    released.set()
    await until(lambda: manager.slow.starts == 2)


async def test_a_last_run_that_does_not_end_is_a_failure(sources, until, monkeypatch):
    monkeypatch.setattr(pipelines, "STOP_SECONDS", 0.01)
    released = asyncio.Event()

    class Stuck(Ticker):
        async def start(self):
            try:
                await super().start()
            finally:
                await released.wait()

    policy = RestartPolicy(first_delay_seconds=0, failures=1)
    built = Pipelines([sources(Stuck, restarts=policy)], SyncProtocol())
    built.start_sources()
    (manager,) = built.managers
    await until(lambda: manager.stuck.starts)

    built.supervisor.fail(manager.name, LookupError(), "what")

    await until(lambda: manager.stuck.name in built.supervisor.failures)
    assert isinstance(built.supervisor.failures[manager.stuck.name], TimeoutError)
    released.set()
    await built.stop_sources()


async def test_sources_that_were_stopped_are_not_started_by_a_restart(sources, running, until):
    built = running(sources(Ticker, restarts=AT_ONCE))
    (manager,) = built.managers
    await until(lambda: manager.ticker.starts)
    built.supervisor.fail(manager.name, LookupError(), "what")

    await built.stop_sources()
    await until(lambda: built.supervisor.is_running(manager.name))

    assert manager.ticker.starts == 1


async def test_the_sources_of_a_manager_that_is_down_are_not_started(sources, running, until):
    built = running(sources(Ticker))
    (manager,) = built.managers
    await until(lambda: manager.ticker.starts)
    built.supervisor.fail(manager.name, LookupError(), "what")
    await built.stop_sources()

    built.start_sources()
    await built.stop_sources()

    assert manager.ticker.starts == 1


# --- ending


async def test_a_source_that_returns_has_ended(sources, running, numbers, until):
    built = running(sources(numbers, Ticker))
    (manager,) = built.managers

    await until(lambda: manager.numbers.is_done)

    assert not manager.ticker.is_done
    assert not manager.done


async def test_a_source_that_has_ended_is_not_started_again(sources, running, numbers, until):
    built = running(sources(numbers))
    (manager,) = built.managers
    await until(lambda: manager.numbers.is_done)
    ended = built.supervisor.status(manager.numbers.name)

    built.start_sources()

    assert built.supervisor.status(manager.numbers.name) is ended


async def test_in_process_a_manager_has_ended_when_its_sources_have(sources, running, numbers):
    name = sources(numbers)

    built = running(name, end_with_sources=True)

    await asyncio.wait_for(built.supervisor.none_left(), 5)
    assert built.supervisor.failures == {}


async def test_in_process_a_source_in_quarantine_is_not_waited_for(sources, running, numbers):
    bad, good = sources(Failing, restarts=RestartPolicy(failures=0)), sources(numbers)

    built = running(bad, good, end_with_sources=True)

    await asyncio.wait_for(built.supervisor.none_left(), 5)
    assert built.supervisor.has_given_up
    assert built.supervisor.status(good).state is State.ENDED


async def test_in_process_a_manager_without_sources_has_ended_at_once(sources, running):
    name = sources()

    built = running(name, end_with_sources=True)

    assert not built.supervisor.is_running(name)


async def test_on_kafka_a_manager_goes_on_without_its_sources(sources, running, numbers, until):
    name = sources(numbers)
    built = running(name)

    await until(lambda: built.managers[0].numbers.is_done)

    assert built.supervisor.is_running(name)


async def test_a_source_that_shall_always_run_is_started_again(
    sources, running, until, monkeypatch
):
    monkeypatch.setattr(pipelines, "AGAIN_SECONDS", 0)

    class Short(Ticker):
        async def start(self):
            self.starts += 1

    built = running(sources(Short, run_always=True), end_with_sources=True)
    (manager,) = built.managers

    await until(lambda: manager.short.starts >= 3)
    assert not manager.short.is_done


async def test_a_source_without_an_owner_has_no_task_and_does_not_end_its_manager(declare):
    def wire(manager):
        manager.feed = TopicSource(f"{manager.name}.feed", manager.handler, "orders")

    name = declare(wire).name
    built = Pipelines([name], SyncProtocol(), end_with_sources=True)

    built.start_sources()
    await asyncio.sleep(0)

    assert built.sources == {}
    assert built.supervisor.sources == {}
    assert not built.managers[0].done
    assert built.supervisor.status(name).state is State.RUNNING
    await built.stop_sources()


# --- in place of `start`


async def test_what_is_run_of_a_source_can_be_another_thing(sources, until):
    built = Pipelines([sources(Ticker)], SyncProtocol(), end_with_sources=True)
    (manager,) = built.managers
    ran = []

    async def run(source):
        ran.append(source)

    built.run_source = run
    built.start_sources()

    await asyncio.wait_for(built.supervisor.none_left(), 5)
    assert ran == [manager.ticker]
    assert manager.ticker.is_done
    assert manager.ticker.starts == 0


async def test_a_run_in_place_of_start_is_not_repeated_though_the_manager_always_runs(sources):
    built = Pipelines([sources(Ticker, run_always=True)], SyncProtocol(), end_with_sources=True)
    ran = []

    async def run(source):
        ran.append(source)

    built.run_source = run
    built.start_sources()

    await asyncio.wait_for(built.supervisor.none_left(), 5)
    assert len(ran) == 1


def test_managers_are_named_or_given_themselves(declare):
    first, second, third = declare(), declare(), declare()

    built = Pipelines([second, third.name, first], SyncProtocol())

    assert [type(manager) for manager in built.managers] == [second, third, first]


def test_of_two_managers_of_one_name_the_given_one_is_built(declare):
    first = declare(name="twice")
    declare(name="twice")

    built = Pipelines([first], SyncProtocol())

    assert type(built.managers[0]) is first


def test_a_supervisor_of_ones_own_watches(sources):
    made = []

    def supervise(managers, **options):
        made.append(Supervisor(managers, **options))
        return made[-1]

    built = Pipelines([sources()], SyncProtocol(), supervise=supervise)

    assert made == [built.supervisor]


# --- one source


class Counting(Ticker):
    """Goes on from its position; fails when it is told to, or ends.

    Attributes:
        found: the positions it was started with.
        work: awaited after a position was given that no event followed.
    """

    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.found = []

    async def start(self):
        self.found.append(self.position)
        n = (self.position or 0) + 1
        self.checkpoint(n)
        await self.emit_async("number", n)
        self.checkpoint(n + 100)
        await self.work()

    async def work(self):
        pass


async def test_a_position_that_no_event_followed_is_none_of_a_source_that_failed(
    sources, running, until
):
    class Fails(Counting):
        async def work(self):
            raise LookupError("mine")

    built = running(sources(Fails, restarts=AT_ONCE))
    (manager,) = built.managers

    await until(lambda: len(manager.fails.found) >= 3)

    assert manager.fails.found[:3] == [None, 1, 2]


async def test_a_position_that_no_event_followed_is_kept_of_a_source_that_ended(
    sources, running, until
):
    built = running(sources(Counting))
    (manager,) = built.managers

    await until(lambda: manager.counting.is_done)

    assert manager.counting.position == 101


async def test_so_it_is_kept_of_one_that_shall_always_run(sources, running, until, monkeypatch):
    class FailsAtItsSecondStart(Counting):
        async def start(self):
            if len(self.found) == 1:
                self.found.append(self.position)
                raise LookupError("mine")
            await super().start()

    monkeypatch.setattr(pipelines, "AGAIN_SECONDS", 0)
    built = running(sources(FailsAtItsSecondStart, run_always=True, restarts=AT_ONCE))
    source = built.managers[0].failsatitssecondstart
    await until(lambda: len(source.found) >= 3)

    assert source.found[:3] == [None, 101, 101]


async def test_one_source_can_be_stopped_and_started_beside_others(sources, running, until):
    class Other(Ticker):
        pass

    built = running(sources(Ticker, Other))
    (manager,) = built.managers
    await until(lambda: manager.ticker.starts and manager.other.starts)

    await built.stop_source(manager.ticker.name)
    assert manager.ticker.is_cancelled
    assert not manager.other.is_cancelled

    built.start_source(manager.ticker.name)
    await until(lambda: manager.ticker.starts == 2)


async def test_what_makes_a_source_ready_and_fails_is_a_failure_of_the_source(sources, until):
    built = Pipelines([sources(Ticker)], SyncProtocol())
    (manager,) = built.managers
    error = LookupError("not ready")

    async def prepare(source):
        raise error

    built.start_source(manager.ticker.name, prepare)

    await until(lambda: built.supervisor.failures)
    assert built.supervisor.failures == {manager.ticker.name: error}
    assert manager.ticker.starts == 0
    built.supervisor.stop()
    await built.stop_sources()


async def test_the_sources_own_restarts_come_before_its_managers(sources, running, until):
    class Patient(Failing):
        restarts = AT_ONCE

    built = running(sources(Patient, restarts=RestartPolicy(failures=0)))
    (manager,) = built.managers

    await until(lambda: built.supervisor.restarts[manager.patient.name] >= 3)


class Slow(Ticker):
    """Takes its time to end: until `released` is set, however often it is cancelled."""

    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.released = asyncio.Event()

    async def start(self):
        try:
            await super().start()
        finally:
            while not self.released.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await self.released.wait()


async def test_a_source_that_did_not_end_in_time_is_not_started_beside_itself(
    sources, running, until, turns, monkeypatch
):
    built = running(sources(Slow, restarts=AT_ONCE))
    (manager,) = built.managers
    await until(lambda: manager.slow.starts)
    monkeypatch.setattr(pipelines, "STOP_SECONDS", 0.01)
    await built.stop_source(manager.slow.name)
    monkeypatch.setattr(pipelines, "STOP_SECONDS", 5.0)

    built.start_source(manager.slow.name)
    await turns()
    assert manager.slow.starts == 1

    manager.slow.released.set()
    await until(lambda: manager.slow.starts == 2)


async def test_a_stop_that_was_interrupted_can_be_asked_for_again(sources, running, until, turns):
    built = running(sources(Slow))
    (manager,) = built.managers
    await until(lambda: manager.slow.starts)
    stopping = asyncio.create_task(built.stop_source(manager.slow.name))
    await turns()
    stopping.cancel()
    await asyncio.wait([stopping])

    again = asyncio.create_task(built.stop_source(manager.slow.name))
    await turns()
    assert not again.done()

    manager.slow.released.set()
    await asyncio.wait_for(again, 5)


async def test_a_source_that_is_silent_is_started_again(sources, running, until):
    class Silent(Ticker):
        expect_every = 0.01

        async def start(self):
            self.starts += 1
            await asyncio.get_running_loop().create_future()

    built = running(sources(Silent, restarts=AT_ONCE))
    (manager,) = built.managers
    failed = []
    built.supervisor.on_failure(lambda name: failed.append(built.supervisor.failures[name]))

    await until(lambda: manager.silent.starts >= 3)
    assert {type(error) for error in failed} == {SourceSilent}


async def test_a_source_whose_circuit_opens_is_in_quarantine_at_once(sources, running, until):
    class Refused(Ticker):
        async def start(self):
            raise CircuitOpen("10 errors in a row")

    built = running(sources(Refused, Ticker))
    (manager,) = built.managers

    status = built.supervisor.status
    await until(lambda: status(manager.refused.name).state is State.QUARANTINED)
    assert not manager.ticker.is_cancelled
