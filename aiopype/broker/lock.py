"""Locks between processes: the kernel's, which end with whoever holds them.

A lock file is never deleted or renamed, or two processes could each lock a file of its name.
What is written in it is only of worth while somebody holds the lock.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["acquire", "exclusive", "holder", "write"]


def acquire(path: Path) -> int | None:
    """Lock the file without waiting; create it if need be.

    Returns:
        A file descriptor, or None when another one has the lock, be it in this process. The lock
        lasts until the last copy of the descriptor is closed: a child that inherits one holds
        the lock as well, and goes on holding it when its parent is gone.

    Raises:
        OSError: the file cannot be created or locked.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock on the file, after waiting for it as long as it takes.

    Raises:
        OSError: the file cannot be created or locked.
    """
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write(descriptor: int, content: dict[str, Any]) -> None:
    """Replace what the file says; for the lock's holder."""
    text = json.dumps(content).encode() + b"\n"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text, 0)


def holder(path: Path) -> dict[str, Any] | None:
    """What the holder of the lock wrote; None when nobody holds it, whatever the file says.

    A holder that has not written yet gives an empty dictionary.
    """
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return None
    with file:
        try:
            # Shared, so that two who look at once do not take each other for a holder.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                content = json.loads(file.read())
            except ValueError:
                return {}
            return content if isinstance(content, dict) else {}
    return None
