"""What the upstreams of the fault suite have in common: they run alone, and are told what to do.

A test talks to one with `upstreams.Upstream`: what is sent to `/control` are the attributes of the
server to set, and what comes back is what it counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from typing import Any

from aiohttp import web

from .growth import Growth, Line

__all__ = ["UpstreamServer", "serve"]


class UpstreamServer:
    """An upstream, in the mode it is told.

    Attributes:
        mode: what it does about what is asked of it; the name of a method.
        growth: how many items there are.
        counts: what was asked of it, by mode, and whatever else a subclass counts.
    """

    def __init__(self) -> None:
        self.mode = "good"
        self.growth = Growth(Line(0, 0.0, 0.0))
        self.counts: Counter[str] = Counter()

    @property
    def last(self) -> int:
        """The number of the last item that there is."""
        return self.growth.last(time.time())

    def routes(self) -> list[web.RouteDef]:
        """Return what it serves; a subclass adds its own."""
        return [web.post("/control", self._control)]

    async def started(self) -> None:
        """Called when it serves; a subclass may serve more."""

    def told(self, name: str, value: Any) -> None:
        """Do what a test says; a subclass may know other words than attributes."""
        if name == "growth":
            value = Growth(*(Line(*line) for line in value))
        setattr(self, name, value)

    async def _control(self, request: web.Request) -> web.Response:
        for name, value in (await request.json()).items():
            self.told(name, value)
        return web.json_response(dict(self.counts))


async def serve(server: UpstreamServer) -> None:
    """Serve on the port that the environment says, until killed; first be told what it says."""
    for name, value in json.loads(os.environ["TOLD"]).items():
        server.told(name, value)
    app = web.Application()
    app.add_routes(server.routes())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ["PORT"])).start()
    await server.started()
    await asyncio.Event().wait()
