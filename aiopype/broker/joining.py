"""One broker a data directory: who comes first starts it, the others join it."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiopype.broker import jars, lock
from aiopype.broker.probe import answers
from aiopype.broker.process import LOG, Process, launch
from aiopype.errors import BrokerError

__all__ = ["Broker", "find", "made", "own", "owner", "running", "start", "tell"]

_LOCK = "broker.lock"
_JOIN_SECONDS = 90  # an owner's 60 s to start, and its 10 s to stop a broker before
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, eq=False)
class Broker:
    """A broker that serves on a data directory.

    While an owned one is in use its object must be kept: the broker ends with it, if not before.
    """

    address: str
    """Where clients connect, `127.0.0.1:PORT`."""
    data_dir: Path
    process: Process | None = field(default=None, repr=False)
    """Of an owned broker."""

    @property
    def owned(self) -> bool:
        """Whether this process started it, rather than joined another's."""
        return self.process is not None

    @property
    def log(self) -> Path:
        """What it warned of, in this run and some before."""
        return self.data_dir / LOG

    @property
    def pid(self) -> int | None:
        """The process id of Java, if owned."""
        return self.process.pid if self.process else None

    def alive(self) -> bool:
        """Whether it still runs; takes a look at the lock file, and does not ask the broker."""
        return (lock.holder(self.data_dir / _LOCK) or {}).get("address") == self.address

    def stop(self) -> None:
        """End an owned broker within 15 s, its data kept; leave another's alone. Idempotent."""
        if self.process is not None:
            self.process.stop()


def tell(line: str) -> None:
    """Say a line to a person: on stderr, which leaves stdout to programs."""
    sys.stderr.write(line + "\n")


def find(data_dir: Path) -> str | None:
    """The address of the broker that serves on the directory, or None; never starts one."""
    address = (lock.holder(Path(data_dir) / _LOCK) or {}).get("address")
    return address if address and answers(address) else None


def start(
    data_dir: Path,
    *,
    port: int | None = None,
    say: Callable[[str], None] = tell,
    cache: Path | None = None,
) -> Broker:
    """Join the broker of the data directory, or start one. Blocks until it serves.

    A started broker takes about 2 s, and 2 more after a kill -9 (measured on two cores). It ends
    with this process, however that ends, and its data stays. A joined broker ends when its owner
    does; to call this again then starts one.

    Args:
        data_dir: the folder of the broker's data, log and lock; made if need be. Its file system
            must know locks.
        port: for clients; None takes a free one. A joined broker keeps the port it has.
        say: takes lines of progress for a person, while jars are fetched (45 MB, once).
        cache: the folder for the jars; by default the user's cache folder.

    Raises:
        BrokerError: jars or Java are missing and cannot be had, the port is in use, the directory
            cannot be used, or the broker does not start; with what to do or the log's end.
    """
    data_dir = made(data_dir)
    address = find(data_dir)
    if address is not None:
        return Broker(address, data_dir)
    # Before the lock is taken: fetching may take longer than others should wait for a broker.
    classpath = jars.classpath(cache or jars.default_cache(), say)
    deadline = time.monotonic() + _JOIN_SECONDS
    while True:
        process = own(data_dir, classpath, port)
        if process is not None:
            return Broker(process.address, data_dir, process)
        address = find(data_dir)
        if address is not None:
            return Broker(address, data_dir)
        if time.monotonic() > deadline:
            raise BrokerError(
                f"another process ({owner(data_dir)}) holds the lock of {data_dir}, and no broker "
                f"has answered there for {_JOIN_SECONDS} s; end it, or choose another directory"
            )
        time.sleep(_LOOK_SECONDS)


@contextmanager
def running(
    data_dir: Path,
    *,
    port: int | None = None,
    say: Callable[[str], None] = tell,
    cache: Path | None = None,
) -> Iterator[Broker]:
    """A broker for a `with` statement, at the end of which an owned one stops; see `start`."""
    broker = start(data_dir, port=port, say=say, cache=cache)
    try:
        yield broker
    finally:
        broker.stop()


def made(data_dir: Path) -> Path:
    """The directory's absolute path, after it was made if need be.

    Raises:
        BrokerError: it cannot be.
    """
    data_dir = Path(data_dir).absolute()
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(data_dir, error) from error
    return data_dir


def own(data_dir: Path, classpath: Sequence[Path], port: int | None) -> Process | None:
    """Start a broker on an existing directory; None when another process has its lock.

    Raises:
        BrokerError: as `start`.
    """
    try:
        held = lock.acquire(data_dir / _LOCK)
        if held is None:
            return None
        try:
            lock.write(held, {"owner": os.getpid()})
            process = launch(data_dir, held, classpath, port)
            # Only a broker that serves has its address in the file.
            content = {"owner": os.getpid(), "pid": process.pid, "address": process.address}
            lock.write(held, content)
            return process
        finally:
            os.close(held)  # the keeper and the broker hold the lock on
    except OSError as error:
        raise _unusable(data_dir, error) from error


def owner(data_dir: Path) -> str:
    """Who holds the lock of the directory, for a message."""
    return f"process {(lock.holder(data_dir / _LOCK) or {}).get('owner', 'unknown')}"


def _unusable(data_dir: Path, error: OSError) -> BrokerError:
    return BrokerError(
        f"using {data_dir} as the data directory of the broker: {error}; "
        "make it writable, or choose another"
    )
