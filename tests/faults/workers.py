"""Workers of one flow, and every end that each of them can have."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path
from typing import Any

__all__ = ["SESSION_SECONDS", "Workers"]

SESSION_SECONDS = 10.0


class Workers:
    """Workers of one flow, of which each may end as any may.

    Arguments:
        program: of each.
        start, wait_until: the fixtures.
        env: of each.

    Attributes:
        all: those that run.
        peak_mb: the most memory that one of them had, of those that have ended too.
        texts: what those said that have ended.
    """

    def __init__(self, program: str, start: Any, wait_until: Any, **env: str) -> None:
        self._program = program
        self._start = start
        self._wait_until = wait_until
        self._env = env
        self.all: list[Any] = []
        self.peak_mb = 0.0
        self.texts: list[str] = []

    def add(self, count: int = 1) -> None:
        """Start more of them; return when they are up."""
        new = [self._start(self._program, **self._env) for _ in range(count)]
        self.all += new
        for worker in new:
            self._wait_until(lambda w=worker: "is up on" in w.text, seconds=40, what=worker)

    def end(self, how: str, pid: int) -> None:
        """End the worker of a process id: `kill`, `freeze`, `terminate`; start one in its place.

        One that is frozen wakes up past its session.
        """
        worker = next(worker for worker in self.all if worker.pid == pid)
        if how == "freeze":
            worker.send(signal.SIGSTOP)
            time.sleep(SESSION_SECONDS + 3)
            worker.send(signal.SIGCONT)
            return
        self._end(worker, signal.SIGKILL if how == "kill" else signal.SIGTERM)
        self.add()

    def stop(self) -> None:
        """End all as an operator would."""
        for worker in list(self.all):
            self._end(worker, signal.SIGTERM)

    def _end(self, worker: Any, by: signal.Signals) -> None:
        self.peak_mb = max(self.peak_mb, _peak(worker.pid))
        worker.send(by)
        status = worker.wait(15)
        assert by == signal.SIGKILL or status == 0, worker.text
        self.texts.append(worker.text)
        self.all.remove(worker)

    def check(self) -> None:
        """Fail when one has ended by itself."""
        for worker in self.all:
            assert worker.process.poll() is None, worker.text[-3000:]

    @property
    def text(self) -> str:
        """What all say last."""
        return "\n--\n".join(worker.text[-3000:] for worker in self.all)


def _peak(pid: int) -> float:
    """Return the most memory that a process has had since it began, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None, status
    return int(found[1]) / 1024
