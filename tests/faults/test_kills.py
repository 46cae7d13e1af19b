"""Workers killed and stopped under load: nothing is lost, each key keeps its order."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from typing import Any

import pytest

pytestmark = [pytest.mark.kafka, pytest.mark.faults]

EVENTS = 100_000
BATCH = 4_000  # the most records a batch has


async def until_out(load: Any, count: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while await load.ends() < count:
        assert time.monotonic() < deadline, f"{await load.ends()} of {count} after {seconds} s"
        await asyncio.sleep(0.02)


async def test_three_kills_of_a_worker_lose_nothing_and_keep_the_order_of_each_key(
    load: Any, account: Any, start: Any, wait_until: Any
) -> None:
    await load.fill(EVENTS)
    for share in (0.15, 0.4, 0.65):
        worker = start(load.program, **load.env)
        await until_out(load, int(EVENTS * share * random.uniform(0.8, 1.2)))
        worker.send(signal.SIGKILL)
        assert worker.wait(5) == -signal.SIGKILL
    worker = start(load.program, **load.env)
    deadline = time.monotonic() + 60
    while (result := await account()).distinct < EVENTS:
        assert time.monotonic() < deadline, f"{EVENTS - result.distinct} events are lost"
        await asyncio.sleep(0.5)
    # Its predecessors may have done everything before it came to handle signals.
    wait_until(lambda: "is up on" in worker.text, seconds=30, what=worker.text)
    worker.send(signal.SIGTERM)
    assert worker.wait(15) == 0
    result = await account()
    print(f"three kills: {result.repeated} of {EVENTS} events came twice")
    assert result.out_of_order == []


async def test_a_worker_that_is_terminated_under_load_repeats_no_more_than_a_batch_a_partition(
    load: Any, account: Any, start: Any
) -> None:
    await load.fill(EVENTS)
    worker = start(load.program, **load.env)
    await until_out(load, EVENTS // 4)
    asked = time.monotonic()
    worker.send(signal.SIGTERM)
    assert worker.wait(15) == 0, worker.text
    took = time.monotonic() - asked
    assert (await account()).total < EVENTS, "it was done before it was stopped"
    worker = start(load.program, **load.env)
    deadline = time.monotonic() + 60
    while (result := await account()).distinct < EVENTS:
        assert time.monotonic() < deadline, f"{EVENTS - result.distinct} events are lost"
        await asyncio.sleep(0.5)
    worker.send(signal.SIGTERM)
    assert worker.wait(15) == 0
    result = await account()
    print(f"SIGTERM: ended after {took:.1f} s, {result.repeated} events came twice")
    assert result.repeated <= BATCH * 4
    assert result.out_of_order == []


async def test_a_second_worker_shares_the_work_and_takes_over_what_a_killed_one_had(
    load: Any, account: Any, start: Any, wait_until: Any
) -> None:
    await load.fill(EVENTS)
    first = start(load.program, **load.env)
    second = start(load.program, **load.env)
    wait_until(lambda: "4 partitions assigned" in second.text, seconds=30, what=second.text)
    await until_out(load, EVENTS // 10)
    first.send(signal.SIGKILL)
    first.wait(5)
    deadline = time.monotonic() + 60
    while (result := await account()).distinct < EVENTS:
        assert time.monotonic() < deadline, f"{EVENTS - result.distinct} events are lost"
        await asyncio.sleep(0.5)
    assert result.out_of_order == []
    second.send(signal.SIGTERM)
    assert second.wait(15) == 0
