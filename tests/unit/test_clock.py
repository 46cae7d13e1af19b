import asyncio
import time

from aiopype.clock import SYSTEM_CLOCK


def test_the_systems_clock_is_that_of_the_machine():
    before = time.time(), time.monotonic()
    found = SYSTEM_CLOCK.time(), SYSTEM_CLOCK.monotonic()
    after = time.time(), time.monotonic()

    assert before <= found <= after
    assert before[1] <= found[1] <= after[1]


async def test_the_systems_clock_waits_as_long_as_it_says():
    loop = asyncio.get_running_loop()
    began = loop.time()

    await SYSTEM_CLOCK.sleep(0.02)

    assert loop.time() - began >= 0.02
