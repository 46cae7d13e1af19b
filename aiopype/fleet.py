"""Several workers of one flow under one command, and the web server that answers for them."""

from __future__ import annotations

from collections.abc import Sequence

from aiopype.gathering import OfWorkers, Place, places
from aiopype.processes import run_workers
from aiopype.settings import Settings
from aiopype.web import WebServer

__all__ = ["run_all"]


async def run_all(
    command: Sequence[str], count: int, settings: Settings, *, may_end: bool = False
) -> int:
    """Run so many workers until SIGTERM or SIGINT; return the exit status.

    This process listens where the settings say, and asks the workers, which answer it only.

    Arguments:
        command: arguments for the Python interpreter that run one worker.
        count: how many.
        settings: of the flow.
        may_end: whether a worker that ends with 0 has nothing more to do; it is not started again.

    Raises:
        WorkerError: the web port is taken; nothing was started.
    """
    if settings.web_port == 0:
        nowhere = [Place("127.0.0.1", 0)] * count
        return await run_workers(_commands(command, nowhere), may_end=may_end)
    with places(count) as found:
        answers = OfWorkers(settings.name, found, settings.web_token)
        server = WebServer(settings.web_host, settings.web_port, answers, settings.web_token)
        await server.start()
        try:
            return await run_workers(_commands(command, found), may_end=may_end)
        finally:
            await server.stop()


def _commands(command: Sequence[str], places: Sequence[Place]) -> list[list[str]]:
    return [
        [*command, "--worker-number", str(number), *place.options]
        for number, place in enumerate(places, 1)
    ]
