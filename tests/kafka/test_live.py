"""`aiopype run` in a terminal, and without one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kafka

PROGRAM = """
    import asyncio, os
    from aiopype import AsyncFlow, Manager, Processor, Source

    class Numbers(Source):
        async def start(self):
            for n in range(20):
                await self.emit_async("number", n)
                await self.emit_async("unheard", n)
            await asyncio.Event().wait()

    class Sink(Processor):
        def take(self, n):
            print(f"took [{n}/20]")

    class Line(Manager):
        name = os.environ["NAME"]

        def __init__(self, handler):
            super().__init__(handler)
            self.source = Numbers(self.build_processor_name("source"), handler)
            self.sink = Sink(self.build_processor_name("sink"), handler)
            self.source.on("number", self.sink.take)

    class Config:
        FLOWS = [os.environ["NAME"]]

    dataflow = AsyncFlow(Config(), name=os.environ["NAME"] + "-flow")
"""

CONTROL = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]")


class Terminal:
    """A process in a terminal of 80 by 24; all that was ever written there is kept."""

    def __init__(self, command: list[str], folder: Path, env: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            command, cwd=folder, env=env, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        self._written = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while part := os.read(self._master, 65_536):
                self._written += part

    @property
    def text(self) -> str:
        """What was written, without what moves and colours."""
        return CONTROL.sub("", self._written.decode(errors="replace")).replace("\r", "")

    def wait(self, seconds: float) -> int:
        """Wait for its end, and until all it wrote is read; return its status."""
        status = self.process.wait(seconds)
        self._reader.join()
        return status

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        os.close(self._master)


@pytest.fixture
def terminal(tmp_path: Path, kafka: str) -> Iterator[Callable[..., Terminal]]:
    """Start `aiopype run` in a terminal; it is gone after the test."""
    started: list[Terminal] = []

    def start_in_terminal(name: str, *options: str) -> Terminal:
        (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
        env = {k: v for k, v in os.environ.items() if not k.startswith("AIOPYPE_")}
        # Without a web server: that its port is taken by another test is a warning.
        env |= {"AIOPYPE_WEB_PORT": "0", "TERM": "xterm-256color"}
        env |= {"NAME": name, "AIOPYPE_BROKER": kafka}
        command = [sys.executable, "-m", "aiopype", "run", "program.py", *options]
        started.append(Terminal(command, tmp_path, env))
        return started[-1]

    yield start_in_terminal
    for one in started:
        one.close()


def seen(text: str, *patterns: str) -> bool:
    return all(re.search(pattern, text) for pattern in patterns)


def test_in_a_terminal_the_flow_is_shown_live_and_ends_with_a_summary(
    terminal: Any, kafka: str, wait_until: Any
) -> None:
    program = terminal("watched")
    wait_until(
        lambda: seen(
            program.text,
            rf"watched-flow on {kafka}, up 0:00:\d\d, 4 partitions",
            r"event +events +events/s +age +lag",
            r"watched\.source\.number +20 .* 0\n",
            r"watched\.source\.unheard +20 .* - +-\n",
            r"watched +running +here",
        ),
        what=program.text,
    )
    assert "took [19/20]" in program.text
    assert "INFO    aiopype.worker: flow watched-flow is up" in program.text
    program.process.send_signal(signal.SIGINT)
    assert program.wait(15) == 0
    _, _, end = program.text.rpartition("aiopype.worker: stopped")
    assert seen(
        end,
        rf"watched-flow on {kafka}, ran \d+\.\d s\n",
        r"watched\.source\.number +20 ",
        r"watched\.source\.unheard +20 ",
        r"manager watched: no failure\nno warnings or errors\n\Z",
    )


def test_plain_in_a_terminal_it_only_logs(terminal: Any, wait_until: Any) -> None:
    program = terminal("unwatched", "--plain")
    wait_until(lambda: "took [19/20]" in program.text, what=program)
    program.process.send_signal(signal.SIGINT)
    assert program.wait(15) == 0
    assert "events/s" not in program.text
    assert "aiopype.flow: 20 events handled in " in program.text


def test_without_a_terminal_it_only_logs(kafka: str, start: Any, wait_until: Any) -> None:
    program = start(
        PROGRAM,
        command=("-m", "aiopype", "run", "program.py"),
        NAME="logged",
        AIOPYPE_BROKER=kafka,
        TERM="xterm-256color",
    )
    wait_until(lambda: "took [19/20]" in program.text, what=program)
    program.send(signal.SIGINT)
    assert program.wait(15) == 0
    lines = program.text.splitlines()
    assert not CONTROL.search(program.text)
    assert any("aiopype.worker: flow logged-flow is up" in line for line in lines)
    assert seen(
        lines[-1],
        r"INFO +aiopype\.flow: 20 events handled in \d+\.\d s: logged\.source\.number 20\Z",
    )
