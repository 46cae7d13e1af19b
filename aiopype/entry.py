"""What `faust -A aiopype` finds: the flow of this project as a Faust app."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import click
from mode import Service

from aiopype import broker, logs
from aiopype.broker.process import free_ports
from aiopype.errors import BrokerError, TargetError
from aiopype.flow import AsyncFlow, embedded_folder
from aiopype.hosting import FlowApp, build_app
from aiopype.protocol.wiring import Wiring
from aiopype.reporting import report_errors_to
from aiopype.settings import Settings
from aiopype.target import load_flow
from aiopype.tracing import traced
from aiopype.watchdog import Limits, Watchdog

__all__ = ["faust_app"]

logger = logging.getLogger(__name__)


def faust_app() -> FlowApp:
    """Return the flow named by `AIOPYPE_FLOW` or `[tool.aiopype] flow` as a Faust app.

    Nothing is started or connected, so that commands that only look can use it; without a
    configured broker the worker starts an embedded one.

    Raises:
        TargetError: no flow is named, or it is not one on Kafka.
        ConfigurationError: the configuration or the managers are wrong.
    """
    target = Settings.default_flow()
    if target is None:
        raise TargetError(
            "no flow is named; set AIOPYPE_FLOW to a file or module:attribute, or "
            'flow = "..." in [tool.aiopype] of pyproject.toml'
        )
    flow = load_flow(target)
    if not isinstance(flow, AsyncFlow):
        raise TargetError(f"{target} is a Flow, which runs in process; Faust needs an AsyncFlow")
    settings = Settings.load(flow.config, flow.name)
    _set_up_logs(settings)
    pipelines = flow.build_for_kafka(settings)
    if settings.broker is not None:
        app = build_app(settings, settings.broker, pipelines)
    else:
        folder = embedded_folder(settings)
        address = broker.find(folder) or f"127.0.0.1:{free_ports()[0]}"
        app = build_app(settings, address, pipelines)
        app.first_services = [_EmbeddedBroker(folder, address), *app.first_services]
    app.first_services = [_Guard(app, settings, pipelines.protocol), *app.first_services]
    return app


class _Guard(Service):
    """Watches the worker and reports its errors, from its start to its end."""

    mundane_level = "debug"

    def __init__(self, app: FlowApp, settings: Settings, protocol: Wiring) -> None:
        super().__init__()
        self._app = app
        self._settings = settings
        self._protocol = protocol

    async def on_start(self) -> None:
        _set_up_logs(self._settings, force=click.get_current_context(silent=True) is not None)
        self.add_context(report_errors_to(self._settings.sentry_dsn, self._settings.name))
        self.add_context(traced(self._protocol, self._settings))
        limits = Limits.of(self._settings)
        self.add_context(Watchdog(asyncio.get_running_loop(), self._app.condition, limits))


def _set_up_logs(settings: Settings, *, force: bool = False) -> None:
    """Log as the settings say; what Faust's command line says of level and file comes first.

    Arguments:
        force: in the place of what Faust has set up.
    """
    context = click.get_current_context(silent=True)
    said = context.obj if context is not None else None
    if getattr(said, "logfile", None) is None:
        level = str(getattr(said, "loglevel", None) or settings.log_level).upper()
        level = {"WARN": "WARNING", "CRIT": "CRITICAL"}.get(level, level)
        logs.set_up(settings.log_format, level, flow=settings.name, force=force)


class _EmbeddedBroker(Service):
    """Starts the embedded broker before everything else, and stops it last."""

    mundane_level = "debug"

    def __init__(self, folder: Path, address: str) -> None:
        super().__init__()
        self._folder = folder
        self._address = address
        self._broker: broker.Broker | None = None

    async def on_start(self) -> None:
        port = int(self._address.rpartition(":")[2])
        self._broker = await asyncio.to_thread(broker.start, self._folder, port=port)
        if self._broker.address != self._address:
            raise BrokerError(
                f"another program has just started a broker in {self._folder}, on "
                f"{self._broker.address}; start this worker again to join it"
            )

    async def on_stop(self) -> None:
        if self._broker is not None:
            await asyncio.to_thread(self._broker.stop)
