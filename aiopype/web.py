"""The worker's HTTP server: `/health/live`, `/health/ready`, `/metrics`."""

from __future__ import annotations

import asyncio
import errno
import json
import logging

from aiohttp import web

from aiopype.errors import WorkerError
from aiopype.health import Health
from aiopype.metrics import Metrics

__all__ = ["DEFAULT_PORT", "WebServer"]

logger = logging.getLogger(__name__)

#: Where a worker listens that was told no port.
DEFAULT_PORT = 6066

#: So many ports from the default one on are tried: workers of one machine.
PORTS = 100

#: For the answers under way when the server stops, and for the stop as a whole.
LAST_ANSWERS_SECONDS, STOP_SECONDS = 1.0, 3.0


class WebServer:
    """Answers on the worker's event loop, so that an answer says that the loop comes round.

    Arguments:
        host: the address to listen on.
        port: 0 is any free one; None is 6066, or the next free one when several workers share a
            machine.
        health: what `/health/ready` reports.
        metrics: what `/metrics` gives.
    """

    def __init__(self, host: str, port: int | None, health: Health, metrics: Metrics) -> None:
        self._host = host
        self._port = port
        self._health = health
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> str | None:
        """Where it listens, as `http://host:port`; None when it does not."""
        if self._runner is None or not self._runner.addresses:
            return None
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Listen.

        Raises:
            WorkerError: the port that was given is taken, or the host is none of this machine.
        """
        app = web.Application()
        app.router.add_get("/health/live", self._live)
        app.router.add_get("/health/ready", self._ready)
        app.router.add_get("/metrics", self._scrape)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=LAST_ANSWERS_SECONDS
        )
        await self._runner.setup()
        try:
            await self._listen(self._runner)
        except OSError as error:
            await self.stop()
            raise WorkerError(
                f"the web server cannot listen on {self._host}:{self._port or DEFAULT_PORT}: "
                f"{error.strerror or error}; set AIOPYPE_WEB_PORT and AIOPYPE_WEB_HOST to what is "
                "free, or the port to 0 to do without"
            ) from error
        logger.info("health and metrics are at %s", self.address)

    async def stop(self) -> None:
        """Listen no more; answers under way have a second."""
        runner, self._runner = self._runner, None
        if runner is not None:
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await runner.cleanup()
            except TimeoutError:
                logger.warning("the web server did not stop in %g s", STOP_SECONDS)

    async def _listen(self, runner: web.AppRunner) -> None:
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

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="the event loop answers\n")

    async def _ready(self, _: web.Request) -> web.Response:
        report = self._health.report()
        return web.json_response(
            report,
            status=200 if report["is_ready"] else 503,
            dumps=lambda data: json.dumps(data, indent=2) + "\n",
        )

    async def _scrape(self, request: web.Request) -> web.Response:
        body, content_type = self._metrics.text(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})
