"""What the workers under one command answer, gathered by the process that runs them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from aiopype.health import as_text
from aiopype.metrics import Metrics
from aiopype.metrics.merging import WorkerCounts, merge
from aiopype.settings.values import WEB_PORT
from aiopype.web import UNIX

__all__ = ["OfWorkers", "Place", "places"]

#: All workers are asked at once; one that takes longer is left out.
ANSWER_SECONDS = 2.0

#: The longest path that a Unix socket takes everywhere; on Linux it is 107 bytes.
PATH_BYTES = 100


class Place(NamedTuple):
    """Where a worker answers: a host, and a port that counts unless it is a Unix socket."""

    host: str
    port: int = WEB_PORT

    @property
    def options(self) -> list[str]:
        """The options of `aiopype run` by which a worker is told."""
        return ["--web-host", self.host, "--web-port", str(self.port)]


@contextlib.contextmanager
def places(count: int) -> Iterator[list[Place]]:
    """Give so many places for workers of this machine, which nobody else can reach.

    They are Unix sockets in a folder of this user's only, which goes at the end; free ports on
    loopback where there are none.
    """
    with contextlib.ExitStack() as opened:
        folder = None
        if hasattr(socket, "AF_UNIX"):
            with contextlib.suppress(OSError):  # no folder for such files can be written to
                made = tempfile.TemporaryDirectory(prefix="aiopype-", ignore_cleanup_errors=True)
                folder = Path(opened.enter_context(made))
        found = [Place(f"{UNIX}{folder}/{number}") for number in range(1, count + 1)]
        if folder is None or len(found[-1].host.encode()) > PATH_BYTES:
            found = [Place("127.0.0.1", port) for port in _free_ports(count)]
        yield found


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as opened:
        listening = [
            opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [each.getsockname()[1] for each in listening]


class _Answer(NamedTuple):
    """What a worker has answered, or why nothing that is of use."""

    body: str = ""
    problem: str = ""


#: Of the answers that are gathered: of one that is ready or gives metrics, and of one that is not.
_STATUSES = (200, 503)

_JSON = "application/json"


class OfWorkers:
    """The answers of several workers as one: ready when all are, metrics with a label `worker`.

    Arguments:
        flow: the flow's name.
        places: where the workers answer, in the order of their numbers from 1 on.
        token: theirs.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        flow: str,
        places: list[Place],
        token: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._flow = flow
        self._places = {str(number): place for number, place in enumerate(places, 1)}
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._clock = clock
        self._since: dict[str, float] = {}

    async def report(self) -> Mapping[str, Any]:
        """Ask all workers; what one is not ready for is named with its number."""
        problems: dict[str, Any] = {}
        workers: dict[str, Any] = {}
        answers = await self._ask_all("/health/ready", _JSON)
        for number, answer in answers.items():
            if answer.problem:
                since = as_text(self._since[number])
                problems[f"worker {number}"] = {"reason": answer.problem, "since": since}
                continue
            workers[number] = json.loads(answer.body)
            for name, problem in workers[number].pop("problems").items():
                problems[f"worker {number}: {name}"] = problem
        return {
            "flow": self._flow,
            "is_ready": not problems,
            "problems": problems,
            "workers": workers,
        }

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Ask all workers; one that does not answer is left out, and counted as down."""
        answers = await self._ask_all("/metrics", accept)
        texts = {number: a.body for number, a in answers.items() if not a.problem}
        counts = WorkerCounts(self._flow, up=len(texts), down=len(answers) - len(texts))
        own, content_type = Metrics(counts).text(accept)
        return merge(texts, own.decode()).encode(), content_type

    async def _ask_all(self, path: str, accept: str) -> dict[str, _Answer]:
        asked = (self._ask(place, path, accept) for place in self._places.values())
        answers = dict(zip(self._places, await asyncio.gather(*asked), strict=True))
        for number, answer in answers.items():
            if answer.problem:
                self._since.setdefault(number, self._clock())
            else:
                self._since.pop(number, None)
        return answers

    async def _ask(self, place: Place, path: str, accept: str) -> _Answer:
        is_unix = place.host.startswith(UNIX)
        connector = (
            aiohttp.UnixConnector(place.host.removeprefix(UNIX))
            if is_unix
            else aiohttp.TCPConnector()
        )
        url = f"http://{'worker' if is_unix else f'{place.host}:{place.port}'}{path}"
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                aiohttp.ClientSession(connector=connector, headers=self._headers) as session,
                session.get(url, headers={"Accept": accept}) as answer,
            ):
                body = await answer.text()
        except TimeoutError:
            return _Answer(problem=f"it does not answer in {ANSWER_SECONDS:g} s")
        except (aiohttp.ClientError, OSError):
            return _Answer(problem="it does not answer: it starts, or has ended")
        if answer.status not in _STATUSES:
            return _Answer(problem=f"it answers {answer.status}: {body[:200].strip()}")
        if accept == _JSON and answer.content_type != _JSON:
            return _Answer(problem="it gives no reasons: it wants a token that this process lacks")
        return _Answer(body)
