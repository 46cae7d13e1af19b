import asyncio

import pytest

from aiopype import AsyncProtocol, RestartPolicy, Source
from aiopype.errors import OutputRefused
from aiopype.pipelines import Pipelines
from aiopype.sourcing import Sources
from aiopype.states import State


class Producer:
    """Takes events; refuses as many batches as it is told to."""

    def __init__(self):
        self.sent = []
        self.refusals = 0

    async def send(self, emitted, partition, partitions=None):
        if self.refusals:
            self.refusals -= 1
            raise OutputRefused("not allowed")
        self.sent += [value for _, _, value, *_ in emitted]


class Emits(Source):
    """Emits how often it was started, then waits, or ends."""

    ends = False
    starts = 0

    async def start(self):
        self.starts += 1
        await self.emit_async("start", self.starts)
        if not self.ends:
            await asyncio.get_running_loop().create_future()


@pytest.fixture
def producer():
    return Producer()


@pytest.fixture
def pipelines(declare):
    declare(
        lambda manager: Emits(manager.build_processor_name("source"), manager.handler),
        name="quotes",
        restarts=RestartPolicy(first_delay_seconds=0, last_delay_seconds=0, failures=3),
    )
    return Pipelines(["quotes"], AsyncProtocol())


@pytest.fixture
def source(pipelines):
    return pipelines.managers[0].components[0]


@pytest.fixture
async def sources(pipelines, producer):
    made = Sources(pipelines, pipelines.protocol, producer)
    yield made
    pipelines.supervisor.stop()
    await made.stop()


async def test_what_a_source_emits_is_sent(sources, producer, until):
    await sources.start()

    await until(lambda: producer.sent == [b"[1]"])


async def test_what_was_emitted_is_sent_before_the_stop(sources, source, producer):
    await sources.start()
    await asyncio.sleep(0)
    await sources.stop()

    assert len(producer.sent) == source.starts == 1


async def test_an_event_that_is_refused_fails_its_source_and_waits_for_its_restart(
    sources, source, producer, pipelines, until
):
    producer.refusals = 2

    await sources.start()

    await until(lambda: len(producer.sent) == source.starts > 1)
    assert producer.sent == [b"[%d]" % n for n in range(1, source.starts + 1)]
    assert pipelines.supervisor.restarts == {"quotes": 0, "quotes.source": 2}


async def test_what_a_source_left_behind_that_has_ended_is_tried_again_too(
    sources, source, producer, pipelines, until
):
    source.ends = True
    producer.refusals = 2

    await sources.start()

    await until(lambda: producer.sent == [b"[1]"])
    assert source.starts == 1
    assert pipelines.supervisor.status(source.name).state is State.ENDED


async def test_a_source_that_moved_away_runs_here_no_longer(sources, source, pipelines):
    progress = pipelines.protocol.progress
    await sources.start()
    assert progress.sources == {source.name}

    await sources.stop()

    assert progress.sources == set()
