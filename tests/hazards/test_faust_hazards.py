"""Readings of Faust and aiokafka that lose events, each shut out by a test.

The names C1 to R10 are those of the study that found them; docs/adr/0002 has the decision.
"""

from __future__ import annotations

import asyncio
import base64
import json
from functools import partial
from typing import Any

import pytest
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from aiopype.errors import WorkerError
from aiopype.transport import loop_thread

from .conftest import until

pytestmark = pytest.mark.kafka
both = pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])


@pytest.fixture
def letters(read_topic: Any, name: str) -> Any:
    """The dead letters of the step, as they stand in the topic."""

    async def read() -> list[dict[str, Any]]:
        return [json.loads(record.value) for record in await read_topic(f"{name}.step.error")]

    return read


def value_of(letter: dict[str, Any]) -> bytes:
    return base64.b64decode(letter["value"])


@both
async def test_c1_an_event_whose_handler_raised_is_not_lost(
    start: Any, fill: Any, committed: Any, letters: Any, guarantee: str
) -> None:
    def fail(number: int) -> None:
        if number == 3:
            raise ValueError(number)

    await fill(range(6))
    worker = await start(guarantee=guarantee)
    worker.step.fail = fail
    await until(lambda: 5 in worker.step.ended)
    while (await committed(worker.group, worker.topic))[0] != 6 or not await letters():
        await asyncio.sleep(0.1)
    (letter,) = await letters()
    assert (letter["topic"], letter["offset"], letter["tries"]) == (worker.topic, 3, 2)
    assert value_of(letter) == b"[3]"
    assert worker.step.ended == [0, 1, 2, 4, 5]


async def test_c2_an_event_that_was_interrupted_is_not_acknowledged(
    start: Any, fill: Any, committed: Any
) -> None:
    await fill(range(6))
    worker = await start()
    worker.step.hold = {3}
    await until(lambda: 3 in worker.step.begun)
    with pytest.raises(WorkerError, match="did not end in 8 s"):
        await worker.stop()
    assert ((await committed(worker.group, worker.topic))[0] or 0) <= 3
    again = await start()
    await until(lambda: set(again.step.ended) >= {3, 4, 5})


async def test_c3_a_crash_commits_nothing_that_it_interrupted(
    start: Any, fill: Any, committed: Any
) -> None:
    await fill(range(6))
    worker = await start()
    worker.step.hold = {3}
    await until(lambda: 3 in worker.step.begun)
    coordinator = worker.consumer._thread._consumer._coordinator
    coordinator._pending_exception = kafka_errors.UnknownError("the consumer breaks")
    with pytest.raises(WorkerError, match="could not go on"):
        await worker.task
    assert ((await committed(worker.group, worker.topic))[0] or 0) <= 3


async def test_c4_and_c7_nothing_behind_an_event_in_work_is_committed(
    start: Any, fill: Any, committed: Any
) -> None:
    await fill(range(3))
    worker = await start()
    worker.step.hold = {2}
    await until(lambda: 2 in worker.step.begun)
    await fill(range(10, 20))  # a second batch, while the first one is in work
    await asyncio.sleep(1.0)  # time in which it would be handled and committed, if it were
    assert worker.step.begun == [0, 1, 2]
    assert ((await committed(worker.group, worker.topic))[0] or 0) <= 2
    worker.step.released.set()
    await until(lambda: 19 in worker.step.ended)
    assert worker.step.ended == [0, 1, 2, *range(10, 20)]
    await worker.stop()
    assert (await committed(worker.group, worker.topic))[0] == 13


async def test_c9_what_is_finished_is_committed_when_partitions_are_given_up(
    start: Any, fill: Any
) -> None:
    for partition in range(4):
        await fill(range(partition * 1000, partition * 1000 + 400), 4, partition)
    first = await start()
    first.step.seconds = 0.01
    await until(lambda: len(first.step.ended) > 100)
    second = await start()
    await until(lambda: second.partitions == 2)
    assert len(first.step.ended) < 1600, "it was done before the second came"
    await until(lambda: len(first.step.ended) + len(second.step.ended) >= 1600)
    assert second.step.ended
    ended = first.step.ended + second.step.ended
    assert len(ended) == len(set(ended)), "events came twice"


@both
async def test_c11_an_offset_is_not_committed_when_its_output_failed(
    kafka: str, start: Any, fill: Any, committed: Any, letters: Any, guarantee: str, name: str
) -> None:
    await fill([0])
    worker = await start(guarantee=guarantee)
    await until(lambda: worker.step.ended)
    # The topic takes less from now on, which the worker does not know.
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    limit = {"max.message.bytes": "2000"}
    await admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, f"{name}.step.done", limit)]
    )
    await admin.close()
    worker.step.size = 5_000
    await fill([1, 2])
    async with asyncio.timeout(30):
        while len(await letters()) < 2:
            await asyncio.sleep(0.1)
    assert {value_of(letter) for letter in await letters()} == {b"[1]", b"[2]"}
    assert {letter["error"] for letter in await letters()} == {"aiopype.errors.OutputTooLarge"}
    worker.step.size = 1
    await fill([3])
    await until(lambda: 3 in worker.step.ended)
    await worker.stop()
    assert (await committed(worker.group, worker.topic))[0] >= 4


@pytest.mark.long
async def test_r1_a_standby_that_was_idle_for_long_takes_over(
    start: Any, fill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = partial(loop_thread.AIOKafkaConsumer, max_poll_interval_ms=5_000)
    monkeypatch.setattr(loop_thread, "AIOKafkaConsumer", short)
    await fill([1])
    workers = [await start(), await start()]
    await until(lambda: sorted(w.partitions for w in workers) == [0, 1])
    await asyncio.sleep(30)  # six times as long as an idle member of a group is borne
    (active,) = (w for w in workers if w.partitions)
    (standby,) = (w for w in workers if not w.partitions)
    await active.stop()
    await until(lambda: standby.partitions == 1, seconds=15)
    await fill([2])
    await until(lambda: 2 in standby.step.ended)


async def test_r3_an_error_of_the_group_ends_the_worker(start: Any, fill: Any) -> None:
    await fill([1])
    worker = await start()
    await until(lambda: worker.step.ended)
    coordinator = worker.consumer._thread._consumer._coordinator
    coordinator._pending_exception = kafka_errors.GroupAuthorizationFailedError("not allowed")
    with pytest.raises(WorkerError, match="may not join the group"):
        await asyncio.wait_for(worker.task, 15)


async def test_r5_a_handler_that_hangs_does_not_hold_up_the_others_of_the_group(
    start: Any, fill: Any
) -> None:
    for partition in range(4):
        await fill([partition], 4, partition)
    first = await start()
    first.step.hold = {0}
    await until(lambda: set(first.step.begun) == {0, 1, 2, 3})
    second = await start()
    # 8 s for the batch in work, then both join.
    await until(lambda: second.partitions == 2, seconds=20)
    await until(lambda: first.partitions == 2, seconds=5)


async def test_r10_poison_is_not_lost_and_stalls_nobody(
    start: Any, fill: Any, letters: Any
) -> None:
    await fill([1, b"{poison", 2])
    worker = await start()
    await until(lambda: worker.step.ended == [1, 2])
    async with asyncio.timeout(20):
        while not (found := await letters()):
            await asyncio.sleep(0.1)
    (letter,) = found
    assert value_of(letter) == b"{poison"
    assert letter["tries"] == 1
