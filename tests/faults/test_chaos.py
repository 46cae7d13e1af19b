"""Two workers under a steady load, while they are killed, frozen and stopped at random."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from typing import Any

import pytest

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(300)]

SESSION_SECONDS = 10.0
FAULTS = [signal.SIGKILL] * 4 + [signal.SIGSTOP] * 3 + [signal.SIGTERM] * 3


async def all_out(account: Any, count: int, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while (result := await account()).distinct < count:
        assert time.monotonic() < deadline, f"{count - result.distinct} of {count} are lost"
        await asyncio.sleep(1.0)
    return result


async def test_ten_random_faults_of_two_workers_lose_nothing_and_keep_the_order_of_each_key(
    load: Any, account: Any, start: Any
) -> None:
    seed = random.randrange(10_000)
    chance = random.Random(seed)
    faults = chance.sample(FAULTS, len(FAULTS))
    print(f"seed {seed}: {[fault.name for fault in faults]}")
    await load.create()
    stopping = asyncio.Event()
    feeding = asyncio.create_task(load.feed(stopping, 2_000))
    workers = [start(load.program, **load.env) for _ in range(2)]
    await asyncio.sleep(5)
    for fault in faults:
        victim = chance.choice(workers)
        victim.send(fault)
        if fault is signal.SIGSTOP:
            await asyncio.sleep(SESSION_SECONDS + 3)  # its partitions have moved by then
            victim.send(signal.SIGCONT)
        else:
            status = await asyncio.to_thread(victim.wait, 20)
            assert status in {0, -signal.SIGKILL}, victim.text[-2000:]
            workers[workers.index(victim)] = start(load.program, **load.env)
        await asyncio.sleep(chance.uniform(0.5, 3.0))
    stopping.set()
    count = await feeding
    result = await all_out(account, count, 60)
    print(f"seed {seed}: {count} events, {result.repeated} came twice")
    assert result.out_of_order == []
    for worker in workers:
        worker.send(signal.SIGTERM)
    assert [await asyncio.to_thread(worker.wait, 20) for worker in workers] == [0, 0]


async def test_one_worker_becomes_three_and_one_again_without_loss(
    load: Any, account: Any, start: Any
) -> None:
    await load.create()
    stopping = asyncio.Event()
    feeding = asyncio.create_task(load.feed(stopping, 2_000))
    workers = []
    for _ in range(3):
        workers.append(start(load.program, **load.env))
        await asyncio.sleep(5)
    for worker in workers[:2]:
        worker.send(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 20) == 0, worker.text[-2000:]
        await asyncio.sleep(2)
    stopping.set()
    count = await feeding
    result = await all_out(account, count, 60)
    print(f"1 to 3 to 1 workers: {count} events, {result.repeated} came twice")
    assert result.out_of_order == []
    # Nobody was killed: what was finished was committed before partitions moved.
    assert result.repeated == 0
    workers[2].send(signal.SIGTERM)
    assert await asyncio.to_thread(workers[2].wait, 20) == 0
