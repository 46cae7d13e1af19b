"""The demo's directory, in which every run starts anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from aiopype.broker import lock
from aiopype.errors import BrokerError

__all__ = ["empty", "in_use"]

_KAFKA_LOCK = "broker.lock"


def empty(directory: Path, files: Iterable[Path]) -> None:
    """Remove what an earlier run left: Kafka's and Faust's data, and these files; nothing else.

    Raises:
        BrokerError: a broker runs there or is about to, or the directory cannot be written.
    """
    kafka = directory / "kafka"
    try:
        kafka.mkdir(parents=True, exist_ok=True)
        # Whoever holds this lock is a broker. While it is held here nobody starts one; its file
        # stays, as a lock's must.
        held = lock.acquire(kafka / _KAFKA_LOCK)
        if held is None:
            raise in_use(directory)
        try:
            left = [entry for entry in kafka.iterdir() if entry.name != _KAFKA_LOCK]
            for path in [*left, directory / "faust", *files]:
                _remove(path)
        finally:
            os.close(held)
    except OSError as error:
        raise BrokerError(
            f"emptying {directory}: {error}; make it writable, or set AIOPYPE_DATA_DIR to another"
        ) from error


def in_use(directory: Path) -> BrokerError:
    """Return the error of a directory that is another run's."""
    return BrokerError(
        f"a demo runs in {directory} already; end it, or set AIOPYPE_DATA_DIR to another directory"
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
