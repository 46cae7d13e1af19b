"""What a worker does of what operators wish of the sources it was given."""

import asyncio

import pytest

from aiopype import AsyncProtocol, RestartPolicy, Source, sourcing
from aiopype.errors import EmitError, StateCorrupt
from aiopype.ownership import Wish
from aiopype.pipelines import Pipelines
from aiopype.sourcing import Sources
from aiopype.states import State

NAMES = ("quotes.a", "quotes.b")


class Outbox:
    """Keeps what was done with it.

    Attributes:
        opens: how often it was opened.
        told: what it was to say of wishes, one after the other.
        error: what `open` raises.
    """

    def __init__(self):
        self.opens, self.told, self.error = 0, [], None
        self.count = 0
        self.epoch = 1
        self.position = None
        self.is_admitted = self.is_discarded = self.is_open = False
        self.flush_error = None

    def obey(self, is_paused, restart):
        if (is_paused, restart) not in self.told[-1:]:
            self.told.append((is_paused, restart))

    def tell(self, stopped):
        pass

    async def open(self):
        self.opens += 1
        if self.error is not None:
            raise self.error
        self.is_open = True
        return True

    async def run(self):
        await asyncio.get_running_loop().create_future()

    async def flush(self):
        if self.flush_error is not None:
            raise self.flush_error

    def admit(self):
        self.is_admitted = True

    def discard(self):
        self.is_discarded, self.is_open = True, False

    def forget_pending(self):
        pass


class Waits(Source):
    """Counts its starts; ends if it shall."""

    ends = False
    starts = 0

    async def start(self):
        self.starts += 1
        if not self.ends:
            await asyncio.get_running_loop().create_future()


@pytest.fixture
def outboxes(monkeypatch):
    """The outboxes that were made, by source."""
    made = {}
    monkeypatch.setattr(
        sourcing, "SourceOutbox", lambda name, owning: made.setdefault(name, Outbox())
    )
    return made


@pytest.fixture
def pipelines(declare):
    def wire(manager):
        for name in "ab":
            Waits(manager.build_processor_name(name), manager.handler)

    declare(wire, name="quotes", restarts=RestartPolicy(first_quarantine_seconds=1_000))
    return Pipelines(["quotes"], AsyncProtocol())


@pytest.fixture
def wishes():
    return {}


@pytest.fixture
async def sources(pipelines, wishes, outboxes, until):
    """Both sources are this worker's, and run."""
    made = Sources(pipelines, pipelines.protocol, None, wishes)
    made.start(lambda: None)
    made.assign(frozenset(NAMES))
    await until(lambda: all(s.starts for s in pipelines.sources.values()))
    yield made
    pipelines.supervisor.stop()
    await made.stop()


@pytest.fixture
def wish(sources, wishes):
    def make(name, **given):
        wishes[name] = Wish(**given)
        sources.look_again()

    return make


@pytest.fixture
def a(pipelines):
    return pipelines.sources["quotes.a"]


@pytest.fixture
def b(pipelines):
    return pipelines.sources["quotes.b"]


async def test_what_is_paused_stops_and_says_so_and_the_other_runs_on(
    sources, wish, pipelines, outboxes, until, a, b
):
    wish("quotes.a", is_paused=True)

    await until(lambda: outboxes["quotes.a"].told == [(False, 0), (True, 0)])
    assert pipelines.protocol.progress.sources == {"quotes.b"}
    assert (a.starts, b.starts) == (1, 1)
    assert outboxes["quotes.b"].told == [(False, 0)]
    assert sources.held.keys() == set(NAMES)  # nobody else gets it


async def test_what_is_resumed_starts_and_says_so(wish, outboxes, until, a):
    wish("quotes.a", is_paused=True)
    await until(lambda: outboxes["quotes.a"].told[-1] == (True, 0))

    wish("quotes.a")

    await until(lambda: a.starts == 2)
    assert outboxes["quotes.a"].told[-1] == (False, 0)
    assert outboxes["quotes.a"].opens == 1  # nothing happened to it meanwhile


async def test_a_restart_reads_again_where_the_source_is(wish, outboxes, until, a, b):
    wish("quotes.a", restart=1)

    await until(lambda: a.starts == 2)
    assert outboxes["quotes.a"].opens == 2
    assert outboxes["quotes.a"].is_discarded
    assert outboxes["quotes.a"].told == [(False, 0), (False, 1)]
    assert (b.starts, outboxes["quotes.b"].opens) == (1, 1)


async def test_a_restart_starts_what_had_ended(sources, wish, pipelines, until, a):
    a.ends = True
    wish("quotes.a", restart=1)
    await until(lambda: a.is_done)

    wish("quotes.a", restart=2)

    await until(lambda: a.starts == 3)


async def test_a_pause_leaves_what_had_ended_ended(wish, outboxes, until, a):
    a.ends = True
    wish("quotes.a", restart=1)
    await until(lambda: a.is_done)

    wish("quotes.a", restart=1, is_paused=True)
    await until(lambda: outboxes["quotes.a"].told[-1] == (True, 1))
    wish("quotes.a", restart=1)

    await until(lambda: outboxes["quotes.a"].told[-1] == (False, 1))
    assert a.starts == 2


async def test_a_restart_ends_a_quarantine(wish, pipelines, outboxes, until, a, b):
    outboxes["quotes.a"].error = StateCorrupt("garbage")
    wish("quotes.a", restart=1)
    supervisor = pipelines.supervisor
    await until(lambda: supervisor.status("quotes.a").state is State.QUARANTINED)
    assert b.starts == 1

    outboxes["quotes.a"].error = None
    wish("quotes.a", restart=2)

    await until(lambda: a.starts == 2)
    assert supervisor.status("quotes.a").state is State.RUNNING


async def test_what_is_paused_before_it_came_is_not_opened(
    pipelines, wishes, outboxes, until, a, b
):
    wishes["quotes.a"] = Wish(is_paused=True)
    made = Sources(pipelines, pipelines.protocol, None, wishes)
    made.start(lambda: None)

    made.assign(frozenset(NAMES))

    await until(lambda: b.starts)
    assert a.starts == 0
    assert outboxes.keys() == {"quotes.b"}
    await made.stop()


async def test_a_source_that_starts_says_which_restart_it_knows(pipelines, wishes, outboxes, until):
    wishes["quotes.a"] = Wish(restart=7)
    made = Sources(pipelines, pipelines.protocol, None, wishes)
    made.start(lambda: None)

    made.assign(frozenset({"quotes.a"}))

    await until(lambda: "quotes.a" in outboxes and outboxes["quotes.a"].opens)
    assert outboxes["quotes.a"].told == [(False, 7)]
    await made.stop()


async def test_a_source_may_put_in_what_it_emits_when_it_starts(sources, outboxes):
    assert outboxes["quotes.a"].is_admitted


async def test_what_another_has_taken_is_given_up_without_its_events(sources, outboxes, until):
    outboxes["quotes.a"].flush_error = EmitError("another has written")

    sources.assign(frozenset({"quotes.b"}))

    await until(lambda: sources.held.keys() == {"quotes.b"})
