"""The HTTP server of a worker, or of several: `/health/live`, `/health/ready`, `/metrics`."""

from __future__ import annotations

import asyncio
import errno
import hmac
import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from aiohttp import web

from aiopype.errors import WorkerError
from aiopype.health import Health
from aiopype.metrics import Metrics
from aiopype.settings.values import WEB_PORT

__all__ = ["UNIX", "Answers", "OfWorker", "WebServer"]

logger = logging.getLogger(__name__)

#: A host that begins so is the path of a Unix socket.
UNIX = "unix:"

#: Where a server listens that was told no port.
DEFAULT_PORT = WEB_PORT

#: So many ports from the default one on are tried: workers of one machine.
PORTS = 100

#: For the answers under way when the server stops, and for the stop as a whole.
LAST_ANSWERS_SECONDS, STOP_SECONDS = 1.0, 3.0

#: The longest first line of a request, and its longest header, in bytes; no body is read.
LINE_BYTES, HEADER_BYTES = 2_048, 4_096

PATHS = "/health/live, /health/ready and /metrics"

#: No browser shall take an answer for something else, or keep it; nor is it told what runs here.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "Server": "aiopype",
    "X-Content-Type-Options": "nosniff",
}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Answers(Protocol):
    """What the server answers with; neither method may take longer than a client waits."""

    async def report(self) -> Mapping[str, Any]:
        """Return `is_ready` and the reasons, as JSON can hold them; no event is in it."""

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics in a form that `accept` has, and its content type."""


class OfWorker:
    """The answers of one worker, which are about its own process.

    Arguments:
        health: what `/health/ready` reports.
        metrics: what `/metrics` gives.
    """

    def __init__(self, health: Health, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics

    async def report(self) -> Mapping[str, Any]:
        """Ask the checks, at once."""
        return self._health.report()

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Ask the collectors, at once."""
        return await self._metrics.scrape(accept)


class WebServer:
    """Answers on the process's event loop, so that an answer says that the loop comes round.

    Arguments:
        host: the address to listen on, or `unix:` and a path.
        port: 0 is any free one; None is 6066, or the next free one when several workers share a
            machine. A Unix socket has none.
        answers: what it answers with.
        token: without it a client gets no metrics, and of readiness the status only; None: who
            reaches the server gets all.
    """

    def __init__(
        self, host: str, port: int | None, answers: Answers, token: str | None = None
    ) -> None:
        self._host = host
        self._port = port
        self._answers = answers
        self._token = token
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> str | None:
        """Where it listens, as `http://host:port` or `unix:PATH`; None when it does not."""
        if self._runner is None or not self._runner.addresses:
            return None
        if self._host.startswith(UNIX):
            return self._host
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Listen.

        Raises:
            WorkerError: the port that was given is taken, or the host is none of this machine.
        """
        app = web.Application(middlewares=[_in_one_line])
        app.router.add_get("/", self._paths)
        app.router.add_get("/health/live", self._live)
        app.router.add_get("/health/ready", self._ready)
        app.router.add_get("/metrics", self._metrics)
        app.on_response_prepare.append(_add_headers)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=LAST_ANSWERS_SECONDS,
            max_line_size=LINE_BYTES,
            max_field_size=HEADER_BYTES,
            lingering_time=0,
            logger=_Debug(logger),
        )
        await self._runner.setup()
        try:
            await self._listen(self._runner)
        except OSError as error:
            await self.stop()
            raise WorkerError(
                f"the web server cannot listen on {self._wanted}: {error.strerror or error}; set "
                "AIOPYPE_WEB_PORT and AIOPYPE_WEB_HOST to what is free, or the port to 0 to do "
                "without"
            ) from error
        if not self._host.startswith(UNIX):
            logger.info("health and metrics are at %s", self.address)
            self._warn_if_open(self._runner)

    async def stop(self) -> None:
        """Listen no more; answers under way have a second."""
        runner, self._runner = self._runner, None
        if runner is not None:
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await runner.cleanup()
            except TimeoutError:
                logger.warning("the web server did not stop in %g s", STOP_SECONDS)

    # --- where it listens

    @property
    def _wanted(self) -> str:
        if self._host.startswith(UNIX):
            return self._host
        return f"{self._host}:{self._port or DEFAULT_PORT}"

    async def _listen(self, runner: web.AppRunner) -> None:
        if self._host.startswith(UNIX):
            await web.UnixSite(runner, self._host.removeprefix(UNIX)).start()
            return
        if self._port is not None:
            await web.TCPSite(runner, self._host, self._port).start()
            return
        for port in range(DEFAULT_PORT, DEFAULT_PORT + PORTS):
            try:
                await web.TCPSite(runner, self._host, port).start()
            except OSError as error:
                if error.errno != errno.EADDRINUSE or port == DEFAULT_PORT + PORTS - 1:
                    raise
            else:
                if port != DEFAULT_PORT:
                    logger.info("port %d is taken, port %d is used", DEFAULT_PORT, port)
                return

    def _warn_if_open(self, runner: web.AppRunner) -> None:
        hosts = [ipaddress.ip_address(address[0]) for address in runner.addresses]
        if self._token is None and not all(host.is_loopback for host in hosts):
            logger.warning(
                "who reaches %s gets the metrics and the state of this flow; set AIOPYPE_WEB_TOKEN "
                "to ask for a token, or AIOPYPE_WEB_HOST to 127.0.0.1",
                self.address,
            )

    # --- what it answers

    async def _paths(self, _: web.Request) -> web.Response:
        return web.Response(text=f"aiopype: {PATHS}\n")

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="the event loop answers\n")

    async def _ready(self, request: web.Request) -> web.Response:
        # A kubelet has no token: without one it is told yes or no, with a wrong one nothing.
        is_told = self._token is None or "Authorization" in request.headers
        if is_told:
            self._check_token(request)
        report = await self._answers.report()
        status = 200 if report["is_ready"] else 503
        if not is_told:
            return web.Response(text="ready\n" if status == 200 else "not ready\n", status=status)
        return web.json_response(
            report, status=status, dumps=lambda data: json.dumps(data, indent=2) + "\n"
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        self._check_token(request)
        body, content_type = await self._answers.scrape(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    def _check_token(self, request: web.Request) -> None:
        """Refuse who does not have the token; how long that takes says nothing about it."""
        if self._token is None:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        is_right = hmac.compare_digest(
            given.strip().encode(errors="surrogateescape"), self._token.encode()
        )
        if scheme.lower() != "bearer" or not is_right:
            raise web.HTTPUnauthorized(
                text="401: send `Authorization: Bearer` with the token of AIOPYPE_WEB_TOKEN\n",
                headers={"WWW-Authenticate": "Bearer"},
            )


class _Debug(logging.LoggerAdapter[logging.Logger]):
    """Takes what aiohttp calls errors: requests that are none, which anybody can send."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        super().log(logging.DEBUG, msg, *args, **kwargs)


@web.middleware
async def _in_one_line(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Make of what aiohttp says of a wrong request, or of a fault of ours, one line that helps."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return web.Response(text=f"404: nothing is here but {PATHS}\n", status=404)
    except web.HTTPMethodNotAllowed as error:
        text = f"405: this only answers {' and '.join(sorted(error.allowed_methods))}\n"
        return web.Response(text=text, status=405, headers={"Allow": error.headers["Allow"]})
    except web.HTTPException:
        raise
    except Exception:
        logger.exception("answering %s", request.path)
        return web.Response(text="500: the log of the worker says why\n", status=500)


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
