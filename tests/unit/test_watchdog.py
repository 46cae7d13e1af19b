"""The watchdog's judgement on a clock of the test's own.

That a stuck process really ends is in tests/faults/test_watchdog.py.
"""

import asyncio
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from aiopype.watchdog import EXIT_STATUS, Condition, Limits, Watchdog

LIMITS = Limits(loop=10, batch=30, fetch=20, group=40, stop=45)


class FakeLoop:
    """Keeps what it is asked to call until it comes round."""

    def __init__(self):
        self.asked = []

    def call_soon_threadsafe(self, callback):
        self.asked.append(callback)

    def come_round(self):
        for callback in self.asked:
            callback()
        self.asked = []


class World:
    """A watchdog, and what it watches.

    Attributes:
        now: the time on its clock.
        condition: what the loop sees when it comes round.
        comes_round: whether it does.
        ends: the reasons why the process was ended.
    """

    def __init__(self, limits):
        self.now = 1_000.0
        self.loop = FakeLoop()
        self.condition = Condition()
        self.comes_round = True
        self.ends = []
        self.watchdog = Watchdog(
            self.loop,
            lambda: self.condition,
            limits,
            clock=lambda: self.now,
            end=self.ends.append,
        )

    def run(self, seconds, change=lambda: None):
        """Let the time pass, a second a tick, until then or until the process is ended."""
        for _ in range(seconds):
            self.now += 1
            change()
            self.watchdog.tick()
            if self.ends:
                return
            if self.comes_round:
                self.loop.come_round()


@pytest.fixture
def world():
    return World(LIMITS)


# --- the loop


def test_a_loop_that_comes_round_is_left_alone(world):
    world.run(1_000)

    assert world.ends == []


def test_a_loop_that_does_not_come_round_for_longer_than_its_limit_ends_the_process(world):
    world.comes_round = False

    world.run(11)
    assert world.ends == []
    world.run(1)

    assert world.ends == ["the event loop does not come round since 11.0 s; the limit is 10 s"]


def test_a_loop_that_comes_round_in_time_begins_anew(world):
    for _ in range(5):
        world.comes_round = False
        world.run(9)
        world.comes_round = True
        world.run(2)

    assert world.ends == []


def test_the_loop_is_asked_once_until_it_answers(world):
    world.comes_round = False

    world.run(5)

    assert len(world.loop.asked) == 1


# --- a process that was frozen


def test_a_process_that_was_frozen_is_not_ended(world):
    world.comes_round = False
    world.run(9)

    world.now += 3_600
    world.run(9)

    assert world.ends == []


def test_a_loop_that_stays_blocked_after_a_freeze_has_one_limit_more(world):
    world.comes_round = False
    world.run(9)
    world.now += 3_600

    world.run(12)

    assert len(world.ends) == 1


def test_a_batch_gets_its_whole_limit_again_after_a_freeze(world):
    world.condition = Condition(busy={"t[0]": world.now})
    world.run(20)

    world.now += 600
    world.run(30)
    assert world.ends == []
    world.run(2)

    assert len(world.ends) == 1


def test_a_tick_that_is_late_by_a_second_is_no_freeze(world):
    world.comes_round = False
    for _ in range(4):
        world.now += 1
        world.run(1)
    world.run(10)

    assert len(world.ends) == 1


def test_a_program_in_a_debugger_is_not_ended(world, monkeypatch):
    world.comes_round = False
    monkeypatch.setattr(sys, "gettrace", lambda: print)

    world.run(100)

    assert world.ends == []


def test_a_breakpoint_in_the_main_thread_counts_as_a_debugger(world):
    world.comes_round = False
    frame = sys._getframe()
    frame.f_trace = lambda *_: None  # as pdb marks the frames it stops in
    try:
        world.run(100)
    finally:
        frame.f_trace = None

    assert world.ends == []


# --- batches


def test_a_batch_that_is_in_work_for_longer_than_its_limit_ends_the_process(world):
    world.condition = Condition(busy={"load.inlet.in[2]": world.now})

    world.run(31)

    assert world.ends == ["a batch of load.inlet.in[2] is in work since 31.0 s; the limit is 30 s"]


def test_a_batch_after_another_has_a_limit_of_its_own(world):
    for _ in range(5):
        world.condition = Condition(busy={"t[0]": world.now})
        world.run(29)

    assert world.ends == []


def test_a_batch_that_blocks_the_loop_ends_the_process_where_the_loop_has_no_limit():
    world = World(Limits(loop=0, batch=30))
    world.condition = Condition(busy={"t[0]": world.now})
    world.run(2)
    world.comes_round = False

    world.run(100)

    assert "batch of t[0]" in world.ends[0]


# --- fetches


def test_a_partition_with_room_that_is_not_fetched_ends_the_process(world):
    world.condition = Condition(fetches={"t[0]": (5, 100), "t[1]": (5, 100)})
    fetched = iter(range(1_000))

    world.run(
        100, lambda: setattr(world, "condition", Condition(
            fetches={"t[0]": (next(fetched), 100), "t[1]": (5, 100)}))
    )  # fmt: skip

    assert world.ends == ["t[1] has room and is not fetched since 21.0 s; the limit is 20 s"]


def test_a_partition_that_had_no_room_meanwhile_begins_anew(world):
    for _ in range(5):
        world.condition = Condition(fetches={"t[0]": (5, 100)})
        world.run(19)
        world.condition = Condition()
        world.run(1)

    assert world.ends == []


# --- the group


def test_a_worker_out_of_its_group_ends(world):
    world.condition = Condition(is_member=False)

    world.run(100)

    assert world.ends == ["the worker is out of its group since 41.0 s; the limit is 40 s"]


def test_a_worker_that_joins_again_in_time_goes_on(world):
    for _ in range(5):
        world.condition = Condition(is_member=False)
        world.run(39)
        world.condition = Condition()
        world.run(1)

    assert world.ends == []


# --- brokers that do not answer


def test_an_outage_of_the_brokers_is_waited_for(world):
    world.condition = Condition(
        busy={"t[0]": world.now}, fetches={"t[1]": 5}, is_member=False, is_connected=False
    )

    world.run(1_000)

    assert world.ends == []


def test_the_limits_begin_again_at_the_end_of_an_outage(world):
    world.condition = Condition(fetches={"t[1]": 5}, is_connected=False)
    world.run(1_000)
    world.condition = Condition(fetches={"t[1]": 5})

    world.run(20)
    assert world.ends == []
    world.run(2)

    assert "t[1] has room" in world.ends[0]


def test_an_outage_is_no_excuse_for_a_blocked_loop(world):
    world.condition = Condition(is_connected=False)
    world.run(5)
    world.comes_round = False

    world.run(100)

    assert "event loop" in world.ends[0]


# --- limits of 0, and the end


def test_a_limit_of_0_is_none():
    world = World(Limits(loop=0, batch=0, fetch=0, group=0))
    world.condition = Condition(busy={"t[0]": world.now}, fetches={"t[1]": 5}, is_member=False)
    world.run(10)
    world.comes_round = False

    world.run(10_000)

    assert world.ends == []


def test_while_the_worker_stops_only_loop_and_stop_are_watched(world):
    world.condition = Condition(busy={"t[0]": world.now}, is_member=False)
    world.run(5)

    world.watchdog.expect_end()
    world.run(40)
    assert world.ends == []
    world.run(10)

    assert world.ends == ["the worker stops since 46.0 s; the limit is 45 s"]


def test_a_loop_that_is_blocked_while_the_worker_stops_ends_the_process(world):
    world.watchdog.expect_end()
    world.comes_round = False

    world.run(12)

    assert "event loop" in world.ends[0]


async def test_it_watches_from_enter_to_exit():
    seen = asyncio.Event()
    watchdog = Watchdog(
        asyncio.get_running_loop(), lambda: seen.set() or Condition(), LIMITS, end=pytest.fail
    )

    with watchdog:
        async with asyncio.timeout(5):
            await seen.wait()

    assert "watchdog" not in [thread.name for thread in threading.enumerate()]


async def test_its_thread_ends_by_itself_when_the_loop_is_closed(wait_until):
    loop = asyncio.new_event_loop()
    loop.close()

    with Watchdog(loop, Condition, LIMITS, end=pytest.fail):
        wait_until(lambda: "watchdog" not in [t.name for t in threading.enumerate()], seconds=5)


# --- the end


END = """
    import asyncio, logging, threading
    from aiopype.watchdog import end_process

    async def main():
        asyncio.create_task(asyncio.sleep(1e6), name="agent of t")
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        threading.Thread(target=end_process, args=("it is stuck", loop)).start()
        await asyncio.sleep(1e6)

    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    {more}
    asyncio.run(main())
"""


def end(more="", **options):
    source = textwrap.dedent(END).replace("{more}", more)
    return subprocess.run(
        [sys.executable, "-c", source],
        check=False, text=True, stderr=subprocess.PIPE, timeout=30, **options,
    )  # fmt: skip


def test_a_process_is_ended_with_reason_threads_and_tasks_on_standard_error():
    ended = end()

    assert ended.returncode == EXIT_STATUS
    told = ended.stderr
    assert told.startswith("watchdog: it is stuck; the process ends, its threads:\n")
    assert "Thread 0x" in told
    assert "Task 'agent of t'" in told
    assert told.endswith("the watchdog ends this process, status 70: it is stuck\n")


def test_a_lock_of_logging_that_is_held_for_ever_holds_up_the_end_for_seconds_only():
    began = time.monotonic()

    # By a thread that lives on: one that is over may give its number to the next, which owns the
    # lock then.
    held = "held, never = threading.Event(), threading.Event()"
    hold = "lambda: (handler.acquire(), held.set(), never.wait())"
    ended = end(f"{held}; threading.Thread(target={hold}, daemon=True).start(); held.wait()")

    assert ended.returncode == EXIT_STATUS
    assert "Task 'agent of t'" in ended.stderr
    assert 4 < time.monotonic() - began < 15
