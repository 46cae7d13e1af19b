"""Looks on while the flow runs: tells how far it is, and ends it when there is no more to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiopype.demo.outputs import Output

__all__ = ["watching"]

LOOK_SECONDS = 0.2
TELL_SECONDS = 2.0


@contextmanager
def watching(
    prices: Output,
    busy: Output,
    stop: Callable[[], None],
    limit_seconds: float,
    say: Callable[[str], None],
) -> Iterator[None]:
    """Follow the files in a thread of its own during a `with` statement.

    A flow does not end by itself: nobody in it can know that nothing more will come. Here it is
    known what must come, so `stop` is called, once, when it is there, or when the time is over.

    Arguments:
        prices: the file with a row for each day.
        busy: the other branch's.
        stop: ends the flow; called from the thread.
        limit_seconds: after this much time the flow is ended as it is.
        say: takes a line for a person, every two seconds; called from the thread.
    """
    left = threading.Event()

    def watch() -> None:
        began = told = time.monotonic()
        while not left.wait(LOOK_SECONDS):
            rows, picked = prices.rows(), busy.rows()
            complete = len(rows) >= len(prices.expected) and len(picked) >= len(busy.expected)
            now = time.monotonic()
            if rows and (complete or now - told >= TELL_SECONDS):
                told = now
                last = "  ".join(f"{field:>8}" for field in rows[-1])
                say(f"  {last}   {len(rows):5,} days, {len(picked):3} busy")
            if complete or now - began >= limit_seconds:
                if not complete:
                    say(f"Not complete after {limit_seconds:g} s; ending it as it is.")
                stop()
                return

    thread = threading.Thread(target=watch, name="watch")
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()
