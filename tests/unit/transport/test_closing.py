import asyncio

from aiopype.transport.closing import stop_consumer


class Fetcher:
    """Closes as aiokafka's does: it cancels what is under way, and awaits it."""

    def __init__(self):
        self._fetch_task = asyncio.create_task(asyncio.sleep(60))
        self._pending_tasks = {asyncio.create_task(asyncio.sleep(60)) for _ in range(2)}

    async def close(self):
        for task in self._pending_tasks:
            task.cancel()
            await task


class Consumer:
    def __init__(self, fetcher):
        self._fetcher = fetcher
        self.is_stopped = False

    async def stop(self):
        if self._fetcher is not None:
            await self._fetcher.close()
        self.is_stopped = True


async def test_a_fetch_that_waits_for_its_next_try_does_not_cancel_who_stops_the_consumer():
    consumer = Consumer(Fetcher())
    tasks = [consumer._fetcher._fetch_task, *consumer._fetcher._pending_tasks]

    await stop_consumer(consumer)

    assert consumer.is_stopped
    assert all(task.cancelled() for task in tasks)


async def test_a_consumer_that_has_not_started_is_stopped():
    consumer = Consumer(None)

    await stop_consumer(consumer)

    assert consumer.is_stopped
