"""Where the tasks of an event loop are, also when the loop is stuck."""

from __future__ import annotations

import asyncio
import gc
import io
from typing import Any

__all__ = ["describe_tasks"]

#: Most tasks that are dumped.
DUMPED_TASKS = 1_000

#: The prefix of a coroutine's, generator's and asynchronous generator's attributes, and the
#: attribute with what it waits for.
_FRAMES = {"cr": "cr_await", "gi": "gi_yieldfrom", "ag": "ag_await"}


def describe_tasks(loop: asyncio.AbstractEventLoop) -> str:
    """Return name and stack of each task of a loop, from any thread.

    The stack of a task goes on through what it awaits, as far as coroutines show it; of what
    changes meanwhile an old state may be told.
    """
    try:
        tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    except RuntimeError as error:  # they change faster than they can be listed
        return f"the tasks cannot be listed: {error}\n"
    text = io.StringIO()
    for task in tasks[:DUMPED_TASKS]:
        text.write(f"Task {task.get_name()!r} (most recent call last):\n")
        text.writelines(_stack(task.get_coro()))
    if len(tasks) > DUMPED_TASKS:
        text.write(f"and {len(tasks) - DUMPED_TASKS} more\n")
    return text.getvalue()


def _stack(awaited: Any) -> list[str]:
    """Return the lines of a chain of coroutines and generators that await one another."""
    lines: list[str] = []
    while awaited is not None and len(lines) < 100:
        for kind, following in _FRAMES.items():
            frame = getattr(awaited, f"{kind}_frame", None)
            if frame is not None:
                code = frame.f_code
                lines.append(f'  File "{code.co_filename}", line {frame.f_lineno}, '
                             f"in {code.co_name}\n")  # fmt: skip
                awaited = getattr(awaited, following)
                break
        else:
            # Iterators that Python puts between (of `__await__`, of `async for`) show what they
            # drive to the garbage collector only.
            inner = [o for o in gc.get_referents(awaited) if _has_frame(o)]
            if not inner:
                lines.append(f"  awaits {type(awaited).__name__}\n")
            awaited = inner[0] if inner else None
    return lines


def _has_frame(found: Any) -> bool:
    return any(getattr(found, f"{kind}_frame", None) is not None for kind in _FRAMES)
