"""Who watches the managers: tasks with a name and an owner, and what becomes of a failure."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

__all__ = ["Supervisor", "stop_task", "stopped_by_signals"]

logger = logging.getLogger(__name__)


class Supervisor:
    """Knows the state of each manager of this process.

    Until failure policy lands, a manager that fails is stopped and stays so; the others run on.

    Arguments:
        managers: their names.
    """

    def __init__(self, managers: Iterable[str]) -> None:
        self._running = set(managers)
        self._failures: dict[str, BaseException] = {}
        self._watchers: list[Callable[[str], None]] = []
        self._none_left = asyncio.Event()

    @property
    def failures(self) -> dict[str, BaseException]:
        """What stopped each manager that failed."""
        return dict(self._failures)

    def is_running(self, manager: str) -> bool:
        """Say whether `manager` has neither failed nor ended."""
        return manager in self._running

    def on_failure(self, watcher: Callable[[str], None]) -> None:
        """Call `watcher` with the name of each manager that fails, at once; it must not raise."""
        self._watchers.append(watcher)

    def fail(self, manager: str, error: BaseException, what: str) -> None:
        """Stop a manager because of `error`; `what` says where. A second failure is only logged."""
        logger.error(
            "manager %r is stopped: %s; its offsets stand still, the others run on. "
            "Repair it and start the flow again.",
            manager,
            what,
            exc_info=error,
        )
        if manager not in self._running:
            return
        self._running.discard(manager)
        self._failures[manager] = error
        for watcher in self._watchers:
            watcher(manager)
        self._note()

    def end(self, manager: str) -> None:
        """Note that a manager has nothing more to do."""
        self._running.discard(manager)
        self._note()

    async def none_left(self) -> None:
        """Wait until every manager has failed or ended."""
        await self._none_left.wait()

    def _note(self) -> None:
        if not self._running:
            self._none_left.set()

    def start(self, name: str, manager: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` of `manager` in a task of this name; what it raises fails the manager.

        The caller owns the task and awaits its end, with `stop_task`.
        """

        async def watched() -> None:
            try:
                await work
            except asyncio.CancelledError as error:
                if task.cancelling():
                    raise
                self.fail(manager, error, f"{name} awaited a task that was cancelled")
            except Exception as error:  # noqa: BLE001 - the supervisor is where it ends
                self.fail(manager, error, f"{name} raised {type(error).__name__}: {error}")

        task = asyncio.create_task(watched(), name=name)
        # Work that is cancelled before it began would never have been awaited.
        task.add_done_callback(lambda _: work.close())
        return task


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
    """Call `stop` on SIGTERM and SIGINT, in the running loop; also when they come again."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
