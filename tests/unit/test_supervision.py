import asyncio
import logging

import pytest

from aiopype.supervision import Supervisor, stop_task


@pytest.fixture
def supervisor():
    return Supervisor(["a", "b"])


async def endless():
    await asyncio.get_running_loop().create_future()


async def failing(error):
    await asyncio.sleep(0)
    raise error


def test_managers_run_from_the_start(supervisor):
    assert supervisor.is_running("a")
    assert supervisor.is_running("b")
    assert not supervisor.is_running("c")
    assert supervisor.failures == {}


def test_a_manager_that_failed_does_not_run_and_its_error_is_kept(supervisor):
    error = LookupError("mine")

    supervisor.fail("a", error, "what")

    assert not supervisor.is_running("a")
    assert supervisor.is_running("b")
    assert supervisor.failures == {"a": error}


def test_a_failure_is_logged_with_its_place_and_traceback(supervisor, caplog):
    error = LookupError("mine")

    supervisor.fail("a", error, "LookupError in m.in -> m.worker.handle: mine")

    (entry,) = caplog.records
    assert entry.levelno == logging.ERROR
    assert "manager 'a' is stopped: LookupError in m.in -> m.worker.handle" in entry.message
    assert entry.exc_info[1] is error


def test_watchers_hear_of_each_failed_manager_once(supervisor):
    heard = []
    supervisor.on_failure(heard.append)
    supervisor.on_failure(lambda manager: heard.append(manager.upper()))

    supervisor.fail("a", LookupError(), "first")
    supervisor.fail("a", LookupError(), "second")

    assert heard == ["a", "A"]


def test_a_watcher_finds_the_manager_stopped(supervisor):
    seen = []
    supervisor.on_failure(lambda manager: seen.append(supervisor.is_running(manager)))

    supervisor.fail("a", LookupError(), "what")

    assert seen == [False]


def test_the_first_error_of_a_manager_is_kept_and_the_second_only_logged(supervisor, caplog):
    first = LookupError("first")

    supervisor.fail("a", first, "first")
    supervisor.fail("a", LookupError("second"), "second")

    assert supervisor.failures == {"a": first}
    assert len(caplog.records) == 2


def test_a_manager_that_ended_did_not_fail(supervisor):
    supervisor.end("a")

    assert not supervisor.is_running("a")
    assert supervisor.failures == {}


def test_the_failures_that_are_handed_out_are_a_copy(supervisor):
    supervisor.failures["a"] = LookupError()

    assert supervisor.failures == {}


@pytest.mark.parametrize("last", ["fails", "ends"])
async def test_none_is_left_when_all_have_failed_or_ended(supervisor, turns, last):
    waiting = asyncio.ensure_future(supervisor.none_left())
    ways = [lambda manager: supervisor.fail(manager, LookupError(), "what"), supervisor.end]
    first, second = ways if last == "ends" else reversed(ways)

    first("a")
    await turns()
    assert not waiting.done()

    second("b")
    await asyncio.wait_for(waiting, 5)


async def test_watched_work_has_the_name_it_was_given(supervisor):
    task = supervisor.start("source a.source", "a", asyncio.sleep(0))

    assert task.get_name() == "source a.source"
    await task


async def test_watched_work_that_ends_ends_no_manager(supervisor):
    await supervisor.start("work", "a", asyncio.sleep(0))

    assert supervisor.is_running("a")


async def test_watched_work_that_raises_fails_its_manager_only(supervisor, caplog):
    error = LookupError("mine")

    await supervisor.start("source a.source", "a", failing(error))

    assert supervisor.failures == {"a": error}
    assert supervisor.is_running("b")
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
