"""`aiopype sources`: which worker runs which source, and how operators change that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import msgspec

from aiopype.commands import source_list
from aiopype.commands.flows import Connection, connection_to, open_log
from aiopype.commands.operating import (
    Change,
    Move,
    Operator,
    Pause,
    Reset,
    Restart,
    Resume,
    carry_out,
    check_move,
    place,
    position,
)
from aiopype.commands.owners import Log, Owners, Picture, SourceFacts
from aiopype.commands.rendering import one_line
from aiopype.errors import CodecError
from aiopype.positions import encode_position
from aiopype.settings import Settings

__all__ = ["sources"]

_F = TypeVar("_F", bound=Callable[..., Any])

#: How long a command waits to see what it wished.
WAIT_SECONDS = 10.0

_BROKER = click.option("--broker", metavar="HOST:PORT,...", help="A Kafka cluster.")
_ALL = click.option("--all", "take_all", is_flag=True, help="Every source of the flow.")


def _changes(command: _F) -> _F:
    wait = click.option(
        "--wait",
        type=click.FloatRange(0),
        metavar="SECONDS",
        default=WAIT_SECONDS,
        show_default=True,
        help="Until it is seen to be done; 0 is not at all.",
    )
    return wait(_BROKER(command))


@click.group()
def sources() -> None:
    """See which worker runs which source, and change that while the flow runs.

    A SOURCE is the full name of one, or a pattern: prices.*. What is wished of a source lasts, over
    restarts of all workers too, until something else is wished. The status is 1 when what is wished
    was not seen to be done in time; it is wished all the same.
    """


@sources.command("list")
@click.argument("target", required=False)
@_BROKER
@click.option("--json", "in_json", is_flag=True, help="As JSON instead of text.")
def list_sources(target: str | None, broker: str | None, in_json: bool) -> None:
    """List the sources of the flow of TARGET, and its workers.

    `running` is a source that its worker has and runs; whether its upstream answers is said by that
    worker's /health/ready. Of one that is down, or has ended, the worker says why and since when.
    Sources that only the brokers know are marked.
    """
    picture = _run(connection_to(target, broker), _picture)
    if in_json:
        click.echo(source_list.list_as_json(picture))
    else:
        for line in source_list.list_as_text(picture, time.time()):
            click.echo(line)


@sources.command()
@click.argument("words", nargs=-1, metavar="[TARGET] [SOURCE]...")
@_ALL
@_changes
def pause(words: tuple[str, ...], take_all: bool, **given: Any) -> None:
    """Have sources run no more until they are resumed; they keep their positions."""
    _change(Pause(), *_split(words, take_all), **given)


@sources.command()
@click.argument("words", nargs=-1, metavar="[TARGET] [SOURCE]...")
@_ALL
@_changes
def resume(words: tuple[str, ...], take_all: bool, **given: Any) -> None:
    """Have sources that are paused run again, from where they were."""
    _change(Resume(), *_split(words, take_all), **given)


@sources.command()
@click.argument("words", nargs=-1, metavar="[TARGET] [SOURCE]...")
@_ALL
@_changes
def restart(words: tuple[str, ...], take_all: bool, **given: Any) -> None:
    """Have sources stopped and started again where they run; also out of quarantine."""
    _change(Restart(), *_split(words, take_all), **given)


@sources.command()
@click.argument("words", nargs=-1, metavar="[TARGET] SOURCE [WORKER]")
@click.option("--anywhere", is_flag=True, help="Instead of WORKER: pin it no more.")
@_changes
def move(words: tuple[str, ...], anywhere: bool, **given: Any) -> None:
    """Have a source run on a worker as long as that is there, and pin it there.

    WORKER is a name as `list` shows it, <host>:<process id>, or a host, which outlives a restart of
    its workers.
    """
    least = 1 if anywhere else 2
    if not least <= len(words) <= least + 1:
        raise click.UsageError("give a SOURCE and a WORKER, or a SOURCE and --anywhere")
    target = words[0] if len(words) > least else None
    source, *worker = words[-least:]
    _change(Move(worker[0] if worker else None), target, (source,), **given)


@sources.command()
@click.argument("words", nargs=-1, metavar="[TARGET] SOURCE")
@click.option("--position", "text", metavar="JSON", help="""As it stands in `list`: 17, '"b"'.""")
@click.option("--beginning", is_flag=True, help="Where it starts that has no position yet.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_changes
def reset(
    words: tuple[str, ...],
    text: str | None,
    beginning: bool,
    yes: bool,
    broker: str | None,
    wait: float,
) -> None:
    """Say where a source is, and have it go on from there.

    A worker that runs it stops, drops what it has not written yet, and starts again there. What
    lies between comes again, or is left out. What is stored of the source need not be readable.
    """
    if not 1 <= len(words) <= 2:
        raise click.UsageError("give one SOURCE")
    if (text is not None) == beginning:
        raise click.UsageError("give either --position or --beginning")
    goal = None if text is None else _position(text)
    connection = connection_to(words[0] if len(words) > 1 else None, broker)
    source = _run(connection, _find, words[-1])
    now = one_line(source.trouble, 400) if source.trouble else f"it is at {place(source)}"
    click.echo(f"{source.name}: {now}, epoch {source.epoch}, {source.standing}")
    if not yes:
        click.confirm(f"let it go on from {position(goal)}?", abort=True)
    if not _run(connection, _reset, source.name, goal, wait):
        raise SystemExit(1)


def _position(text: str) -> bytes | None:
    try:
        given = msgspec.json.decode(text.encode())
        return None if given is None else encode_position(given)
    except (ValueError, RecursionError, CodecError) as error:
        raise click.UsageError(
            f"""--position {text!r} cannot be one: {error}; give JSON, a text as '"text"'"""
        ) from error


def _change(
    change: Change, target: str | None, names: Sequence[str], *, broker: str | None, wait: float
) -> None:
    if not _run(connection_to(target, broker), _carry_out, change, names, wait):
        raise SystemExit(1)


def _split(words: tuple[str, ...], take_all: bool) -> tuple[str | None, tuple[str, ...]]:
    """Part the target from the sources behind it.

    Both may be words with dots in between; but where no flow is the project's one must be named.
    """
    target = None
    if words and (take_all or _is_target(words[0]) or Settings.default_flow() is None):
        target, words = words[0], words[1:]
    if bool(words) == take_all:
        raise click.UsageError("name sources, or give --all")
    return target, words


def _is_target(word: str) -> bool:
    return word.endswith(".py") or ":" in word


def _run(connection: Connection, do: Callable[..., Any], *arguments: Any) -> Any:
    async def connected() -> Any:
        async with open_log(connection) as log:
            return await do(connection, log, *arguments)

    return asyncio.run(connected())


def open_operator(connection: Connection) -> Operator:
    """Return what writes."""
    from aiopype.transport import operating  # noqa: PLC0415 - loads aiokafka

    return operating.Operator(connection.brokers, connection.group, security=connection.security)


async def _picture(connection: Connection, log: Log) -> Picture:
    return await Owners(connection, log).settled()


async def _find(connection: Connection, log: Log, name: str) -> SourceFacts:
    found = (await _picture(connection, log)).choose([name])
    if len(found) > 1:
        raise click.UsageError(f"{name!r} means {len(found)} sources; give one")
    return found[0]


async def _carry_out(
    connection: Connection, log: Log, change: Change, words: Sequence[str], seconds: float
) -> bool:
    """Change sources and say what became of it; return whether all went well."""
    owners = Owners(connection, log)
    picture = await owners.settled()
    chosen = picture.choose(words) if words else list(picture.sources.values())
    if not chosen:
        click.echo("the flow has no sources that run on one worker each")
    if isinstance(change, Move) and change.worker is not None:
        check_move(picture, chosen, change.worker)
    return await _tell(change, [s.name for s in chosen], owners, open_operator(connection), seconds)


async def _reset(
    connection: Connection, log: Log, name: str, goal: bytes | None, seconds: float
) -> bool:
    owners, operator = Owners(connection, log), open_operator(connection)
    before = (await owners.settled()).sources[name]
    state = await operator.put(name, goal, before.epoch)
    click.echo(f"{name}  is at {position(goal)}, epoch {state.epoch}")
    # A source that emits seldom would not see it for long, and one in quarantine not at all.
    return await _tell(Reset(), [name], owners, operator, seconds)


async def _tell(
    change: Change, names: Sequence[str], owners: Owners, operator: Operator, seconds: float
) -> bool:
    is_well = True
    async for outcome in carry_out(change, names, owners, operator, seconds):
        is_well = is_well and outcome.is_well
        click.echo(f"{outcome.name}  {one_line(outcome.text, 400)}")
    return is_well
