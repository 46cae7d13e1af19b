"""The keeper with Python in the place of Java."""

import json
import os
import subprocess
import sys
import textwrap

import psutil
import pytest

from aiopype.broker import keeper, lock

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-S",
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "open('deaf', 'w').close(); time.sleep(600)",
]


def python(code):
    return [sys.executable, "-S", "-c", code]


@pytest.fixture
def keep(tmp_path):
    """Starts a keeper in the test's folder; ends it after the test."""
    started = []

    def start(*commands, grace=10.0):
        held = lock.acquire(tmp_path / "broker.lock")
        assert held is not None
        task = keeper.Task(parent=os.getpid(), lock=held, commands=commands, grace=grace)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, json.dumps(task)],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[held],
        )
        os.close(held)
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.wait(10)
        process.stdin.close()
        process.stdout.close()


def child_of(process):
    return psutil.Process(json.loads(process.stdout.readline())["pid"])


def gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_commands_run_one_after_the_other_until_one_fails(keep, tmp_path):
    process = keep(
        python("open('one', 'x')"),
        python("open('one'); open('two', 'x'); raise SystemExit(3)"),
        python("open('three', 'x')"),
    )
    assert process.wait(10) == 1
    assert len(process.stdout.readlines()) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"broker.lock", "one", "two"}


def test_a_broker_that_ends_by_itself_is_a_failure_even_with_status_zero(keep):
    assert keep(python("pass")).wait(10) == 1


def test_sigterm_ends_the_command_and_is_no_failure(keep):
    process = keep(python("pass"), SLEEP)
    process.stdout.readline()
    child = child_of(process)
    process.terminate()
    assert process.wait(10) == 0
    assert gone(child)


def test_a_command_deaf_to_sigterm_is_killed_after_its_grace(keep, tmp_path, eventually):
    process = keep(STUBBORN, grace=0.2)
    child = child_of(process)
    eventually((tmp_path / "deaf").exists)
    process.terminate()
    process.terminate()
    assert process.wait(10) == 0
    assert gone(child)


def test_the_end_of_stdin_ends_the_command(keep):
    process = keep(SLEEP)
    child = child_of(process)
    process.stdin.close()
    assert process.wait(10) == 0
    assert gone(child)


def test_the_lock_is_held_until_the_command_has_ended(keep, tmp_path):
    process = keep(SLEEP)
    child_of(process)
    assert lock.holder(tmp_path / "broker.lock") == {}
    process.terminate()
    process.wait(10)
    assert lock.holder(tmp_path / "broker.lock") is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")
def test_a_killed_keeper_takes_its_command_and_the_lock_with_it(keep, tmp_path, eventually):
    process = keep(SLEEP)
    child = child_of(process)
    process.kill()
    eventually(lambda: gone(child))
    assert lock.holder(tmp_path / "broker.lock") is None


def test_a_killed_parent_is_noticed_even_if_a_fork_of_it_holds_the_pipe(
    tmp_path, environment, eventually
):
    code = f"""
        import json, os, subprocess, sys, time
        from aiopype.broker import keeper, lock
        held = lock.acquire({str(tmp_path / "broker.lock")!r})
        task = dict(parent=os.getpid(), lock=held, commands=[{SLEEP!r}], grace=10)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, json.dumps(task)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[held],
        )
        child = json.loads(process.stdout.readline())["pid"]
        forked = os.fork()
        if forked:
            print(process.pid, child, forked, flush=True)
        time.sleep(600)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, env=environment
    )
    with parent:
        own, child, forked = (psutil.Process(int(n)) for n in parent.stdout.readline().split())
        parent.kill()
    try:
        eventually(lambda: gone(own) and gone(child))
    finally:
        forked.kill()
