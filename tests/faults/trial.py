"""One fault under a steady load: feed, do it, see events flow again, count."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from typing import Any

from .checker import Checker
from .load import Load
from .report import Result

__all__ = ["RECOVERY_SECONDS", "SESSION_SECONDS", "Trial"]

SESSION_SECONDS = 10.0

#: From a fault's end until events flow again.
RECOVERY_SECONDS = SESSION_SECONDS + 5.0

STOP_SECONDS = 15.0


class Trial:
    """A flow, its load and its workers, and what a fault did to them.

    Arguments:
        load: the flow.
        start: starts a program (the fixture).
        record: keeps the result.
        seed: of `chance`.
        configs: settings of topics, as for `Load.create`.
    """

    def __init__(
        self,
        load: Load,
        start: Callable[..., Any],
        record: Callable[[Result], None],
        seed: int,
        **configs: dict[str, str],
    ) -> None:
        self.load = load
        self.program = load.program
        self.env = dict(load.env)
        self.seed = seed
        self.chance = random.Random(seed)
        self.checker = Checker(load, **configs)
        self.workers: list[Any] = []
        self._start = start
        self._record = record
        self._longest: float | None = None

    def begin(self, per_second: int = 1_000, count: int | None = None, *, workers: int = 1) -> None:
        """Feed events, start workers, and wait until the events flow."""
        self.checker.feed(per_second, count)
        for _ in range(workers):
            self.work()
        self.up()
        self.until(lambda: self.checker.flows_since(time.time() - 2), 40, "events flow")

    def work(self, program: str | None = None, **env: str) -> Any:
        """Start one more worker; it is not up yet."""
        worker = self._start(program or self.program, **{**self.env, **env})
        self.workers.append(worker)
        return worker

    def up(self) -> None:
        """Wait until every worker has said that it is up."""
        for worker in self.workers:
            self.until(lambda w=worker: "is up on" in w.text, 60, "a worker is up")

    def kill(self, worker: Any) -> None:
        """SIGKILL."""
        worker.send(signal.SIGKILL)
        worker.wait(5)
        self.workers.remove(worker)

    def terminate(self, worker: Any) -> None:
        """SIGTERM, after which a worker ends within 15 s with status 0."""
        was_up = "is up on" in worker.text
        worker.send(signal.SIGTERM)
        status = worker.wait(STOP_SECONDS)
        # While Python starts it has no handlers of signals yet, and is ended by the signal itself.
        good = {0} if was_up else {0, -signal.SIGTERM}
        assert status in good, f"status {status} after SIGTERM:\n{worker.text[-3000:]}"
        self.workers.remove(worker)

    def freeze(self, worker: Any, seconds: float) -> None:
        """SIGSTOP, and SIGCONT so many seconds later."""
        worker.send(signal.SIGSTOP)
        time.sleep(seconds)
        worker.send(signal.SIGCONT)

    def flows(self, within: float) -> float:
        """Wait until every partition has given out an event fed after now; return the seconds."""
        began = time.time()
        self.until(lambda: self.checker.flows_since(began), within, "events flow")
        return time.time() - began

    def recovers(self, within: float = RECOVERY_SECONDS) -> None:
        """Say that a fault has just ended: events have to flow through every partition soon."""
        self._longest = max(self._longest or 0.0, self.flows(within))

    def until(self, condition: Callable[[], Any], seconds: float, what: str) -> None:
        """Wait for a condition; fail after so many seconds, with what the workers said last.

        It also fails when a worker has ended that nobody ended.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            ended = [worker for worker in self.workers if worker.process.poll() is not None]
            if ended or time.monotonic() > deadline:
                why = "a worker has ended" if ended else f"not true after {seconds:g} s"
                said = "\n--\n".join(w.text[-3000:] for w in ended or self.workers)
                raise AssertionError(f"{why} (seed {self.seed}): {what}\n{said}")
            time.sleep(0.02)

    def finish(
        self,
        fault: str,
        *,
        faults: int = 1,
        letters: int = 0,
        within: float = 60.0,
        check: bool = True,
    ) -> Result:
        """Stop feeding, wait for the last event, stop the workers, count, record and judge.

        Arguments:
            fault: what was done, and how.
            faults: how often.
            letters: how many dead letters there have to be, at least.
            within: seconds that what is under way may take.
            check: whether to judge by the guarantee's rule.
        """
        self.checker.stop_feeding()
        looked = time.monotonic()

        def done() -> bool:
            nonlocal looked
            if time.monotonic() > looked and (letters or self.checker.lost()):
                self.checker.read_letters()
                looked = time.monotonic() + 2.0
            return self.checker.lost() <= 0 and len(self.checker.letters) >= letters

        lost = ""
        try:
            self.until(done, within, "all events are out or dead letters")
        except AssertionError as error:
            lost = str(error)
        for worker in [] if lost else list(self.workers):
            self.terminate(worker)
        result = self.count(fault, faults)
        self._record(result)
        if check:
            assert not lost, f"{result}\n{lost}"
            result.check()
        return result

    def count(self, fault: str, faults: int = 1) -> Result:
        """Count what there is now."""
        self.checker.settle()
        counts = self.checker.counts
        return Result(
            fault=fault,
            guarantee=self.load.guarantee,
            seed=self.seed,
            faults=faults,
            events=self.checker.fed,
            lost=self.checker.lost(),
            repeated=counts.repeated,
            out_of_order=counts.out_of_order,
            dead_letters=len(self.checker.read_letters()),
            aborted=self.checker.aborted(),
            seconds=self._longest,
        )
