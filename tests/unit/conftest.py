"""What the unit tests share: small components, managers with names of their own, and waiting."""

import asyncio
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import aiopype
from aiopype import Manager, Processor, Source
from aiopype.protocol.wiring import Wiring

#: How long anything may take that should come true.
DEADLINE_SECONDS = 10.0

_numbers = itertools.count(1)


class Record(NamedTuple):
    """An event as the transport hands it over."""

    value: bytes | None = b"[]"
    key: bytes | None = None
    timestamp: int = 1_000
    offset: int = 0


class Collector(Processor):
    """Keeps what its handlers were called with."""

    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.got = []

    def take(self, *args, **kwargs):
        self.got.append((args, kwargs) if kwargs else args)

    async def take_async(self, *args, **kwargs):
        await asyncio.sleep(0)
        self.take(*args, **kwargs)


class Numbers(Source):
    """Emits `number(n)` for the numbers below a count, then ends."""

    def __init__(self, name, handler, count=3):
        super().__init__(name, handler)
        self.count = count

    async def start(self):
        for n in range(self.count):
            await self.emit_async("number", n)


class Recorder(Wiring):
    """A protocol that only writes down what sources emit, and where they are."""

    def __init__(self):
        super().__init__()
        self.sent = []
        self.positions = {}

    def emit(self, topic, key, value):
        self.sent.append(("emit", topic.name, key, value))

    async def emit_async(self, topic, key, value):
        self.sent.append(("emit_async", topic.name, key, value))

    async def emit_all(self, component, events, position):
        self.sent += [("emit_all", topic.name, key, value) for topic, key, value, _, _ in events]
        if position is not None:
            self.positions[component] = position

    def position(self, component):
        return self.positions.get(component)

    def checkpoint(self, component, position):
        self.positions[component] = position

    def epoch(self, component):
        return 1

    async def flush(self, component):
        pass


@pytest.fixture
def record():
    """The class of a record: value, key, timestamp, offset."""
    return Record


@pytest.fixture
def collector():
    """The class of a processor that keeps what it gets."""
    return Collector


@pytest.fixture
def numbers():
    """The class of a source that emits some numbers and ends."""
    return Numbers


@pytest.fixture
def recorder():
    """A protocol that only writes down what sources emit."""
    return Recorder()


@pytest.fixture
def declare():
    """Declares a manager, under a name no other test uses; `wire(manager)` is its wiring."""

    # A flow looks its managers up among the classes that live; a test may keep only their names.
    kept = []

    def make(wire=lambda manager: None, base=Manager, **attributes):
        def build(self, handler):
            base.__init__(self, handler)
            wire(self)

        name = attributes.pop("name", f"manager{next(_numbers)}")
        kept.append(type("Declared", (base,), {"name": name, "__init__": build, **attributes}))
        return kept[-1]

    yield make
    kept.clear()


@pytest.fixture
def until():
    """Waits, on the event loop, until a condition holds; fails when it does not come true."""

    async def wait(condition):
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not condition():
                    await asyncio.sleep(0.001)
        except TimeoutError:
            pytest.fail("the condition did not come true")

    return wait


@pytest.fixture
def turns():
    """Gives the event loop some turns: enough for all that can run now to have run."""

    async def take(count=20):
        for _ in range(count):
            await asyncio.sleep(0)

    return take


@pytest.fixture
def environment():
    """For a Python child that imports this checkout's package, installed or not."""
    return {**os.environ, "PYTHONPATH": str(Path(aiopype.__file__).parents[1])}


@pytest.fixture
def python(environment, tmp_path):
    """Runs Python with some arguments in an empty folder; returns how it ended."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
