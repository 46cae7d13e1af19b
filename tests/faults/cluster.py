"""Kafka brokers of a test's own, from the same jars as the embedded one: to be killed and frozen.

The settings are the embedded broker's; what differs stands behind them in the file, where the
last line of a name counts.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from aiopype.broker import jars, keeper, properties
from aiopype.broker.probe import answers

__all__ = ["Cluster", "Node", "free_ports"]

CLUSTER_ID = "AGZhdWx0cy1zdWl0ZS0wMQ"
START_SECONDS = 60.0


def free_ports(count: int) -> list[int]:
    """Return ports that are free, and that the system gives to no client while a broker is away.

    A client that tries a port of the ephemeral range again and again may even connect to itself.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


class Node:
    """One broker, which is its own controller too.

    Arguments:
        folder: of its data.
        number: its id.
        ports: for clients and for controllers.
        settings: lines behind the embedded broker's; `{port}` and `{controller}` in them are its
            own.
    """

    def __init__(
        self, folder: Path, number: int, ports: tuple[int, int], settings: list[str]
    ) -> None:
        self.folder = folder
        self.number = number
        self.port, self.controller = ports
        self.address = f"127.0.0.1:{self.port}"
        self.settings = settings
        self.pid = 0
        self._keeper: subprocess.Popen[bytes] | None = None
        (folder / properties.DATA).mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start it; `Cluster.wait` waits until it serves."""
        text = properties.server_properties(self.port, self.controller)
        path = self.folder / "node.properties"
        own = [
            line.replace("{port}", str(self.port)).replace("{controller}", str(self.controller))
            for line in self.settings
        ]
        path.write_text("\n".join([text, f"node.id={self.number}", *own]))
        java = properties.java()
        classpath = jars.classpath(jars.default_cache(), print)
        run = properties.run_command(java, classpath, path)
        commands = [run]
        if not (self.folder / properties.DATA / "meta.properties").exists():
            commands.insert(0, properties.format_command(java, classpath, CLUSTER_ID, path))
        with (self.folder / "log.txt").open("ab") as log:
            task = keeper.Task(parent=os.getpid(), lock=log.fileno(), commands=commands, grace=20.0)
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, json.dumps(task)],
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=[log.fileno()],
                start_new_session=True,
            )
        assert self._keeper.stdout is not None
        for _ in commands:
            self.pid = json.loads(self._keeper.stdout.readline())["pid"]

    @property
    def runs(self) -> bool:
        return self._keeper is not None and self._keeper.poll() is None

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to Java."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """End it as an operator would, with SIGTERM; does nothing when it has ended."""
        if self._keeper is not None:
            self._keeper.terminate()
            self._ended(25)

    def kill(self) -> None:
        """SIGKILL."""
        self.send(signal.SIGKILL)
        self._ended(10)

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT so many seconds later."""
        self.send(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self.send(signal.SIGCONT)

    def _ended(self, seconds: float) -> None:
        assert self._keeper is not None
        self._keeper.wait(seconds)
        for pipe in (self._keeper.stdin, self._keeper.stdout):
            assert pipe is not None
            pipe.close()
        self._keeper = None


class Cluster:
    """One broker or three; with three everything has three replicas, two of them in sync.

    Arguments:
        folder: of the data.
        size: how many brokers.
        settings: more lines for each broker's file.
    """

    def __init__(self, folder: Path, size: int = 1, settings: tuple[str, ...] = ()) -> None:
        free = free_ports(2 * size)
        ports = list(zip(free[::2], free[1::2], strict=True))
        voters = ",".join(f"{n}@127.0.0.1:{port[1]}" for n, port in enumerate(ports, 1))
        lines = [f"controller.quorum.voters={voters}"]
        self.replication = min(size, 3)
        if size > 1:
            lines += [
                f"{name}={self.replication}"
                for name in (
                    "default.replication.factor",
                    "offsets.topic.replication.factor",
                    "transaction.state.log.replication.factor",
                )
            ]
            lines += ["min.insync.replicas=2", "transaction.state.log.min.isr=2"]
        self.nodes = [
            Node(folder / f"node{n}", n, port, [*lines, *settings])
            for n, port in enumerate(ports, 1)
        ]
        self.address = ",".join(node.address for node in self.nodes)

    @property
    def node(self) -> Node:
        """The first one."""
        return self.nodes[0]

    def start(self) -> None:
        """Start those that do not run, and wait until each serves."""
        for node in self.nodes:
            if not node.runs:
                node.start()
        self.wait()

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Wait until each node serves."""
        deadline = time.monotonic() + seconds
        for node in self.nodes:
            while not answers(node.address, CLUSTER_ID):
                assert node.runs, f"broker {node.number} has ended:\n{node.log[-3000:]}"
                assert time.monotonic() < deadline, f"broker {node.number}:\n{node.log[-3000:]}"
                time.sleep(0.05)

    async def leader(self, admin: Any, topic: str) -> Node | None:
        """Return the broker that leads the first partition of a topic; None if there is none."""
        for found in await admin.describe_topics([topic]):
            for partition in found["partitions"]:
                if partition["partition"] == 0:
                    return next((n for n in self.nodes if n.number == partition["leader"]), None)
        return None

    def close(self) -> None:
        """End every node, frozen or not."""
        for node in self.nodes:
            if node.runs:
                node.send(signal.SIGCONT)
                node.stop()
