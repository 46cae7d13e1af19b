import asyncio

import pytest

from aiopype import Source, SyncProtocol, pipelines
from aiopype.errors import GraphError, HandlerError
from aiopype.pipelines import Pipelines


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


class Broken(Source):
    """Raises at once, before any other source has begun."""

    async def start(self):
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


async def test_the_one_who_starts_hears_of_each_source_before_it_runs(sources):
    built = Pipelines([sources(Ticker), sources(Ticker)], SyncProtocol())
    heard = []

    built.start_sources(lambda source: heard.append((source, source.starts)))

    assert heard == [(manager.ticker, 0) for manager in built.managers]
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


async def test_a_source_that_raises_stops_its_manager_and_no_other(sources, running, until):
    bad, good = sources(Failing, Ticker), sources(Ticker)

    built = running(bad, good)
    await until(lambda: built.supervisor.failures)

    assert isinstance(built.supervisor.failures[bad], LookupError)
    await until(lambda: built.managers[0].ticker.is_cancelled)
    assert built.supervisor.is_running(good)
    assert not built.managers[1].ticker.is_cancelled


async def test_a_source_that_raises_at_once_stops_those_that_have_not_begun(
    sources, running, until
):
    built = running(sources(Broken, Ticker))

    await until(lambda: built.supervisor.failures)
    await built.stop_sources()

    assert built.managers[0].ticker.starts == 0


async def test_a_handler_that_raises_stops_its_manager(declare, running, numbers, collector, until):
    def wire(manager):
        source = numbers(manager.build_processor_name("source"), manager.handler)
        sink = collector(manager.build_processor_name("sink"), manager.handler)
        source.on("number", sink.done)  # takes no argument

    manager = declare(wire)

    built = running(manager.name)
    await until(lambda: built.supervisor.failures)

    assert isinstance(built.supervisor.failures[manager.name], HandlerError)


async def test_the_sources_of_a_failed_manager_are_not_started_again(sources, running, until):
    built = running(sources(Failing, Ticker))
    (manager,) = built.managers
    await until(lambda: manager.ticker.is_cancelled)
    await built.stop_sources()
    starts = manager.ticker.starts

    built.start_sources()
    await built.stop_sources()

    assert manager.ticker.starts == starts


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
    heard = []

    built.start_sources(heard.append)

    assert heard == []


async def test_in_process_a_manager_has_ended_when_its_sources_have(sources, running, numbers):
    name = sources(numbers)

    built = running(name, end_with_sources=True)

    await asyncio.wait_for(built.supervisor.none_left(), 5)
    assert built.supervisor.failures == {}


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
