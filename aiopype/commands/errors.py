"""`aiopype errors`: what has failed, looked at, run again or put aside, while workers run."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import click

from aiopype.commands import rendering
from aiopype.commands.deciding import DONE, Action, Decider, outcomes
from aiopype.commands.flows import Connection, connection_to, open_log, open_pens
from aiopype.commands.letters import STATES, Entry, Letters, Log, State, UnknownLetter, Wanted
from aiopype.commands.rendering import Row
from aiopype.topics.quantities import milliseconds

__all__ = ["errors"]

_F = TypeVar("_F", bound=Callable[..., Any])


class _Moment(click.ParamType):
    """A time as `2h` ago or in ISO 8601, as milliseconds since 1970."""

    name = "when"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        with contextlib.suppress(ValueError):
            return int(datetime.fromisoformat(value).timestamp() * 1000)
        with contextlib.suppress(ValueError):
            ago = milliseconds(value)
            if ago >= 0:
                return int(time.time() * 1000) - ago
        return self.fail(
            f"{value!r} is no time; write how long ago (90s, 30m, 2h, 7d) or 2026-01-31T08:00",
            param,
            ctx,
        )


_ARGUMENT = click.argument("target", required=False)
_BROKER = click.option("--broker", metavar="HOST:PORT,...", help="A Kafka cluster.")
_JSON = click.option("--json", "in_json", is_flag=True, help="As JSON instead of text.")


def _filters(command: _F) -> _F:
    for option in (
        click.option("--until", "until_ms", type=_Moment(), help="Older than this."),
        click.option(
            "--since", "since_ms", type=_Moment(), help="Not older: 2h, or 2026-01-31T08:00."
        ),
        click.option("--error", metavar="CLASS", help="Class of the error, or a pattern."),
        click.option("--component", metavar="NAME", help="Full name, or a pattern: prices.*"),
        _BROKER,
    ):
        command = option(command)
    return command


def _choices(command: _F) -> _F:
    for option in (
        click.option("--dry-run", is_flag=True, help="Only say what would be done."),
        click.option("--again", is_flag=True, help="Also letters that are not open any more."),
        click.option("--all", "take_all", is_flag=True, help="Every open letter."),
    ):
        command = option(command)
    return _filters(command)


@click.group()
def errors() -> None:
    """Look at events that failed for good, and run them again.

    Each is a dead letter in the topic of its component's `error` event.
    """


@errors.command("list")
@_ARGUMENT
@_filters
@click.option("--state", type=click.Choice([*STATES, "all"]), default="open", show_default=True)
@click.option("--limit", type=click.IntRange(0), default=50, show_default=True, help="The latest.")
@_JSON
def list_letters(
    target: str | None, broker: str | None, state: str, limit: int, in_json: bool, **filters: Any
) -> None:
    """List the dead letters of the flow of TARGET, the latest last."""
    states = STATES if state == "all" else tuple(s for s in STATES if s == state)
    rows, groups = _run(target, broker, _latest, Wanted(states=states, **filters), limit)
    if in_json:
        click.echo(rendering.list_as_json(rows, groups))
    else:
        for line in rendering.list_as_text(rows, groups):
            click.echo(line)


@errors.command()
@click.argument("words", nargs=-1, metavar="[TARGET] ID")
@_BROKER
@_JSON
def show(words: tuple[str, ...], broker: str | None, in_json: bool) -> None:
    """Show all of one dead letter, as `list` calls it: prices.writer:2:17."""
    target, ids = _split(words)
    if len(ids) != 1:
        raise click.UsageError("give the id of one dead letter; `aiopype errors list` shows them")
    entry = _run(target, broker, _find, ids[0])
    for line in [rendering.as_json(entry)] if in_json else rendering.as_text(entry):
        click.echo(line)


@errors.command()
@click.argument("words", nargs=-1, metavar="[TARGET] [ID]...")
@_choices
@click.option(
    "--wait",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Until they have run, and tell how each ended.",
)
def replay(words: tuple[str, ...], broker: str | None, wait: float | None, **given: Any) -> None:
    """Run the originals of dead letters again, each through the handler that failed.

    A worker of the flow does it, once; what fails again is a new dead letter. The status is 1 if
    one was refused, or, with --wait, has failed again or is not done in time.
    """
    _decide("replay", words, broker, wait=wait, **given)


@errors.command()
@click.argument("words", nargs=-1, metavar="[TARGET] [ID]...")
@_choices
def discard(words: tuple[str, ...], broker: str | None, **given: Any) -> None:
    """Mark dead letters as done with; they stay in their topics.

    The status is 1 if one was refused.
    """
    _decide("discard", words, broker, **given)


class _Choice(NamedTuple):
    """Which letters, and how: the arguments of `replay` and `discard`."""

    action: Action
    ids: tuple[str, ...]
    wanted: Wanted
    again: bool
    dry_run: bool
    wait: float | None


def _decide(
    action: Action,
    words: tuple[str, ...],
    broker: str | None,
    *,
    take_all: bool,
    again: bool,
    dry_run: bool,
    wait: float | None = None,
    **filters: Any,
) -> None:
    target, ids = _split(words)
    is_filtered = any(value is not None for value in filters.values())
    if not (ids or is_filtered or take_all):
        raise click.UsageError(f"name what to {action}: ids, --component, --error, ... or --all")
    if ids and (is_filtered or take_all):
        raise click.UsageError("give ids, or --all and filters, not both")
    states: tuple[State, ...] = STATES if again else ("open",)
    choice = _Choice(action, ids, Wanted(states=states, **filters), again, dry_run, wait)
    if not _run(target, broker, _carry_out, choice):
        raise SystemExit(1)


def _split(words: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Part the target from the ids behind it: an id ends with two numbers, as no target does."""
    if words and not _is_id(words[0]):
        return words[0], words[1:]
    return None, words


def _is_id(word: str) -> bool:
    return all(part.isdigit() for part in word.rsplit(":", 2)[1:]) and word.count(":") >= 2


def _run(target: str | None, broker: str | None, do: Callable[..., Any], *arguments: Any) -> Any:
    connection = connection_to(target, broker)

    async def connected() -> Any:
        async with open_log(connection) as log:
            return await do(connection, log, *arguments)

    return asyncio.run(connected())


async def _latest(
    connection: Connection, log: Log, wanted: Wanted, limit: int
) -> tuple[list[Row], Counter[tuple[str, str, State]]]:
    groups: Counter[tuple[str, str, State]] = Counter()
    latest: list[tuple[int, str, Row]] = []
    async for entry in Letters(connection.graph, log).matching(wanted):
        groups[entry.component, entry.error, entry.state] += 1
        row = Row.of(entry)
        heapq.heappush(latest, (row.at_ms, row.id, row))
        if len(latest) > limit:
            heapq.heappop(latest)
    return [row for _, _, row in sorted(latest)], groups


async def _find(connection: Connection, log: Log, text: str) -> Entry:
    return await Letters(connection.graph, log).find(text)


async def _carry_out(connection: Connection, log: Log, choice: _Choice) -> bool:
    """Decide about the letters that are chosen; say whether all went well."""
    counts: Counter[bool] = Counter()

    def tell(entry: Entry, is_taken: bool, text: str) -> None:
        counts[is_taken] += 1
        click.echo(f"{entry.id}  {_taken(choice, text) if is_taken else f'refused: {text}'}")

    letters = Letters(connection.graph, log)
    async with contextlib.AsyncExitStack() as opened:
        pens = None
        if not choice.dry_run:
            pens = await opened.enter_async_context(open_pens(connection))
        decider = Decider(choice.action, connection.graph, log, pens, choice.again, tell)
        if choice.wait is not None:
            decider.before = await log.ends(letters.topics)
        for text in dict.fromkeys(choice.ids):
            try:
                entry = await letters.find(text)
            except UnknownLetter as error:
                counts[False] += 1
                click.echo(f"refused: {error}")
            else:
                await decider.decide(letters, entry)
        if not choice.ids:
            async for entry in letters.matching(choice.wanted):
                await decider.decide(letters, entry)
        await decider.flush()
    would = "would be " if choice.dry_run else ""
    click.echo(f"{counts[True]:,} {would}{choice.action}ed, {counts[False]:,} refused")
    if choice.wait is None or choice.dry_run:
        return not counts[False]
    return await _wait(connection, letters, decider, choice.wait) and not counts[False]


async def _wait(connection: Connection, letters: Letters, decider: Decider, seconds: float) -> bool:
    counts: Counter[bool] = Counter()
    async for name, ending in outcomes(decider, letters, connection.group, seconds):
        counts[ending == DONE] += 1
        click.echo(f"{name}  {rendering.one_line(ending, 200)}")
    click.echo(f"{counts[True]:,} done, {counts[False]:,} failed or not done yet")
    return not counts[False]


def _taken(choice: _Choice, subscription: str) -> str:
    if choice.action == "discard":
        return "would be discarded" if choice.dry_run else "discarded"
    return f"{'would run' if choice.dry_run else 'runs'} again through {subscription}"
