"""Threads for blocking handlers, of which one that never ends holds up nobody's exit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any

__all__ = ["DaemonThreads"]

#: Most threads of a worker; more calls than that wait for one.
MOST_THREADS = 64

_Call = tuple[Future[Any], Callable[[], Any]]


class DaemonThreads(Executor):
    """Runs calls in daemon threads, made as they are needed and kept.

    The interpreter waits at its end for the threads of `ThreadPoolExecutor`: a worker whose handler
    hangs in one could not exit, and its partitions' next owner would be all that notices.
    """

    def __init__(self, most: int = MOST_THREADS) -> None:
        self._most = most
        self._count = 0
        self._idle = 0
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._is_shut_down = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call in a thread as soon as one is free.

        Raises:
            RuntimeError: after `shutdown`.
        """
        future: Future[Any] = Future()
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("the threads for blocking handlers are shut down")
            self._calls.put((future, lambda: fn(*args, **kwargs)))
            if self._idle:
                self._idle -= 1
            elif self._count < self._most:
                self._count += 1
                name = f"blocking handlers {self._count}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; threads end when their calls have. It never waits."""
        with self._lock:
            self._is_shut_down = True
            for _ in range(self._count):
                self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            future, run = call
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(run())
                except BaseException as error:  # noqa: BLE001 - whoever awaits it gets it
                    future.set_exception(error)
            del call, future, run  # else they live until the next call
            with self._lock:
                self._idle += 1
