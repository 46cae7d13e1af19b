"""A broker in the foreground, for a terminal or a service manager."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

from aiopype.broker import jars
from aiopype.broker.joining import find, made, own, owner, tell
from aiopype.broker.process import Process
from aiopype.errors import BrokerError

__all__ = ["serve"]


def serve(
    data_dir: Path,
    *,
    port: int | None = None,
    say: Callable[[str], None] = tell,
    cache: Path | None = None,
) -> int:
    """Run a broker until SIGINT, SIGTERM, or its own end; from the main thread only.

    When it serves, a line with its address and its directory is printed on stdout.

    Args:
        data_dir, port, say, cache: as for `start`; `say` also gets the log's end if it dies.

    Returns:
        The exit status: 0 after a signal, 1 when the broker ended by itself.

    Raises:
        BrokerError: as `start`, and when another process runs a broker on the directory.
    """
    # SIGTERM shall interrupt whatever is being waited for, as SIGINT does.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        data_dir = made(data_dir)
        process = _started(data_dir, port, say, cache)
        try:
            sys.stdout.write(
                f"Apache Kafka {jars.VERSION} serves on {process.address}, data in {data_dir}\n"
            )
            sys.stdout.flush()
            process.wait()
        finally:
            process.stop()
        say(f"the broker of {data_dir} ended by itself. {process.last_words()}")
    except KeyboardInterrupt:
        return 0
    else:
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)


def _started(
    data_dir: Path, port: int | None, say: Callable[[str], None], cache: Path | None
) -> Process:
    process = None
    address = find(data_dir)
    if address is None:
        process = own(data_dir, jars.classpath(cache or jars.default_cache(), say), port)
    if process is None:
        where = f"at {address}" if address else "that does not serve at the moment"
        raise BrokerError(
            f"{owner(data_dir)} already runs a broker on {data_dir}, {where}; "
            "use that one, or choose another data directory"
        )
    return process
