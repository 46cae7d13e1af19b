"""Who watches managers and sources: their states, and what becomes of a failure."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Protocol

from aiopype.errors import SourceError
from aiopype.graph import manager_of
from aiopype.logs import about
from aiopype.restarts import Budget, Restart, RestartPolicy
from aiopype.states import State, Status

__all__ = ["Supervisor", "stop_task", "stopped_by_signals"]

logger = logging.getLogger(__name__)


class _Timer(Protocol):
    def cancel(self) -> None:
        """Call nothing."""


class _Unit:
    """A manager or source, under its full name."""

    def __init__(self, name: str, policy: RestartPolicy, status: Status, now: float) -> None:
        self.name = name
        self.policy = policy
        self.status = status
        self.budget = Budget(policy, now)
        self.restarts = 0
        self.timer: _Timer | None = None

    @property
    def is_source(self) -> bool:
        return self.name != manager_of(self.name)

    def __str__(self) -> str:
        return f"{'source' if self.is_source else 'manager'} {self.name!r}"


def _call_later(seconds: float, call: Callable[[], None]) -> _Timer:
    return asyncio.get_running_loop().call_later(seconds, call)


class Supervisor:
    """Knows the state of each manager of this process and of each source that runs in it.

    What fails is down for a while and then started again, as its policy says. A source fails by
    itself: its manager's handlers run on. While a manager is down, so are its sources. Used on one
    event loop only.

    Arguments:
        managers: their policies, by name.
        gives_up: whether nothing is left when what has not ended is in quarantine: a run in
            process has nobody else to wait for.
        clock: seconds that never go back.
        wall: seconds since 1970.
        later: calls a function after so many seconds; returns what can be cancelled.
        jitter: a random number between two.
    """

    def __init__(
        self,
        managers: Mapping[str, RestartPolicy],
        *,
        gives_up: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        later: Callable[[float, Callable[[], None]], _Timer] = _call_later,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._gives_up = gives_up
        self._clock = clock
        self._wall = wall
        self._later = later
        self._jitter = jitter
        self._units: dict[str, _Unit] = {}
        self._on_failure: list[Callable[[str], None]] = []
        self._on_restart: list[Callable[[str], None]] = []
        self._on_change: list[Callable[[str], None]] = []
        self._on_error: list[Callable[[str, BaseException], None]] = []
        self._none_left = asyncio.Event()
        self._is_stopped = False
        for name, policy in managers.items():
            self._units[name] = self._new(name, policy)

    # --- what others ask

    @property
    def managers(self) -> dict[str, Status]:
        """The status of each manager."""
        return {unit.name: unit.status for unit in self._units.values() if not unit.is_source}

    @property
    def sources(self) -> dict[str, Status]:
        """The status of each source that was started here; its manager's while that is down."""
        sources = [unit.name for unit in self._units.values() if unit.is_source]
        return {name: self.status(name) for name in sources}

    @property
    def restarts(self) -> dict[str, int]:
        """How often each manager and source was started again after a failure."""
        return {unit.name: unit.restarts for unit in self._units.values()}

    @property
    def failures(self) -> dict[str, BaseException]:
        """The error of each manager and source that is down now."""
        found = ((unit.name, unit.status.error) for unit in self._units.values())
        return {name: error for name, error in found if error is not None}

    @property
    def has_given_up(self) -> bool:
        """Whether none is left, but not because all have ended."""
        return self._none_left.is_set() and bool(self.failures)

    def status(self, name: str) -> Status:
        """Return the status of a manager or source.

        Raises:
            KeyError: there is none of that name here.
        """
        manager = self._units[manager_of(name)].status
        return manager if manager.is_down else self._units[name].status

    def is_running(self, name: str) -> bool:
        """Say whether a manager, or a source and its manager, neither is down nor has ended."""
        return name in self._units and self.status(name).state is State.RUNNING

    def on_failure(self, watcher: Callable[[str], None]) -> None:
        """Call `watcher` with each manager or source that fails, at once; it must not raise."""
        self._on_failure.append(watcher)

    def on_restart(self, watcher: Callable[[str], None]) -> None:
        """Call `watcher` with each manager or source that runs again; it must not raise."""
        self._on_restart.append(watcher)

    def on_change(self, watcher: Callable[[str], None]) -> None:
        """Call `watcher` with each manager or source that has another status; must not raise."""
        self._on_change.append(watcher)

    def on_error(self, watcher: Callable[[str, BaseException], None]) -> None:
        """Call `watcher` with whom each failure befell, also one that was down; must not raise."""
        self._on_error.append(watcher)

    async def none_left(self) -> None:
        """Wait until every manager has ended, or is in quarantine if this supervisor gives up."""
        await self._none_left.wait()

    # --- what happens to managers and sources

    def add(self, source: str, policy: RestartPolicy) -> None:
        """Note that a source starts in this process, with a new budget."""
        known = self._units.get(source)
        self._units[source] = self._new(source, policy)
        if known is not None:
            self._cancel(known)
            self._units[source].restarts = known.restarts
        self._tell(source)

    def fail(self, name: str, error: BaseException, what: str) -> None:
        """Take a manager or source down because of `error`, and start it again later.

        A failure of what is down already is only logged.

        Arguments:
            what: says in words what failed, and where.
        """
        unit = self._units[name]
        for note in self._on_error:
            note(name, error)
        if self.status(name).is_down or self._is_stopped:
            logger.error(
                "%s is %s, and: %s",
                unit,
                self.status(name).state,
                what,
                exc_info=error,
                extra=about(name),
            )
            return
        at_once = isinstance(error, SourceError) and error.is_hopeless
        restart = unit.budget.fail(self._clock(), at_once=at_once)
        spread = unit.policy.jitter
        seconds = restart.delay_seconds * self._jitter(1 - spread, 1 + spread)
        if isinstance(error, SourceError):
            seconds = max(seconds, error.at_least_seconds)
        now = self._wall()
        state = State.QUARANTINED if restart.is_quarantine else State.RESTARTING
        unit.status = Status(state, now, what, error, now + seconds)
        _log_failure(unit, restart, seconds)
        unit.timer = self._later(seconds, lambda: self._restart(unit))
        for watcher in self._on_failure:
            watcher(name)
        self._note(name)

    def end(self, name: str) -> None:
        """Note that a manager or source has nothing more to do."""
        unit = self._units[name]
        self._cancel(unit)
        unit.status = Status(State.ENDED, self._wall())
        self._note(name)

    def stop(self) -> None:
        """Start nothing again: the run ends. The states stay as they are."""
        self._is_stopped = True
        for unit in self._units.values():
            self._cancel(unit)

    def start(self, name: str, unit: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` of a manager or source in a task of this name; what it raises fails it.

        The caller owns the task and awaits its end, with `stop_task`.
        """

        async def watched() -> None:
            try:
                await work
            except asyncio.CancelledError as error:
                if task.cancelling():
                    raise
                self.fail(unit, error, f"{name} awaited a task that was cancelled")
            except Exception as error:  # noqa: BLE001 - the supervisor is where it ends
                self.fail(unit, error, f"{name} raised {type(error).__name__}: {error}")

        task = asyncio.create_task(watched(), name=name)
        # Work that is cancelled before it began would never have been awaited.
        task.add_done_callback(lambda _: work.close())
        return task

    def _new(self, name: str, policy: RestartPolicy) -> _Unit:
        return _Unit(name, policy, Status(State.RUNNING, self._wall()), self._clock())

    def _restart(self, unit: _Unit) -> None:
        unit.timer = None
        unit.restarts += 1
        unit.status = Status(State.RUNNING, self._wall())
        unit.budget.start(self._clock())
        logger.info("%s is started again", unit, extra=about(unit.name))
        for watcher in self._on_restart:
            watcher(unit.name)
        self._tell(unit.name)

    def _cancel(self, unit: _Unit) -> None:
        if unit.timer is not None:
            unit.timer.cancel()
            unit.timer = None

    def _tell(self, name: str) -> None:
        for watcher in self._on_change:
            watcher(name)

    def _note(self, name: str) -> None:
        self._tell(name)
        if not any(self._is_left(name, status) for name, status in self.managers.items()):
            self._none_left.set()

    def _is_left(self, manager: str, status: Status) -> bool:
        if status.state is State.ENDED:
            return False
        if not self._gives_up or status.state is State.RESTARTING:
            return True
        if status.state is State.QUARANTINED:
            return False
        states = [s.state for name, s in self.sources.items() if manager_of(name) == manager]
        over = {State.ENDED, State.QUARANTINED}
        return not states or not over.issuperset(states)


def _log_failure(unit: _Unit, restart: Restart, seconds: float) -> None:
    others = "its events wait, the others run on" if not unit.is_source else "the others run on"
    if restart.is_quarantine:
        text = "%s is in quarantine: %s; %s, it is tried again in %.0f s. Look into its failures."
    else:
        text = "%s is down: %s; %s, it is started again in %.1f s"
    logger.error(
        text, unit, unit.status.reason, others, seconds,
        exc_info=unit.status.error, extra=about(unit.name),
    )  # fmt: skip


async def stop_task(task: asyncio.Task[Any], seconds: float) -> None:
    """Cancel a task and await its end; one that does not end in `seconds` is left and logged."""
    task.cancel()
    _, pending = await asyncio.wait([task], timeout=seconds)
    if pending:
        logger.error("%s did not end within %g s of being cancelled", task.get_name(), seconds)
    elif not task.cancelled() and task.exception() is not None:
        logger.error("%s raised while it was stopped", task.get_name(), exc_info=task.exception())


@contextlib.contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM and SIGINT, in the running loop; also when they come again.

    After one SIGTERM no other does anything, also when this is over: who was asked to end and
    does shall not be killed, with another status, on the last steps.
    """
    loop = asyncio.get_running_loop()
    asked: set[int] = set()

    def note(number: int) -> None:
        asked.add(number)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, note, number)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        if signal.SIGTERM in asked:
            # No SIG_IGN: programs that are started from here would inherit it.
            signal.signal(signal.SIGTERM, lambda *_: None)
