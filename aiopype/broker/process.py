"""The broker's process, for the one who starts it: ports, storage, keeper, readiness, end."""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from aiopype.broker import keeper, properties
from aiopype.broker.probe import answers
from aiopype.errors import BrokerError

__all__ = ["LOG", "Process", "free_ports", "launch"]

LOG = "broker.log"
"""The log's name in the data directory; the one before it, once it is long, ends in `.1`."""

_PROPERTIES = "broker.properties"
_HOST = "127.0.0.1"
_ATTEMPTS = 3  # to find free ports: others may take them before Java does
_START_SECONDS = 60  # 2 s measured; busy build machines and slow disks take far more
_GRACE_SECONDS = 10  # Kafka needs 0.5 s to close its files
_LONG_LOG = 1_000_000  # bytes
_TAIL_LINES = 30
_TAIL_BYTES = 65536


@dataclass(frozen=True, eq=False)
class Process:
    """A running broker that this process started, and its keeper."""

    address: str
    pid: int
    """Of Java."""
    log: Path
    log_start: int
    """Where in the log this run begins, in bytes."""
    keeper: subprocess.Popen[bytes]

    def wait(self) -> None:
        """Wait until the broker has ended, for whatever reason."""
        self.keeper.wait()

    def stop(self) -> None:
        """End the broker and wait for its end; does nothing when it has ended."""
        _stop(self.keeper)

    def last_words(self) -> str:
        """The log's name and the last lines of this run, to be the end of a message."""
        return _last_words(self.log, self.log_start)


def launch(data_dir: Path, held: int, classpath: Sequence[Path], port: int | None) -> Process:
    """Start a broker and wait until it serves; the first time, make the directory Kafka's.

    Args:
        data_dir: an existing folder, its absolute path.
        held: the descriptor of the folder's lock. The keeper gets a copy; close this one
            afterwards, or the lock outlasts the broker.
        classpath: Kafka's jars.
        port: for clients, or None for a free one.

    Raises:
        BrokerError: the port is in use, or the broker ended or did not serve within 60 s.
        OSError: the folder cannot be written.
    """
    deadline = time.monotonic() + _START_SECONDS
    log = data_dir / LOG
    if log.exists() and log.stat().st_size > _LONG_LOG:
        log.replace(log.with_name(LOG + ".1"))
    for _ in range(_ATTEMPTS):
        client_port, controller_port = free_ports(port)
        settings = properties.server_properties(client_port, controller_port)
        (data_dir / _PROPERTIES).write_text(settings, "utf-8")
        cluster, commands = _commands(data_dir, classpath)
        with log.open("ab") as file, ExitStack() as undo:
            start = file.tell()
            child = _spawn(data_dir, held, commands, file.fileno())
            undo.callback(_stop, child)
            address = f"{_HOST}:{client_port}"
            if _serves(address, cluster, child, deadline):
                assert child.stdout is not None
                pids = [json.loads(child.stdout.readline())["pid"] for _ in commands]
                undo.pop_all()
                return Process(address, pids[-1], log, start, child)
            ended = child.poll() is not None
        if not (ended and b"Address already in use" in _since(log, start)):
            break
    what = "ended before it served" if ended else f"did not serve within {_START_SECONDS} s"
    raise BrokerError(f"the broker of {data_dir} {what}. {_last_words(log, start)}")


def free_ports(port: int | None = None) -> tuple[int, int]:
    """Two ports of 127.0.0.1 that are free now, the first one as asked for.

    Raises:
        BrokerError: the one asked for is in use, or not a port.
    """
    with socket.socket() as client, socket.socket() as controller:
        try:
            if port is not None:  # as Java does, or a port just left would seem in use
                client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind((_HOST, port or 0))
        except (OSError, OverflowError) as error:
            raise BrokerError(
                f"opening port {port} on {_HOST} for the broker: {error}; "
                "end what uses it, or choose another, or none for any free one"
            ) from error
        controller.bind((_HOST, 0))
        return client.getsockname()[1], controller.getsockname()[1]


def _commands(data_dir: Path, classpath: Sequence[Path]) -> tuple[str, list[list[str]]]:
    """The cluster's id, and the commands that lead to a broker."""
    java, settings = properties.java(), Path(_PROPERTIES)
    run = properties.run_command(java, classpath, settings)
    # The formatter writes this file last and at one stroke.
    meta = data_dir / properties.DATA / "meta.properties"
    if meta.exists() and (
        found := re.search(r"^cluster\.id=(\S+)", meta.read_text(), re.MULTILINE)
    ):
        return found[1], [run]
    # As Kafka makes them, but for the first byte: the id must not look like an option, "-…".
    cluster = urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode().rstrip("=")
    return cluster, [properties.format_command(java, classpath, cluster, settings), run]


def _spawn(
    data_dir: Path, held: int, commands: list[list[str]], log: int
) -> subprocess.Popen[bytes]:
    task = keeper.Task(parent=os.getpid(), lock=held, commands=commands, grace=_GRACE_SECONDS)
    return subprocess.Popen(  # noqa: S603 - our own script, no shell
        [sys.executable, "-I", "-S", keeper.__file__, json.dumps(task)],
        cwd=data_dir,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        pass_fds=[held],
        start_new_session=True,  # Ctrl-C in the terminal is for the parent, which then stops it
    )


def _serves(address: str, cluster: str, child: subprocess.Popen[bytes], deadline: float) -> bool:
    while not answers(address, cluster):
        if child.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _stop(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    # Not by closing its stdin: a process forked from this one may hold that pipe as well.
    child.terminate()
    try:
        child.wait(_GRACE_SECONDS + 5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdin.close()
    child.stdout.close()


def _since(log: Path, start: int) -> bytes:
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - _TAIL_BYTES))
        return file.read()


def _last_words(log: Path, start: int) -> str:
    lines = _since(log, start).decode(errors="replace").splitlines()[-_TAIL_LINES:]
    if not lines:
        return f"Its log, {log}, says nothing."
    return f"The end of its log, {log}:\n" + "\n".join(lines)
