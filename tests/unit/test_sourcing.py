import asyncio
import logging
from collections import defaultdict, deque

import pytest

from aiopype import AsyncProtocol, RestartPolicy, Source, sourcing
from aiopype.errors import (
    DeliveryError,
    EmitError,
    OutputRefused,
    OwnershipLost,
    SourceError,
    StateCorrupt,
)
from aiopype.ownership import Wish
from aiopype.pipelines import Pipelines
from aiopype.sourcing import Sources
from aiopype.states import State

A, B = "quotes.a", "quotes.b"


class Emits(Source):
    """Emits numbers from its position on, one each time it is told to; notes how it goes.

    Attributes:
        ends: whether it returns after the first number.
        steps: what it did.
        go: lets it emit the next number.
        tidy: awaited when it is cancelled.
    """

    ends = False

    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.steps = []
        self.go = asyncio.Event()

    async def start(self):
        n = self.position or 0
        self.steps.append(f"from {n}")
        try:
            while True:
                n += 1
                self.checkpoint(n)
                await self.emit_async("number", n)
                if self.ends:
                    return
                await self.go.wait()
                self.go.clear()
        except asyncio.CancelledError:
            self.steps.append("cancelled")
            await self.tidy()
            raise

    async def tidy(self):
        pass


class FakeOutbox:
    """Takes what a source emits, and writes it while it is allowed to.

    Attributes:
        written: what is durable; count: how many events wait.
        steps: what was done with it.
        errors: raised by the next `open`s; None opens.
        failures: raised by `run`, one each, when something waits.
        may_write: cleared, nothing becomes durable.
        told: what was said of whether the source runs, one after the other; None is that it does.
        said: how often that was written alone.
    """

    def __init__(self, name, owning):
        self.name = name
        self.epoch = 0
        self.steps, self.written, self.waiting = [], [], []
        self.told, self.said = [None], 0
        self.errors, self.failures = owning.errors[name], owning.failures[name]
        self.may_write = asyncio.Event()
        self.may_write.set()
        self._put = self._pending = None
        self._filled = asyncio.Event()
        self.is_gone = self.is_open = False
        owning.outboxes[name].append(self)

    @property
    def count(self):
        return len(self.waiting)

    @property
    def position(self):
        return self._pending or self._put

    def checkpoint(self, position):
        self._pending = position

    def forget_pending(self):
        self._pending = None

    def admit(self):
        self.steps.append("admit")

    def obey(self, is_paused, restart):
        self.steps.append(("paused", restart) if is_paused else ("runs", restart))

    def tell(self, stopped):
        if stopped != self.told[-1]:
            self.told.append(stopped)

    async def say(self):
        self.said += 1

    def discard(self):
        self.is_open = False
        self.steps.append("discard")

    async def open(self):
        self.steps.append("open")
        await asyncio.sleep(0)
        if self.errors and (error := self.errors.popleft()):
            raise error
        self.epoch += 1
        self.is_open = True

    async def put(self, topic, key, value):
        self.waiting.append(int(value.strip(b"[]")))
        self._put, self._pending = self._pending or self._put, None
        self._filled.set()

    async def flush(self):
        self.steps.append("flush")
        if self.is_gone:
            raise EmitError("another has written")
        while self.waiting:
            await asyncio.sleep(0.001)

    async def run(self):
        while True:
            await self._filled.wait()
            await self.may_write.wait()
            if self.failures:
                raise self.failures.popleft()
            self.written += self.waiting
            self.waiting.clear()
            self._filled.clear()


class FakeOwning:
    """What the outboxes share: here what they do wrong.

    Attributes:
        outboxes: those that were made of each source.
        errors, failures: of each source; see `FakeOutbox`.
    """

    def __init__(self):
        self.outboxes = defaultdict(list)
        self.errors, self.failures = defaultdict(deque), defaultdict(deque)


@pytest.fixture
async def owning(monkeypatch):
    monkeypatch.setattr(sourcing, "SourceOutbox", FakeOutbox)
    monkeypatch.setattr(sourcing, "RETRY_SECONDS", 0)
    return FakeOwning()


@pytest.fixture
async def pipelines(declare):
    def wire(manager):
        for name in ("a", "b"):
            setattr(manager, name, Emits(manager.build_processor_name(name), manager.handler))

    declare(
        wire,
        name="quotes",
        restarts=RestartPolicy(first_delay_seconds=0, last_delay_seconds=0, failures=10**6),
    )
    made = Pipelines(["quotes"], AsyncProtocol())
    yield made
    made.supervisor.stop()


@pytest.fixture
def source(pipelines):
    """The source `quotes.a`."""
    return pipelines.managers[0].a


@pytest.fixture
def wishes():
    return {}


@pytest.fixture
def told():
    """How often it was told that sources have been given up."""
    return []


@pytest.fixture
async def sources(pipelines, owning, wishes, told):
    made = Sources(pipelines, pipelines.protocol, owning, wishes)
    made.start(lambda: told.append(True))
    yield made
    await made.stop()


@pytest.fixture
def failed(pipelines):
    """What failed, and with which error."""
    found = []
    supervisor = pipelines.supervisor
    supervisor.on_failure(lambda name: found.append((name, supervisor.failures[name])))
    return found


@pytest.fixture
def outbox(owning):
    """The last outbox that was made of a source."""
    return lambda name=A: owning.outboxes[name][-1]


@pytest.fixture
def assign(sources, owning, until):
    """Assigns sources and waits until each has written; returns when all that is over."""

    async def make(*names):
        sources.assign(frozenset(names))
        await until(
            lambda: all(owning.outboxes[n] and owning.outboxes[n][-1].written for n in names)
        )

    return make


# --- what is assigned


async def test_nothing_runs_that_is_not_assigned(sources, source, owning, turns):
    await turns()

    assert source.steps == []
    assert sources.held == {}


async def test_what_is_assigned_is_owned_then_run_and_what_it_emits_is_written(
    assign, sources, source, outbox, pipelines
):
    await assign(A)

    assert outbox().steps[:4] == [("runs", 0), "discard", "open", "admit"]
    assert outbox().written == [1]
    assert source.steps == ["from 0"]
    assert sources.held == {A: 1}
    assert pipelines.protocol.progress.sources == {A}
    assert pipelines.managers[0].b.steps == []


async def test_what_is_assigned_again_runs_on(assign, sources, source, turns):
    await assign(A)

    sources.assign(frozenset({A}))
    await turns()

    assert source.steps == ["from 0"]


async def test_what_is_assigned_and_no_source_of_this_program_is_passed_over(
    sources, assign, source
):
    await assign(A)

    sources.assign(frozenset({A, "quotes.gone"}))

    assert sources.held == {A: 1}


async def test_what_is_assigned_to_another_is_stopped_and_written_before_it_is_given_up(
    assign, sources, source, outbox, told, until, pipelines
):
    await assign(A, B)
    outbox().may_write.clear()
    source.go.set()
    await until(lambda: outbox().count)

    sources.assign(frozenset({B}))
    await until(lambda: "flush" in outbox().steps)
    assert source.steps == ["from 0", "cancelled"]
    assert sources.held == {A: 1, B: 1}
    assert told == []

    outbox().may_write.set()
    await until(lambda: told)
    assert sources.held == {B: 1}
    assert outbox().written == [1, 2]
    assert pipelines.protocol.progress.sources == {B}


async def test_what_is_given_up_and_comes_back_is_owned_anew(
    assign, sources, source, owning, until
):
    await assign(A)
    sources.assign(frozenset())
    await until(lambda: not sources.held)

    sources.assign(frozenset({A}))

    await until(lambda: len(owning.outboxes[A]) == 2 and owning.outboxes[A][1].written)
    assert source.steps == ["from 0", "cancelled", "from 0"]


async def test_who_gives_nothing_up_tells_nobody(assign, sources, told, turns):
    await assign(A)
    sources.assign(frozenset({A, B}))
    await turns()

    assert told == []


async def test_what_can_no_longer_be_written_is_given_up_all_the_same(
    assign, sources, source, outbox, told, until, monkeypatch, caplog
):
    monkeypatch.setattr(sourcing, "FLUSH_SECONDS", 0.01)
    await assign(A)
    outbox().may_write.clear()
    source.go.set()
    await until(lambda: outbox().count)

    sources.assign(frozenset())
    await until(lambda: told)

    assert sources.held == {}
    assert "1 events of source quotes.a are dropped unwritten" in caplog.text


async def test_of_what_another_owner_has_passed_nothing_is_waited_for(
    assign, sources, outbox, told, until
):
    await assign(A)
    outbox().is_gone = True

    sources.assign(frozenset())

    await until(lambda: told)
    assert sources.held == {}


async def test_a_source_that_has_been_given_up_can_emit_no_more(
    assign, sources, source, told, until
):
    await assign(A)
    sources.assign(frozenset())
    await until(lambda: told)

    with pytest.raises(EmitError, match="no source that runs on this worker now"):
        source.emit("number", 1)


async def test_what_the_group_says_last_counts_also_when_much_is_to_do(
    assign, sources, source, pipelines, until, turns
):
    tidied = asyncio.Event()
    source.tidy = tidied.wait
    await assign(A)

    sources.assign(frozenset({B}))  # for which A has to end first
    await until(lambda: "cancelled" in source.steps)
    sources.assign(frozenset())
    tidied.set()
    await until(lambda: not sources.held)
    await turns()

    assert pipelines.managers[0].b.steps == []


# --- what is wished


async def test_a_paused_source_is_not_started(sources, wishes, source, turns):
    wishes[A] = Wish(is_paused=True)

    sources.assign(frozenset({A}))
    await turns()

    assert source.steps == []


async def test_a_source_that_is_paused_is_stopped_kept_and_told_of(
    assign, sources, wishes, source, outbox, until
):
    await assign(A)
    wishes[A] = Wish(is_paused=True)
    sources.look_again()
    await until(lambda: outbox().steps[-1] == ("paused", 0))

    assert source.steps == ["from 0", "cancelled"]
    assert sources.held == {A: 1}


async def test_a_source_that_is_resumed_goes_on_in_its_outbox(
    assign, sources, wishes, source, owning, outbox, until
):
    await assign(A)
    wishes[A] = Wish(is_paused=True)
    sources.look_again()
    await until(lambda: source.steps[-1] == "cancelled")

    wishes[A] = Wish()
    sources.look_again()
    await until(lambda: outbox().written == [1, 2])

    assert source.steps == ["from 0", "cancelled", "from 1"]
    assert len(owning.outboxes[A]) == 1
    assert outbox().steps[-2:] == [("runs", 0), "admit"]


async def test_a_source_that_shall_be_started_again_is_owned_again_first(
    assign, sources, wishes, source, outbox, until
):
    await assign(A)
    wishes[A] = Wish(restart=1)
    sources.look_again()
    await until(lambda: outbox().written == [1, 2])

    assert source.steps == ["from 0", "cancelled", "from 1"]
    assert outbox().steps[-4:] == [("runs", 1), "discard", "open", "admit"]


async def test_it_is_started_again_once_for_each_such_wish(
    assign, sources, wishes, source, outbox, until, turns
):
    wishes[A] = Wish(restart=3)
    await assign(A)
    sources.look_again()
    await turns()

    assert source.steps == ["from 0"]
    assert outbox().steps[0] == ("runs", 3)


async def test_a_source_that_has_ended_can_be_started_again(
    assign, sources, wishes, source, outbox, until
):
    source.ends = True
    await assign(A)
    await until(lambda: source.is_done)

    wishes[A] = Wish(restart=1)
    sources.look_again()

    await until(lambda: outbox().written == [1, 2])


async def test_a_source_in_quarantine_can_be_started_again(
    assign, sources, wishes, source, outbox, pipelines, until
):
    await assign(A)
    pipelines.supervisor.fail(A, StateCorrupt("garbage"), "what")
    await until(lambda: source.steps[-1] == "cancelled")

    wishes[A] = Wish(restart=1)
    sources.look_again()

    await until(lambda: outbox().written == [1, 2])
    assert pipelines.supervisor.is_running(A)


async def test_wishes_about_other_sources_disturb_nobody(assign, sources, wishes, source, turns):
    await assign(A)

    wishes[B] = Wish(is_paused=True)
    sources.look_again()
    await turns()

    assert source.steps == ["from 0"]


# --- without the group


async def test_without_a_word_of_the_group_the_sources_stop_and_nothing_is_claimed(
    assign, sources, source, until, caplog
):
    await assign(A)

    sources.suspend("no answer")

    assert sources.held == {}
    await until(lambda: source.steps == ["from 0", "cancelled"])
    assert "the sources of this worker are stopped: no answer" in caplog.text


async def test_what_waits_is_kept_for_when_the_group_says_that_it_is_this_workers_still(
    assign, sources, source, owning, outbox, until
):
    await assign(A)
    outbox().may_write.clear()
    source.go.set()
    await until(lambda: outbox().count)
    sources.suspend("no answer")
    await until(lambda: source.steps[-1] == "cancelled")

    sources.assign(frozenset({A}))
    outbox().may_write.set()
    await until(lambda: outbox().written == [1, 2, 3])

    assert source.steps[-1] == "from 2"
    assert len(owning.outboxes[A]) == 1


async def test_an_outbox_that_was_opening_again_meanwhile_is_opened_before_the_source_runs(
    assign, sources, source, outbox, until
):
    await assign(A)
    sources.suspend("no answer")
    await until(lambda: source.steps[-1] == "cancelled")
    outbox().is_open = False  # an error while it wrote what was left
    starts = len(source.steps)

    sources.assign(frozenset({A}))
    await until(lambda: len(source.steps) > starts)

    assert outbox().steps.count("open") == 2
    assert outbox().is_open


async def test_what_is_another_workers_after_that_is_given_up(assign, sources, source, told, until):
    await assign(A)
    sources.suspend("no answer")

    sources.assign(frozenset())

    await until(lambda: told)
    assert sources.held == {}


async def test_who_runs_nothing_says_nothing_of_it(sources, turns, caplog):
    sources.suspend("no answer")
    await turns()

    assert caplog.records == []


# --- what fails


async def test_a_source_that_fails_goes_on_in_its_outbox(
    assign, sources, source, owning, outbox, pipelines, until
):
    await assign(A)
    source.checkpoint(99)

    pipelines.supervisor.fail(A, LookupError(), "what")

    await until(lambda: outbox().written == [1, 2])
    assert source.steps == ["from 0", "cancelled", "from 1"]
    assert len(owning.outboxes[A]) == 1
    assert outbox().steps.count("open") == 1


@pytest.mark.parametrize("error", [OutputRefused("no"), SourceError("no")])
async def test_what_cannot_be_written_fails_its_source_which_is_owned_again_first(
    sources, source, owning, outbox, failed, pipelines, until, error
):
    owning.failures[A].append(error)
    sources.assign(frozenset({A}))

    await until(lambda: owning.outboxes[A] and outbox().written == [1, 2])

    assert failed == [(A, error)]
    assert source.steps == ["from 0", "cancelled", "from 1"]
    assert outbox().steps.count("open") == 2
    assert pipelines.supervisor.is_running("quotes")


async def test_a_source_whose_last_events_cannot_be_written_has_not_ended(
    sources, source, owning, outbox, pipelines, until
):
    source.ends = True
    owning.failures[A].append(OutputRefused("not allowed"))
    sources.assign(frozenset({A}))

    await until(lambda: owning.outboxes[A] and outbox().written)
    await until(lambda: pipelines.supervisor.status(A).state is State.ENDED)

    assert source.steps == ["from 0", "from 1"]
    assert outbox().written == [1, 2]


@pytest.mark.parametrize("error", [OwnershipLost("another's"), DeliveryError("no answer")])
async def test_who_cannot_own_a_source_yet_tries_again(assign, source, owning, pipelines, error):
    owning.errors[A].extend([error] * 3)

    await assign(A)

    assert source.steps == ["from 0"]
    assert pipelines.supervisor.failures == {}
    assert pipelines.supervisor.restarts[A] == 0


@pytest.mark.parametrize("error", [OutputRefused("not allowed"), StateCorrupt("garbage")])
async def test_who_may_never_own_a_source_has_failed_with_the_reason(
    sources, owning, failed, until, error
):
    owning.errors[A].append(error)
    sources.assign(frozenset({A}))

    await until(lambda: failed)

    assert failed == [(A, error)]


async def test_what_waits_for_the_group_is_tried_again_and_fails_nobody(
    sources, source, owning, outbox, pipelines, until, caplog
):
    owning.failures[A].extend([OwnershipLost("another's")] * 2)
    sources.assign(frozenset({A}))

    await until(lambda: owning.outboxes[A] and outbox().written == [1])

    assert caplog.text.count("events wait: another's") == 2
    assert pipelines.supervisor.restarts[A] == 0
    assert source.steps == ["from 0"]


async def test_a_manager_that_fails_has_its_sources_started_again_here(
    assign, source, outbox, pipelines, until
):
    await assign(A, B)

    pipelines.supervisor.fail("quotes", LookupError(), "what")

    await until(lambda: outbox(A).written == outbox(B).written == [1, 2])


# --- what is said of it


async def test_that_a_source_does_not_run_is_said_with_the_reason_until_it_runs_again(
    assign, source, outbox, pipelines, until
):
    await assign(A, B)
    source.restarts = None

    pipelines.supervisor.fail(A, LookupError(), "it broke")
    await until(lambda: outbox().written == [1, 2])

    assert [told and (told.state, told.reason) for told in outbox().told] == [
        None,
        ("restarting", "it broke"),
        None,
    ]
    assert outbox().told[1].again_ms >= outbox().told[1].since_ms
    assert outbox(B).told == [None]


async def test_of_a_manager_that_is_down_it_is_said_of_each_source(assign, outbox, pipelines):
    await assign(A, B)

    pipelines.supervisor.fail("quotes", StateCorrupt("no"), "it broke " + 1_000 * "x")

    for told in (outbox(A).told[-1], outbox(B).told[-1]):
        assert told.state == "quarantined"
        assert len(told.reason) == sourcing.REASON_CHARACTERS


async def test_that_a_source_has_ended_is_said(assign, source, outbox, until):
    source.ends = True
    await assign(A)
    await until(lambda: outbox().told[-1] is not None)

    assert outbox().told[-1].state == "ended"
    assert outbox().told[-1].again_ms is None


async def test_what_runs_elsewhere_is_not_spoken_of(
    assign, sources, outbox, pipelines, told, until
):
    await assign(A)
    sources.assign(frozenset())
    await until(lambda: told)

    pipelines.supervisor.fail(A, LookupError(), "what")

    assert outbox().told == [None]


async def test_of_a_source_whose_events_are_refused_it_is_written_alone(
    sources, owning, outbox, until
):
    owning.failures[A].append(OutputRefused("not allowed"))
    sources.assign(frozenset({A}))
    await until(lambda: owning.outboxes[A] and outbox().said)

    assert outbox().told[1].state == "restarting"
    assert "OutputRefused: not allowed" in outbox().told[1].reason


# --- what is counted


async def test_the_errors_that_a_source_deals_with_are_counted_where_it_runs(
    assign, source, pipelines
):
    source.vitals.failed(OSError())
    await assign(A)
    source.vitals.failed(LookupError())

    assert pipelines.protocol.progress.errors.by_component == {A: {"LookupError": 1}}
    assert source.vitals.failures == 2


async def test_the_figures_of_a_source_show_its_outbox_while_it_is_this_workers(
    assign, sources, source, outbox, told, until
):
    await assign(A)
    assert source.vitals.outbox is outbox()

    sources.assign(frozenset())
    await until(lambda: told)

    assert source.vitals.outbox is None


async def test_who_gets_a_source_has_heard_nothing_of_it(assign, sources, source, told, until):
    await assign(A)
    source.heard_at = 1.0
    source.vitals.connected()
    source.vitals.began_at = 1.0
    sources.assign(frozenset())
    await until(lambda: told)

    source.start = asyncio.Event().wait
    sources.assign(frozenset({A}))
    await until(lambda: source.vitals.outbox is not None)
    source.vitals.connected()

    assert source.heard_at is None
    assert source.vitals.began_at != 1.0
    assert source.vitals.reconnects == 0


# --- the end


async def test_what_was_emitted_is_written_before_the_stop(assign, sources, source, outbox, until):
    await assign(A)
    outbox().may_write.clear()
    source.go.set()
    await until(lambda: outbox().count)
    stopping = asyncio.create_task(sources.stop())
    await until(lambda: "flush" in outbox().steps)
    assert not stopping.done()

    outbox().may_write.set()
    await stopping

    assert outbox().written == [1, 2]
    assert source.steps == ["from 0", "cancelled"]


async def test_a_stop_comes_to_an_end_though_nothing_can_be_written(
    assign, sources, source, outbox, until, monkeypatch
):
    monkeypatch.setattr(sourcing, "FLUSH_SECONDS", 0.01)
    await assign(A)
    outbox().may_write.clear()
    source.go.set()
    await until(lambda: outbox().count)

    await asyncio.wait_for(sources.stop(), 5)

    assert outbox().count == 1


async def test_a_stop_waits_for_a_source_that_was_being_stopped(
    assign, sources, source, until, turns
):
    tidied = asyncio.Event()
    source.tidy = tidied.wait
    await assign(A)
    sources.assign(frozenset())
    await until(lambda: source.steps[-1] == "cancelled")

    stopping = asyncio.create_task(sources.stop())
    tidying = [task for task in asyncio.all_tasks() if task.get_name() == f"source {A}"]
    await turns()
    assert len(tidying) == 1

    tidied.set()
    await asyncio.wait_for(stopping, 5)
    assert tidying[0].done()


async def test_a_stop_before_a_source_has_come_to_run_stops_it(
    sources, source, owning, until, caplog
):
    caplog.set_level(logging.ERROR)
    owning.errors[A].extend([OwnershipLost("another's")] * 10**6)
    sources.assign(frozenset({A}))
    await until(lambda: owning.outboxes[A])

    await sources.stop()

    assert source.steps == []
    assert [t for t in asyncio.all_tasks() if t.get_name() == f"source {A}"] == []
    assert caplog.records == []


async def test_a_stop_leaves_no_task_behind(assign, sources):
    before = asyncio.all_tasks()
    await assign(A, B)

    await sources.stop()

    assert asyncio.all_tasks() <= before


async def test_a_stop_without_a_start_is_nothing(pipelines, owning, wishes):
    await Sources(pipelines, pipelines.protocol, owning, wishes).stop()
