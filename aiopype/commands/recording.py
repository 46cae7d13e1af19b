"""`aiopype record`: what the sources of a flow get from outside, into a file."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import click

from aiopype import logs
from aiopype.capture import Capture, CaptureProtocol
from aiopype.commands.flows import named
from aiopype.errors import ConfigurationError
from aiopype.pipelines import Pipelines
from aiopype.progress import duration
from aiopype.recording import RecordingWriter
from aiopype.settings import Settings
from aiopype.settings.files import nearest
from aiopype.supervision import stopped_by_signals
from aiopype.target import load_flow

__all__ = ["record"]

logger = logging.getLogger(__name__)


@click.command()
@click.argument("target", required=False)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The new file.",
)
@click.option("--source", "sources", multiple=True, metavar="NAME", help="Only this; repeatable.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="End after this time.")
@click.option("--count", type=click.IntRange(1), help="End after so many inputs.")
def record(
    target: str | None,
    output: Path,
    sources: tuple[str, ...],
    seconds: float | None,
    count: int | None,
) -> None:
    """Record what the sources of the flow of TARGET get from outside.

    The sources run for real, from their beginning and with no position; no handler runs, and no
    Kafka is needed. It ends when they have ended, with Ctrl-C, or as an option says; what is in
    the file then can be played: aiopype run TARGET --replay FILE.

    Without TARGET the flow that AIOPYPE_FLOW or pyproject.toml names is taken. The status is 1 when
    a source that keeps failing was all that was left.
    """
    logs.set_up(*Settings.of_logs(None))
    flow = load_flow(named(target))
    flow.set_up_logs()
    protocol = CaptureProtocol()
    pipelines = flow.build(protocol)
    chosen = _choose(sources, list(pipelines.sources))
    with RecordingWriter(output, flow.name, time.time()) as writer:
        capture = Capture(writer, protocol, most=count)
        for name in chosen:
            capture.attach(pipelines.sources[name])
        logger.info("recording %s into %s; Ctrl-C ends it", ", ".join(chosen), output)
        began = time.monotonic()
        asyncio.run(_record(pipelines, protocol, capture, seconds))
    total = capture.counts.total()
    each = ", ".join(f"{name} {number:,}" for name, number in capture.counts.items())
    click.echo(f"{total:,} inputs in {duration(time.monotonic() - began)} in {output}: {each}")
    if pipelines.supervisor.has_given_up:
        raise SystemExit(1)


def _choose(wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    if not known:
        raise ConfigurationError("the flow has no sources, so there is nothing to record")
    for name in wanted:
        if name not in known:
            raise ConfigurationError(
                f"there is no source {name!r} to record; {nearest(name, known)}"
            )
    return [name for name in known if name in wanted or not wanted]


async def _record(
    pipelines: Pipelines,
    protocol: CaptureProtocol,
    capture: Capture,
    seconds: float | None,
) -> None:
    """Run the sources that are captured until they have ended, or no more is wanted.

    Raises:
        RecordingError: an input cannot be written.
    """
    over = asyncio.Event()
    capture.on_full = over.set
    for name in pipelines.sources:
        if name not in capture.counts:
            protocol.end(name)
    pipelines.start_sources()
    waits = [
        asyncio.create_task(over.wait(), name="wait for the end of the recording"),
        asyncio.create_task(pipelines.supervisor.none_left(), name="wait for the last source"),
    ]
    with stopped_by_signals(over.set):
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    pipelines.supervisor.stop()
    await pipelines.stop_sources()
    if capture.error is not None:
        raise capture.error
