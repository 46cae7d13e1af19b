"""An upstream of sources, in a process of its own that can be killed and frozen."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .cluster import free_ports
from .growth import Growth, Line

__all__ = ["Upstream"]

ROOT = Path(__file__).parents[2]

#: For an upstream to do as it is told.
TOLD_SECONDS = 10.0

#: Between the moment at which it is told of another growth, and the other growth.
TURN_SECONDS = 0.5


class Upstream:
    """An upstream's process, on ports that stay over its ends.

    Arguments:
        module: what it runs.
        start: starts a program (the fixture).
        per_second: how many items come, from the beginning on.
    """

    def __init__(self, module: str, start: Any, per_second: float) -> None:
        self.port, self.feed_port = free_ports(2)
        self._module = module
        self._start = start
        self.growth = Growth(Line(0, time.time(), per_second))
        self._settings: dict[str, Any] = {}
        self.process: Any = None
        self.start()

    def start(self) -> None:
        """Start it; what it had and was told before still holds."""
        self.process = self._start(
            "", command=("-m", f"tests.faults.{self._module}"), file="upstream.txt",
            PYTHONPATH=str(ROOT), PORT=str(self.port), FEED_PORT=str(self.feed_port),
            TOLD=json.dumps({**self._settings, "growth": self.growth.lines}),
        )  # fmt: skip
        deadline = time.monotonic() + TOLD_SECONDS
        while True:
            try:
                self._control({})
            except OSError:
                assert self.process.process.poll() is None, self.process.text
                assert time.monotonic() < deadline, self.process.text
                time.sleep(0.05)
            else:
                return

    def tell(self, **settings: Any) -> None:
        """Set what the server has, for as long as nothing else is said."""
        self._settings |= settings
        self._control(settings)

    def do(self, act: str) -> None:
        """Have it do something once."""
        self._control({act: None})

    def grow(self, per_second: float) -> None:
        """Have so many items come each second; return when that is so."""
        at = time.time() + TURN_SECONDS
        self.growth.turn(at, per_second)
        self._control({"growth": self.growth.lines})
        assert time.time() < at, "it was told too late"
        time.sleep(at - time.time())

    @property
    def counts(self) -> dict[str, int]:
        """What it has counted since it was started last."""
        return self._control({})

    @property
    def last(self) -> int:
        """The number of the last item that there is."""
        return self.growth.last(time.time())

    @contextmanager
    def killed(self) -> Iterator[None]:
        """Be dead within the block: what it sends breaks off, and nobody listens on its ports."""
        self.process.kill()
        yield
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Be frozen within the block: connections stay, and nobody answers."""
        self.process.send(signal.SIGSTOP)
        yield
        self.process.send(signal.SIGCONT)

    def _control(self, what: dict[str, Any]) -> dict[str, int]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/control", json.dumps(what).encode()
        )
        with urllib.request.urlopen(request, timeout=TOLD_SECONDS) as answer:
            counts: dict[str, int] = json.load(answer)
        return counts
