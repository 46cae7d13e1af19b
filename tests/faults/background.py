"""An event loop on a thread of its own, so that a test may block while others of its parts run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

__all__ = ["Background"]


class Background:
    """A loop that runs until it is closed."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Begin some work there."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, Any], seconds: float = 60.0) -> Any:
        """Have some work done there, and wait for what it returns."""

        async def bounded() -> Any:
            async with asyncio.timeout(seconds):
                return await work

        return self.spawn(bounded()).result(seconds + 5)

    def close(self) -> None:
        """Cancel what still runs, and end the thread."""

        async def cancel() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=10)

        self.run(cancel(), 15)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()
