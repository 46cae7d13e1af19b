"""The child process that keeps a broker, and ends it when the process that wanted it is gone.

Run as a script by an isolated interpreter (`python -I -S keeper.py TASK`), so that neither the
package nor site-packages is imported: it starts at once, stays small, and what the user's folder
or environment has under the name of a standard module does not matter.

The parent holds the other end of its stdin. The kernel closes that when the parent ends, whatever
ended it. `PR_SET_PDEATHSIG` alone would not do: it follows the thread that started a child, and
that of a program of the user's may end at any time. From the keeper to the broker it can serve,
because the keeper has one thread.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import TypedDict

__all__ = ["Task", "main"]

_LOOK_SECONDS = 1.0  # between two looks at who the parent is, beside watching its pipe
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Task(TypedDict):
    """What a keeper is to do: JSON, its one argument."""

    parent: int
    """The process id of the parent."""
    lock: int
    """The descriptor of the lock. The broker inherits it too, so that nobody can take over the
    data while it runs, even if the keeper was killed."""
    commands: list[list[str]]
    """Run one after the other while they succeed. The last one is the broker."""
    grace: float
    """Seconds that a command has after SIGTERM, until it is killed."""


def main(task: Task) -> int:
    """Run the commands; say for each on stdout, in a line of JSON, what its `pid` is.

    Returns:
        0 after ending the command because of SIGTERM or because the parent is gone;
        1 when a command failed, or the last one ended by itself.
    """
    signals, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        # A handler that does nothing: select() returns, and the number is in the pipe.
        signal.signal(number, lambda *_: None)
    for command in task["commands"]:
        status = _run(command, task, signals)
        if status is None:
            return 0
        if status != 0:
            break
    return 1


def _run(command: list[str], task: Task, signals: int) -> int | None:
    """Run a command to its end and return its status, or end it early and return None."""
    child = subprocess.Popen(  # noqa: S603 - the parent's commands, no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,  # the log
        pass_fds=[task["lock"]],
        preexec_fn=_die_with_keeper(),  # noqa: PLW1509 - there is no other thread
    )
    try:
        os.write(1, json.dumps({"pid": child.pid}).encode() + b"\n")
        while child.poll() is None:
            readable, _, _ = select.select([0, signals], [], [], _LOOK_SECONDS)
            # The pipe's end may live on in a process that the parent forked without exec,
            # hence the second question.
            if 0 in readable or os.getppid() != task["parent"]:
                return None
            if signals in readable and signal.SIGTERM in os.read(signals, 64):
                return None
    except BrokenPipeError:
        return None
    else:
        return child.returncode
    finally:
        _end(child, task["grace"])


def _end(child: subprocess.Popen[bytes], grace: float) -> None:
    child.terminate()
    try:
        child.wait(grace)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _die_with_keeper() -> Callable[[], None] | None:
    """What a child does before it runs the command, so that SIGKILL of the keeper ends it too."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    keeper = os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != keeper:  # it ended before the line above
            os._exit(1)

    return bind


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
