"""Ends a process that is stuck, from a thread of its own: the event loop cannot watch itself.

Another worker, or the same one started again, then goes on from what is committed.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from aiopype.stacks import describe_tasks

if TYPE_CHECKING:
    from aiopype.settings import Settings

__all__ = ["EXIT_STATUS", "Condition", "Limits", "Watchdog", "end_process"]

logger = logging.getLogger(__name__)

#: EX_SOFTWARE of sysexits.h; no other end of a worker has it.
EXIT_STATUS = 70

#: How often it looks.
TICK_SECONDS = 1.0

#: A look that comes this late says that the process itself was frozen (SIGSTOP, a suspended
#: machine): nothing is held against it that happened meanwhile.
FROZEN_SECONDS = 3.0

#: For the whole stop of a worker, whose own bounds add up to less.
STOP_SECONDS = 45.0

#: Code in C that never lets go of the interpreter (a regular expression gone wild) stops this
#: thread too. A timer in C ends the process then, after so many times the loop's limit; as the
#: timer cannot tell whether the process was frozen, it has to be long.
TIMER_TIMES = 10

#: For the dump and the last log records; a full pipe may hold up both.
DUMP_SECONDS = 5.0


@dataclass(frozen=True)
class Limits:
    """How long each thing may last before the process is ended, in seconds; 0: for ever.

    Attributes:
        loop: the event loop does not come round.
        batch: one batch is in work.
        fetch: a partition that has room is not fetched.
        group: the worker is no member of its group.
        stop: the worker stops.
    """

    loop: float = 60.0
    batch: float = 300.0
    fetch: float = 120.0
    group: float = 180.0
    stop: float = STOP_SECONDS

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return those of a flow's settings."""
        return cls(
            loop=settings.watchdog_loop_seconds,
            batch=settings.watchdog_batch_seconds,
            fetch=settings.watchdog_fetch_seconds,
            group=settings.watchdog_group_seconds,
        )


@dataclass(frozen=True)
class Condition:
    """What a worker is at, seen on its event loop.

    Attributes:
        busy: since when batches are in work, on the monotonic clock, by partition.
        fetches: of partitions that have room, something that changes with every fetch.
        unready: why other partitions, owned here, cannot be fetched; the watchdog takes no notice.
        is_member: whether it is in its group, or needs none.
        is_connected: whether brokers answer. What lasts while they do not is their outage, which
            is waited for; the limits of batches, fetches and group begin again at its end.
    """

    busy: Mapping[str, float] = field(default_factory=dict)
    fetches: Mapping[str, Hashable] = field(default_factory=dict)
    unready: Mapping[str, str] = field(default_factory=dict)
    is_member: bool = True
    is_connected: bool = True


class _Sign(NamedTuple):
    """Something that lasts."""

    limit: str  # its name in Limits
    what: str
    since: float


class Loop(Protocol):
    """What is asked of the event loop."""

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> Any:
        """Call on the loop; raises RuntimeError when it is closed."""


class Watchdog:
    """Watches an event loop and what a worker does on it; a context manager, from start to end.

    Each second the loop is asked to look at the worker. Whether it answers, and what it sees, is
    judged in the watchdog's thread.

    Arguments:
        loop: of the worker.
        look: returns the condition of the worker; called on the loop.
        limits: when a thing has lasted too long.
        clock: the monotonic one.
        end: called with the reason when one has, in the watchdog's thread.
    """

    def __init__(
        self,
        loop: Loop,
        look: Callable[[], Condition],
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[str], None] | None = None,
    ) -> None:
        self._loop = loop
        self._look = look
        self._limits = limits
        self._clock = clock
        self._end = end or (lambda reason: end_process(reason, loop))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        # Written on the loop and read here or the reverse, each as a whole: no lock is needed.
        self._asked: float | None = None
        self._signs: list[_Sign] = []
        # Used here only.
        self._thawed = self._ticked = clock()
        # Used on the loop only.
        self._stopping: float | None = None
        self._connected = self._ticked
        self._fetches: dict[str, tuple[Hashable, float]] = {}
        self._left: float | None = None

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    def expect_end(self) -> None:
        """Watch only that the loop comes round and that the stop ends; called on the loop."""
        self._stopping = self._clock()
        self._signs = [_Sign("stop", "the worker stops", self._stopping)]

    def tick(self) -> None:
        """Look once; the thread does it each second."""
        now = self._clock()
        if now - self._ticked > TICK_SECONDS + FROZEN_SECONDS or self._is_debugged():
            self._thawed = now
        self._ticked = now
        if self._asked is None:
            self._asked = now
            self._loop.call_soon_threadsafe(self._answer)
        signs = list(self._signs)
        if (asked := self._asked) is not None:
            signs.append(_Sign("loop", "the event loop does not come round", asked))
        for sign in signs:
            limit: float = getattr(self._limits, sign.limit)
            if limit and now - max(sign.since, self._thawed) > limit:
                self._end(f"{sign.what} since {now - sign.since:.1f} s; the limit is {limit:g} s")
                return

    def _run(self) -> None:
        while not self._stopped.wait(TICK_SECONDS):
            if self._limits.loop and not self._is_debugged():
                seconds = self._limits.loop * TIMER_TIMES
                faulthandler.dump_traceback_later(seconds, exit=True, file=2)
            try:
                self.tick()
            except RuntimeError:
                return  # the loop is closed: the worker has ended

    def _is_debugged(self) -> bool:
        """Say whether a debugger may have stopped the program."""
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        while frame is not None and frame.f_trace is None:
            frame = frame.f_back
        return frame is not None or sys.gettrace() is not None

    # --- on the loop

    def _answer(self) -> None:
        self._asked = None
        if self._stopping is not None:
            return
        now = self._clock()
        seen = self._look()
        if not seen.is_connected:
            self._connected = now
        self._fetches = {
            name: (mark, since)
            for name, mark in seen.fetches.items()
            for old, since in [self._fetches.get(name, (None, now))]
            for since in [since if old == mark else now]
        }
        self._left = None if seen.is_member else self._left or now
        signs = [_Sign("batch", f"a batch of {n} is in work", t) for n, t in seen.busy.items()]
        signs += [
            _Sign("fetch", f"{name} has room and is not fetched", since)
            for name, (_, since) in self._fetches.items()
        ]
        if self._left is not None:
            signs.append(_Sign("group", "the worker is out of its group", self._left))
        self._signs = [s._replace(since=max(s.since, self._connected)) for s in signs]


def end_process(reason: str, loop: Any) -> None:
    """End this process at once with EXIT_STATUS, after a dump of its threads and tasks.

    The dump goes straight to standard error: whoever is stuck may hold a lock of logging. The
    reason is logged after it. Neither can delay the end by more than 5 seconds.
    """
    try:
        teller = threading.Thread(target=_tell, args=(reason, loop), daemon=True)
        teller.start()
        teller.join(DUMP_SECONDS)
    finally:
        os._exit(EXIT_STATUS)


def _tell(reason: str, loop: Any) -> None:
    with open(2, "w", errors="backslashreplace", closefd=False) as stderr:
        print(f"watchdog: {reason}; the process ends, its threads:", file=stderr, flush=True)
        faulthandler.dump_traceback(stderr)
        print(f"its tasks:\n{describe_tasks(loop)}", file=stderr, flush=True)
    logger.critical("the watchdog ends this process, status %d: %s", EXIT_STATUS, reason)
    logging.shutdown()  # handlers send what they have
