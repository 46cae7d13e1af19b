import asyncio
import logging

import pytest

from aiopype.errors import (
    CircuitOpen,
    SourceError,
    SourceFenced,
    SourceSilent,
    StateCorrupt,
)
from aiopype.restarts import RestartPolicy
from aiopype.states import State
from aiopype.supervision import Supervisor, stop_task


class Time:
    """Clocks and timers that a test moves by hand."""

    def __init__(self):
        self.now = 1_000.0
        self.timers = []

    def later(self, seconds, call):
        self.timers.append(Timer(self.now + seconds, call))
        return self.timers[-1]

    def pass_by(self, seconds):
        """Let seconds pass; timers that become due are called, in their order."""
        until = self.now + seconds
        while due := [t for t in self.timers if t.is_set and t.at <= until]:
            first = min(due, key=lambda timer: timer.at)
            first.is_set = False
            self.now = first.at
            first.call()
        self.now = until


class Timer:
    def __init__(self, at, call):
        self.at = at
        self.call = call
        self.is_set = True

    def cancel(self):
        self.is_set = False


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def supervise(time):
    """Makes a supervisor of managers on the test's time, without jitter."""

    def make(*managers, gives_up=False, **policy):
        return Supervisor(
            dict.fromkeys(managers, RestartPolicy(**policy)),
            gives_up=gives_up,
            clock=lambda: time.now,
            wall=lambda: time.now + 1e9,
            later=time.later,
            jitter=lambda least, most: (least + most) / 2,
        )

    return make


@pytest.fixture
def supervisor(supervise):
    """Of the managers `a` and `b`, where `a.source` runs."""
    made = supervise("a", "b")
    made.add("a.source", RestartPolicy())
    return made


def fail(supervisor, name, times, time):
    """Let it fail so often, a second after each start."""
    for _ in range(times):
        time.pass_by(1)
        supervisor.fail(name, LookupError("mine"), "what")
        if supervisor.status(name).state is State.RESTARTING:
            time.pass_by(supervisor.status(name).again_seconds - 1e9 - time.now)


async def endless():
    await asyncio.get_running_loop().create_future()


async def failing(error):
    await asyncio.sleep(0)
    raise error


# --- who is told


def test_each_change_of_a_status_is_told_when_it_has_happened(supervisor, time):
    told = []
    supervisor.on_change(lambda name: told.append((name, supervisor.status(name).state)))

    supervisor.add("b.source", RestartPolicy())
    supervisor.fail("a.source", LookupError(), "what")
    supervisor.fail("a.source", LookupError(), "once more")
    time.pass_by(1)
    supervisor.fail("b", StateCorrupt("no"), "what")
    supervisor.end("a")

    assert told == [
        ("b.source", State.RUNNING),
        ("a.source", State.RESTARTING),
        ("a.source", State.RUNNING),
        ("b", State.QUARANTINED),
        ("a", State.ENDED),
    ]


def test_each_failure_is_told_with_its_error_also_of_what_is_down(supervisor):
    told = []
    supervisor.on_error(lambda name, error: told.append((name, error)))
    first, second, third = LookupError(), OSError(), SourceSilent("quiet")

    supervisor.fail("a", first, "what")
    supervisor.fail("a", second, "what")
    supervisor.fail("a.source", third, "what")

    assert told == [("a", first), ("a", second), ("a.source", third)]


# --- managers that fail


def test_managers_run_from_the_start(supervisor):
    assert supervisor.is_running("a")
    assert supervisor.is_running("b")
    assert not supervisor.is_running("c")
    assert supervisor.failures == {}


def test_a_manager_that_failed_is_down_and_the_others_run_on(supervisor):
    error = LookupError("mine")

    supervisor.fail("a", error, "what")

    status = supervisor.status("a")
    assert (status.state, status.reason, status.error) == (State.RESTARTING, "what", error)
    assert not supervisor.is_running("a")
    assert supervisor.is_running("b")
    assert supervisor.failures == {"a": error}


def test_a_status_says_since_when_and_until_when(supervisor, time):
    time.pass_by(5)

    supervisor.fail("a", LookupError(), "what")

    assert supervisor.status("b").since_seconds == 1e9 + 1_000
    assert supervisor.status("a").since_seconds == 1e9 + 1_005
    assert supervisor.status("a").again_seconds == 1e9 + 1_006


def test_a_manager_that_failed_runs_again_after_its_delay(supervisor, time):
    supervisor.fail("a", LookupError(), "what")

    time.pass_by(0.9)
    assert not supervisor.is_running("a")
    time.pass_by(0.1)

    assert supervisor.is_running("a")
    assert supervisor.failures == {}
    assert supervisor.restarts == {"a": 1, "a.source": 0, "b": 0}


def test_a_delay_is_spread_by_its_jitter(time):
    asked = []
    supervisor = Supervisor(
        {"a": RestartPolicy(jitter=0.25)},
        later=time.later,
        jitter=lambda least, most: asked.append((least, most)) or 1.25,
    )

    supervisor.fail("a", LookupError(), "what")

    assert asked == [(0.75, 1.25)]
    assert time.timers[0].at == time.now + 1.25


def test_beyond_its_budget_a_manager_is_in_quarantine_and_is_tried_again(supervisor, time):
    fail(supervisor, "a", 6, time)
    assert supervisor.status("a").state is State.QUARANTINED

    time.pass_by(299)
    assert not supervisor.is_running("a")
    time.pass_by(1)
    assert supervisor.is_running("a")

    supervisor.fail("a", LookupError(), "again")
    assert supervisor.status("a").state is State.QUARANTINED
    time.pass_by(599)
    assert not supervisor.is_running("a")
    time.pass_by(1)
    assert supervisor.is_running("a")


def test_each_manager_has_a_budget_of_its_own(supervisor, time):
    fail(supervisor, "a", 6, time)

    supervisor.fail("b", LookupError(), "what")

    assert supervisor.status("b").state is State.RESTARTING


def test_a_failure_is_logged_with_its_place_and_traceback(supervisor, caplog):
    error = LookupError("mine")

    supervisor.fail("a", error, "LookupError in m.in -> m.worker.handle: mine")

    (entry,) = caplog.records
    assert entry.levelno == logging.ERROR
    assert entry.message == (
        "manager 'a' is down: LookupError in m.in -> m.worker.handle: mine; "
        "its events wait, the others run on, it is started again in 1.0 s"
    )
    assert entry.exc_info[1] is error


def test_quarantine_is_logged(supervisor, caplog, time):
    fail(supervisor, "a", 6, time)

    assert "manager 'a' is in quarantine: what" in caplog.records[-1].message
    assert "it is tried again in 300 s" in caplog.records[-1].message


def test_watchers_hear_of_each_failure_and_each_restart_once(supervisor, time):
    heard = []
    supervisor.on_failure(lambda name: heard.append(("down", name)))
    supervisor.on_restart(lambda name: heard.append(("up", name)))

    supervisor.fail("a", LookupError(), "first")
    supervisor.fail("a", LookupError(), "second")
    time.pass_by(60)

    assert heard == [("down", "a"), ("up", "a")]


def test_a_watcher_finds_the_manager_as_it_is_now(supervisor, time):
    seen = []
    for watch in (supervisor.on_failure, supervisor.on_restart):
        watch(lambda name: seen.append(supervisor.is_running(name)))

    supervisor.fail("a", LookupError(), "what")
    time.pass_by(1)

    assert seen == [False, True]


def test_a_failure_of_what_is_down_is_only_logged(supervisor, caplog, time):
    first = LookupError("first")

    supervisor.fail("a", first, "first")
    supervisor.fail("a", LookupError("second"), "second")

    assert supervisor.failures == {"a": first}
    assert caplog.records[-1].message == "manager 'a' is restarting, and: second"
    assert len(time.timers) == 1


def test_after_the_stop_nothing_is_started_again(supervisor, time):
    supervisor.fail("a", LookupError(), "what")

    supervisor.stop()
    supervisor.fail("b", LookupError(), "what")
    time.pass_by(3_600)

    assert not supervisor.is_running("a")
    assert supervisor.is_running("b")


async def test_restarts_come_by_the_event_loops_own_timers(until):
    supervisor = Supervisor({"a": RestartPolicy(first_delay_seconds=0.01)})

    supervisor.fail("a", LookupError(), "what")

    await until(lambda: supervisor.is_running("a"))


def test_the_failures_that_are_handed_out_are_a_copy(supervisor):
    supervisor.failures["a"] = LookupError()

    assert supervisor.failures == {}


# --- sources that fail


def test_a_source_fails_by_itself(supervisor, time):
    supervisor.fail("a.source", LookupError(), "what")

    assert supervisor.is_running("a")
    assert not supervisor.is_running("a.source")
    assert list(supervisor.failures) == ["a.source"]
    time.pass_by(1)
    assert supervisor.is_running("a.source")


def test_a_source_and_its_manager_have_budgets_of_their_own(supervisor, time):
    fail(supervisor, "a.source", 6, time)

    assert supervisor.status("a.source").state is State.QUARANTINED
    supervisor.fail("a", LookupError(), "what")
    assert supervisor.managers["a"].state is State.RESTARTING


def test_while_a_manager_is_down_so_are_its_sources(supervisor, time):
    supervisor.fail("a", LookupError(), "the manager's")

    assert supervisor.sources["a.source"].reason == "the manager's"
    assert not supervisor.is_running("a.source")
    time.pass_by(1)
    assert supervisor.is_running("a.source")


def test_what_a_source_raises_when_its_manager_is_down_costs_it_nothing(supervisor, caplog, time):
    supervisor.fail("a", LookupError(), "what")

    supervisor.fail("a.source", LookupError(), "tidying up")
    time.pass_by(1)

    assert "source 'a.source' is restarting, and: tidying up" in caplog.text
    assert supervisor.is_running("a.source")


@pytest.mark.parametrize("hopeless", [CircuitOpen, SourceFenced, StateCorrupt])
def test_a_source_whose_failure_is_hopeless_is_in_quarantine_at_once(supervisor, time, hopeless):
    supervisor.fail("a.source", hopeless("mine"), "what")

    assert supervisor.status("a.source").state is State.QUARANTINED
    assert supervisor.status("a.source").again_seconds == 1e9 + time.now + 300
    assert supervisor.is_running("a")
    time.pass_by(300)
    assert supervisor.is_running("a.source")


def test_an_upstream_that_asked_for_it_is_left_alone_for_longer(supervisor, time):
    circuit = CircuitOpen("mine")
    circuit.at_least_seconds = 3_600
    supervisor.fail("a.source", circuit, "what")

    time.pass_by(3_599)
    assert not supervisor.is_running("a.source")
    time.pass_by(1)
    assert supervisor.is_running("a.source")


@pytest.mark.parametrize("error", [SourceError, SourceSilent, LookupError])
def test_a_source_whose_failure_is_not_is_started_again_soon(supervisor, error):
    supervisor.fail("a.source", error("mine"), "what")

    assert supervisor.status("a.source").state is State.RESTARTING


def test_a_source_that_comes_again_to_this_worker_has_a_new_budget(supervisor, time):
    fail(supervisor, "a.source", 6, time)

    supervisor.add("a.source", RestartPolicy())

    assert supervisor.is_running("a.source")
    assert supervisor.restarts["a.source"] == 5
    supervisor.fail("a.source", LookupError(), "what")
    assert supervisor.status("a.source").state is State.RESTARTING


# --- the end


def test_a_manager_that_ended_did_not_fail(supervisor):
    supervisor.end("a")

    assert supervisor.status("a").state is State.ENDED
    assert not supervisor.is_running("a")
    assert supervisor.failures == {}


async def is_over(supervisor, turns):
    waiting = asyncio.ensure_future(supervisor.none_left())
    await turns()
    over = waiting.done()
    waiting.cancel()
    return over


async def test_none_is_left_when_all_have_ended(supervisor, turns):
    supervisor.end("a")
    assert not await is_over(supervisor, turns)

    supervisor.end("b")

    assert await is_over(supervisor, turns)
    assert not supervisor.has_given_up


async def test_what_is_in_quarantine_is_left(supervise, turns, time):
    supervisor = supervise("a", failures=0)

    supervisor.fail("a", LookupError(), "what")

    assert not await is_over(supervisor, turns)


async def test_one_that_gives_up_does_not_wait_for_quarantine(supervise, turns):
    supervisor = supervise("a", "b", gives_up=True, failures=0)

    supervisor.fail("a", LookupError(), "what")
    assert not await is_over(supervisor, turns)
    supervisor.end("b")

    assert await is_over(supervisor, turns)
    assert supervisor.has_given_up


async def test_one_that_gives_up_waits_for_a_source_that_can_run(supervise, turns, time):
    supervisor = supervise("a", gives_up=True)
    supervisor.add("a.one", RestartPolicy(failures=0))
    supervisor.add("a.two", RestartPolicy())

    supervisor.fail("a.one", LookupError(), "what")
    supervisor.fail("a.two", LookupError(), "what")
    assert not await is_over(supervisor, turns)
    time.pass_by(1)
    supervisor.end("a.two")

    assert await is_over(supervisor, turns)
    assert supervisor.has_given_up


# --- tasks


async def test_watched_work_has_the_name_it_was_given(supervisor):
    task = supervisor.start("source a.source", "a", asyncio.sleep(0))

    assert task.get_name() == "source a.source"
    await task


async def test_watched_work_that_ends_ends_no_manager(supervisor):
    await supervisor.start("work", "a", asyncio.sleep(0))

    assert supervisor.is_running("a")


async def test_watched_work_that_raises_fails_what_it_is_of(supervisor, caplog):
    error = LookupError("mine")

    await supervisor.start("source a.source", "a.source", failing(error))

    assert supervisor.failures == {"a.source": error}
    assert supervisor.is_running("a")
    assert "source a.source raised LookupError: mine" in caplog.text


async def test_watched_work_that_is_cancelled_fails_no_manager(supervisor, turns):
    task = supervisor.start("work", "a", endless())
    await turns()

    await stop_task(task, 1.0)

    assert task.cancelled()
    assert supervisor.is_running("a")


async def test_watched_work_can_be_cancelled_before_it_began(supervisor):
    # Work that nobody awaits would be a warning, and here an error.
    task = supervisor.start("work", "a", endless())

    await stop_task(task, 1.0)

    assert task.cancelled()


async def test_work_that_is_cancelled_by_itself_fails_its_manager(supervisor):
    # Nobody stopped it: its manager would go on without its source, and nobody would know.
    async def awaiting_a_cancelled_task():
        inner = asyncio.ensure_future(endless())
        inner.cancel()
        await inner

    task = supervisor.start("work", "a", awaiting_a_cancelled_task())
    await asyncio.wait([task])

    assert not supervisor.is_running("a")


# --- stop_task


async def test_stopping_awaits_the_clean_up(turns):
    steps = []

    async def tidy():
        try:
            await endless()
        finally:
            await asyncio.sleep(0)
            steps.append("tidied")

    task = asyncio.ensure_future(tidy())
    await turns()

    await stop_task(task, 1.0)

    assert steps == ["tidied"]


async def test_stopping_a_task_that_has_ended_is_nothing(caplog):
    task = asyncio.ensure_future(asyncio.sleep(0))
    await task

    await stop_task(task, 1.0)

    assert caplog.records == []


async def test_a_task_that_does_not_end_is_left_and_logged(caplog, turns):
    release = asyncio.Event()

    async def stubborn():
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    task = asyncio.create_task(stubborn(), name="stubborn")
    await turns()

    await stop_task(task, 0.01)

    assert not task.done()
    assert "stubborn did not end within 0.01 s of being cancelled" in caplog.text
    release.set()
    await task


async def test_what_a_task_raises_while_it_is_stopped_is_logged(caplog, turns):
    async def untidy():
        try:
            await endless()
        finally:
            raise LookupError("mine")

    task = asyncio.create_task(untidy(), name="untidy")
    await turns()

    await stop_task(task, 1.0)

    (entry,) = caplog.records
    assert entry.message == "untidy raised while it was stopped"
    assert isinstance(entry.exc_info[1], LookupError)
