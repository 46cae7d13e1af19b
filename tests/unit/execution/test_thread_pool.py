from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import wait

import pytest

from aiopype.execution.thread_pool import DaemonThreads


@pytest.fixture
def threads():
    pool = DaemonThreads(most=2)
    yield pool
    pool.shutdown()


def test_a_call_gives_its_result(threads):
    assert threads.submit(divmod, 7, 2).result(5) == (3, 1)


def test_what_a_call_raises_comes_to_whoever_awaits_it(threads):
    future = threads.submit(int, "none")

    with pytest.raises(ValueError, match="none"):
        future.result(5)


def test_calls_run_at_once_as_many_as_there_may_be_threads(threads):
    both = threading.Barrier(2)

    assert sorted(f.result(5) for f in [threads.submit(both.wait, 5) for _ in range(2)]) == [0, 1]


def test_more_calls_than_threads_wait_for_one(threads):
    go = threading.Event()
    names = [
        threads.submit(lambda: (go.wait(5), threading.current_thread().name)[1]) for _ in range(6)
    ]
    go.set()

    assert len({future.result(5) for future in names}) == 2


def test_a_thread_is_used_again(threads):
    names = {threads.submit(lambda: threading.current_thread().name).result(5) for _ in range(9)}

    assert len(names) <= 2


def test_a_call_that_was_cancelled_before_it_began_is_not_run(threads):
    go, ran = threading.Event(), []
    busy = [threads.submit(go.wait, 5) for _ in range(2)]
    waiting = threads.submit(ran.append, 1)
    assert waiting.cancel()
    go.set()
    wait(busy, 5)
    threads.submit(ran.append, 2).result(5)

    assert ran == [2]


def test_no_call_is_taken_after_the_end(threads):
    threads.shutdown()

    with pytest.raises(RuntimeError, match="shut down"):
        threads.submit(print)


def test_a_call_that_never_ends_does_not_hold_up_the_interpreter():
    program = (
        "import threading; from aiopype.execution.thread_pool import DaemonThreads; "
        "DaemonThreads().submit(threading.Event().wait)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
