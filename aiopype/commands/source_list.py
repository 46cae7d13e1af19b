"""The sources of a flow, and its workers, as text for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from aiopype.commands.owners import Picture, SourceFacts
from aiopype.commands.rendering import local, one_line, table
from aiopype.ownership import Stopped, is_meant
from aiopype.progress import duration

__all__ = ["as_json", "list_as_json", "list_as_text"]

#: Of a position.
POSITION_CHARACTERS = 40

_HEAD = ("source", "state", "worker", "epoch", "since", "written", "position", "pinned to")


def list_as_text(picture: Picture, now: float) -> Iterator[str]:
    """Yield the lines of a list.

    Arguments:
        picture: how things are.
        now: seconds since 1970.
    """
    if not picture.sources:
        yield "the flow has no sources that run on one worker each"
        return
    yield from table([_HEAD, *(_row(source, picture, now) for source in picture.sources.values())])
    for source in picture.sources.values():
        if source.trouble is not None:
            yield one_line(source.trouble, 400)
        elif source.stopped is not None and not source.wish.is_paused:
            yield one_line(f"{source.name}: {_told(source.stopped)}", 400)
    yield ""
    if not picture.is_settled:
        yield "the workers are agreeing on who runs what; look again in a moment"
    elif not picture.workers:
        yield "no worker runs"
    else:
        yield from table([("worker", "address", "sources"), *_workers(picture)])


def list_as_json(picture: Picture) -> str:
    """Return a list as a JSON object: `sources`, `workers` and `is_settled`."""
    workers = [
        {"worker": worker.name, "address": worker.address, "sources": worker.sources}
        for worker in picture.workers
    ]
    sources = [as_json(source) for source in picture.sources.values()]
    told = {"sources": sources, "workers": workers, "is_settled": picture.is_settled}
    return json.dumps(told, indent=2)


def _row(source: SourceFacts, picture: Picture, now: float) -> tuple[str, ...]:
    name = one_line(source.name, 250)
    state = source.state
    facts = ("", "", "")
    if state is not None:
        raw = (state.raw_position or b"none").decode(errors="replace")
        ago = duration(max(0.0, now - state.at_ms / 1000))
        facts = (local(state.since_ms), f"{ago} ago", one_line(raw, POSITION_CHARACTERS))
    return (
        name if source.is_in_program else f"{name} (not in this program)",
        source.standing,
        _worker(source),
        str(source.epoch or ""),
        *facts,
        _pinned(source, picture),
    )


def _told(stopped: Stopped) -> str:
    again = "" if stopped.again_ms is None else f", tried again at {local(stopped.again_ms)}"
    reason = f": {stopped.reason}" if stopped.reason else ""
    return f"{stopped.state} since {local(stopped.since_ms)}{again}{reason}"


def _worker(source: SourceFacts) -> str:
    if source.owner is not None:
        return one_line(source.owner)
    return "none" if source.state is None else f"none, last {one_line(source.state.worker)}"


def _pinned(source: SourceFacts, picture: Picture) -> str:
    wanted = source.wish.worker
    if wanted is None:
        return ""
    is_there = any(is_meant(worker.name, wanted) for worker in picture.workers)
    return one_line(wanted) if is_there or not picture.is_settled else (
        f"{one_line(wanted)} (not there)"
    )  # fmt: skip


def _workers(picture: Picture) -> Iterator[tuple[str, ...]]:
    for worker in picture.workers:
        count = f"{len(worker.sources):,}" if worker.sources else "none, it stands by"
        yield one_line(worker.name), one_line(worker.address), count


def as_json(source: SourceFacts) -> dict[str, Any]:
    """Return a source as a JSON object."""
    state = source.state
    return {
        "source": source.name,
        "state": source.standing,
        "worker": source.owner,
        "last_worker": None if state is None else state.worker,
        "epoch": source.epoch,
        "since_ms": None if state is None else state.since_ms,
        "written_ms": None if state is None else state.at_ms,
        "position": None if state is None else _decoded(state.raw_position),
        "is_paused": source.wish.is_paused,
        "pinned_to": source.wish.worker,
        "is_in_program": source.is_in_program,
        "stopped": None if source.stopped is None else msgspec.to_builtins(source.stopped),
        "trouble": source.trouble,
    }


def _decoded(raw: bytes | None) -> Any:
    try:
        return None if raw is None else msgspec.json.decode(raw)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return repr(raw)
