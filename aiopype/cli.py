"""The command line: its groups are in `commands`, the short commands here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import sys
from pathlib import Path
from typing import Any

import click

from aiopype import logs
from aiopype.commands.deploy import deploy
from aiopype.commands.errors import errors
from aiopype.commands.flows import named
from aiopype.commands.health import health
from aiopype.commands.recording import record
from aiopype.commands.sources import sources
from aiopype.commands.status import status
from aiopype.diagram import as_mermaid, as_text
from aiopype.errors import AiopypeError
from aiopype.flow import AsyncFlow, connected
from aiopype.playback import Replay, playing
from aiopype.processes import stop_with_parent
from aiopype.settings import Settings, report
from aiopype.target import load_flow

__all__ = ["main"]

logger = logging.getLogger(__name__)

_LEVELS = click.Choice(logs.LEVELS, case_sensitive=False)


class _Speed(click.ParamType):
    """How fast a recording is played: a number, 0 or `max` for as fast as the pipeline takes it."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        with contextlib.suppress(ValueError):
            speed = 0.0 if value == "max" else float(value)
            if 0 <= speed < math.inf:
                return speed
        return self.fail(f"{value!r}: write a number, 1 as it was recorded, or max", param, ctx)


class _Commands(click.Group):
    """Commands whose expected errors are one line, not a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except AiopypeError as error:
            if logs.are_for_programs():
                logger.critical("the command ends: %s", error)
                raise SystemExit(1) from error
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aiopype")
def main() -> None:
    """Run continuous data pipelines on Kafka."""


main.add_command(deploy)
main.add_command(errors)
main.add_command(health)
main.add_command(record)
main.add_command(sources)
main.add_command(status)


@main.command()
@click.argument("target", required=False)
@click.option("--broker", metavar="HOST:PORT,...", help="A Kafka cluster; an embedded one if none.")
@click.option("--sync", is_flag=True, help="Run in this process, without Kafka.")
@click.option("--workers", type=click.IntRange(1), help="So many processes that share the work.")
@click.option(
    "--web-port",
    type=click.IntRange(0, 65_535),
    help="Where health and metrics are, also of several workers together; 0 is nowhere.  "
    "[default: 6066, or the next free one]",
)
@click.option("--web-host", hidden=True, help="Where one of several workers answers.")
@click.option(
    "--replay",
    "recording",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Play what `aiopype record` wrote; the sources do not start.",
)
@click.option(
    "--speed", type=_Speed(), help="Of the replay: 10 is ten times as fast.  [default: 1]"
)
@click.option("--as", "replay_name", metavar="NAME", help="Of one replay on Kafka among several.")
@click.option("--plain", is_flag=True, help="Log lines only, no live view.")
@click.option("--log-level", type=_LEVELS, help="Before the setting log_level.  [default: INFO]")
@click.option("--worker-number", type=int, hidden=True, help="Of those under one command.")
def run(  # noqa: PLR0913, PLR0917 - an argument an option
    target: str | None,
    broker: str | None,
    sync: bool,
    workers: int | None,
    web_port: int | None,
    web_host: str | None,
    recording: Path | None,
    speed: float | None,
    replay_name: str | None,
    plain: bool,
    log_level: str | None,
    worker_number: int | None,
) -> None:
    """Run the flow of TARGET, a Python file or module:attribute.

    Without TARGET the flow that AIOPYPE_FLOW or pyproject.toml names is taken. In a terminal it
    shows live what becomes of the events. SIGTERM and Ctrl-C finish what is in work and exit with
    0. The status is 1 when the worker could not go on, or, in process, when a source that keeps
    failing is all that is left.

    With --replay the inputs of a recording are played in place of the sources, and the run ends
    when everything is handled. The handlers run for real. On Kafka a replay has topics, positions
    and a consumer group of its own, in the namespace `replay` or `replay.NAME`. One that was cut
    off goes on where it was; another --as NAME plays the recording anew.
    """
    logs.set_up(*Settings.of_logs(None, log_level=log_level), worker=worker_number)
    target = named(target)
    flow = load_flow(target)
    flow.log_level, flow.worker_number = log_level, worker_number
    in_process = sync or not isinstance(flow, AsyncFlow)
    flow.replay = _replay(recording, speed, replay_name, in_process)
    if worker_number:
        stop_with_parent(flow.stop)
    if sync and isinstance(flow, AsyncFlow):
        flow = flow.in_process()
    flow.live = not (plain or worker_number) and _in_terminal()
    if not isinstance(flow, AsyncFlow):
        flow.start()
    elif workers is None:
        flow.web_host = web_host
        flow.start(broker=broker, web_port=web_port)
    else:
        from aiopype.fleet import run_all  # noqa: PLC0415 - aiohttp takes a fifth of a second

        flow.set_up_logs()
        with playing(flow.replay, flow.build()):
            pass  # what is wrong is said once, not by every worker
        settings = flow.settings(broker=broker, web_port=web_port)
        with connected(settings) as address:
            options = ["--broker", address, *_options(flow.replay)]
            options += ["--log-level", log_level] if log_level else []
            command = ["-m", "aiopype", "run", target, *options]
            run = run_all(command, workers, settings, may_end=flow.replay is not None)
            status = asyncio.run(run)
        raise SystemExit(status)


def _replay(
    file: Path | None, speed: float | None, name: str | None, in_process: bool
) -> Replay | None:
    """Return what the options of a replay say; None without one."""
    if file is None and not (speed is None and name is None):
        raise click.UsageError("--speed and --as are for a replay; give --replay FILE")
    if in_process and name is not None:
        raise click.UsageError("--as is for a replay on Kafka; in process each is by itself")
    if file is None:
        return None
    return Replay(file=file, speed=1.0 if speed is None else speed, name=name)


def _options(replay: Replay | None) -> list[str]:
    """Return the options that say the same again."""
    if replay is None:
        return []
    options = ["--replay", str(replay.file), "--speed", repr(replay.speed)]
    return options if replay.name is None else [*options, "--as", replay.name]


def _in_terminal() -> bool:
    return sys.stdout.isatty() and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@main.command()
@click.argument("target", required=False)
@click.option("--mermaid", is_flag=True, help="As a mermaid flowchart instead of text.")
def graph(target: str | None, mermaid: bool) -> None:
    """Print the managers, components, events and handlers of the flow of TARGET.

    Without TARGET the flow that AIOPYPE_FLOW or pyproject.toml names is taken. Nothing is started,
    but the components' constructors run.
    """
    pipelines = load_flow(named(target)).build()
    click.echo(as_mermaid(pipelines) if mermaid else as_text(pipelines))


@main.command(epilog=f"\b\nThe settings:\n{report.as_help(Settings.table())}")
@click.argument("target", required=False)
@click.option("--broker", metavar="HOST:PORT,...", help=Settings.table()["broker"].reason)
@click.option("--json", "in_json", is_flag=True, help="As JSON instead of text.")
def config(target: str | None, broker: str | None, in_json: bool) -> None:
    """Print the settings of the flow of TARGET: each one's value and where it comes from.

    Without TARGET the flow that AIOPYPE_FLOW or pyproject.toml names is taken. Secrets are hidden.
    """
    named = target or Settings.default_flow()
    flow = load_flow(named) if named else None
    of = (None, None) if flow is None else (flow.config, flow.name)
    found = Settings.look_up(*of, broker=broker, flow=target)
    show = report.as_json if in_json else report.as_text
    click.echo(show(Settings.table(), found))


@main.command()
@click.option("--port", type=int, help="On loopback; a free one if not given.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".aiopype/kafka"),
    show_default=True,
    help="Where it keeps its files.",
)
def broker(port: int | None, data: Path) -> None:
    """Run an Apache Kafka broker by itself, in the foreground."""
    from aiopype import broker as embedded  # noqa: PLC0415 - the other commands do without

    raise SystemExit(embedded.serve(data, port=port))
