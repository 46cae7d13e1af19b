"""Ends aiokafka's consumers so that a lost connection does not look like a cancelled task."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["stop_consumer"]


async def stop_consumer(consumer: Any) -> None:
    """Stop one of aiokafka's consumers; raises what its own `stop` raises.

    That one cancels the fetches under way and awaits each. One that waits for its next try, as
    after a lost connection, ends as cancelled, and whoever stops the consumer would seem to be
    cancelled too, with the connections left open. So they are ended here first.
    """
    fetcher = getattr(consumer, "_fetcher", None)
    if fetcher is not None:
        ending = [fetcher._fetch_task, *fetcher._pending_tasks]
        for task in ending:
            task.cancel()
        await asyncio.wait(ending)
        fetcher._pending_tasks.clear()
    await consumer.stop()
