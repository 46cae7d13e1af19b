"""What the tests of the sources share: a clock that goes when it is told to, and a REST API."""

import asyncio

import pytest

from aiopype import SyncProtocol
from aiopype.sources import RestSource

from . import rest_server


class HandMoved:
    """A clock that goes only when it is moved; who sleeps looks again at each move."""

    def __init__(self, now=0.0):
        self.now = now
        self.slept = []
        self._moved = asyncio.Event()

    def time(self):
        return self.now

    def monotonic(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        await self._moved.wait()

    def move(self, to):
        self.now = to
        self._moved.set()
        self._moved = asyncio.Event()


@pytest.fixture
def hand_moved():
    """The class of a clock that goes only when it is moved: `HandMoved(now)`, `move(to)`."""
    return HandMoved


@pytest.fixture
async def ticking(hand_moved, turns):
    """Runs a source on a hand-moved clock: `move = await ticking(source, now)`, `await move(to)`.

    `move.task` is the run; it is cancelled after the test.
    """
    tasks = []

    async def run(source, now):
        source.clock = clock = hand_moved(now)
        tasks.append(asyncio.create_task(source.start(), name=source.name))
        await turns()

        async def move(to):
            clock.move(to)
            await turns()

        move.task = tasks[-1]
        return move

    yield run
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# --- a RestSource and its API


@pytest.fixture
async def api():
    """A REST API; what it answers is `api.modes`."""
    server = rest_server.Server()
    async with rest_server.running(server):
        yield server


class Run:
    """A RestSource that runs: `source`, `task`, `clock`, and what came of it.

    Attributes:
        got: the arguments of its `data` events.
        letters: its dead letters.
        raws: what it received.
    """

    def __init__(self, source, clock, raws):
        self.source = source
        self.clock = clock
        self.raws = raws
        self.task = None

    @property
    def data(self):
        return [data for data, _ in self.got]

    @property
    def position(self):
        """What is durable, as bytes."""
        return self.source.handler.position(self.source.name)

    async def stop(self):
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture
async def prepared(api, collector):
    """Makes a RestSource on the API that does not run; returns a `Run` of it."""

    def make(cls=RestSource, url=None, position=None, name="m.source", **options):
        protocol = SyncProtocol()
        if position is not None:
            protocol._positions[name] = position
        run = Run(cls(name, protocol, url or api.url, options), rest_server.Swift(), [])
        run.source.clock = run.clock
        run.source.tap = lambda name, raw: run.raws.append(raw)
        taking, failing = collector("m.sink", protocol), collector("m.errors", protocol)
        run.source.on("data", taking.take)
        run.source.on("error", failing.take)
        run.got = taking.got
        run.letters = failing.got
        return run

    return make


@pytest.fixture
async def polling(prepared):
    """Starts a RestSource on the API; returns a `Run` of it."""
    runs = []

    def start(*args, **options):
        run = prepared(*args, **options)
        run.task = asyncio.create_task(run.source.start(), name=run.source.name)
        runs.append(run)
        return run

    yield start
    for run in runs:
        run.task.cancel()
    await asyncio.gather(*(run.task for run in runs), return_exceptions=True)
