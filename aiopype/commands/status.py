"""`aiopype status`: whether a flow is well, seen from its brokers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import click

from aiopype.commands.flows import Connection, connection_to, open_log
from aiopype.commands.status_facts import FlowFacts, as_json
from aiopype.commands.status_judge import Judge, reasons
from aiopype.commands.status_look import Looker
from aiopype.errors import BrokerError

__all__ = ["status"]

#: For an answer of the brokers, with all that has to be read.
ANSWER_SECONDS = 8.0

#: An event that has waited longer is not in the normal course of things.
MOST_LAG_SECONDS = 60.0

#: Between two looks that follow each other.
WATCH_SECONDS = 2.0

#: Between two looks of which the second shall tell more: whether events are handled.
AGAIN_SECONDS = 0.8

#: How long a check waits for a rebalance to end.
PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class _Watching:
    """How a flow is looked at."""

    connection: Connection
    judge: Judge
    every: float
    seconds: float


class _Status(click.Command):
    """Takes `--watch` with a number behind it or without, also in front of TARGET."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = list(args)
        for number, word in enumerate(words):
            following = words[number + 1] if number + 1 < len(words) else ""
            if word == "--watch" and not following[:1].isdigit():
                words[number] = f"--watch={WATCH_SECONDS:g}"
        return super().parse_args(ctx, words)


@click.command(cls=_Status)
@click.argument("target", required=False)
@click.option("--broker", metavar="HOST:PORT,...", help="A Kafka cluster.")
@click.option("--partitions", is_flag=True, help="A line for each partition.")
@click.option(
    "--watch",
    type=click.FloatRange(0.2),
    metavar="[SECONDS]",
    help=f"Look again and again, until Ctrl-C.  [default: every {WATCH_SECONDS:g}]",
)
@click.option("--check", is_flag=True, help="Only say what is wrong; the status is 1 then.")
@click.option(
    "--max-lag",
    type=click.FloatRange(0),
    metavar="SECONDS",
    default=MOST_LAG_SECONDS,
    show_default=True,
    help="How old the oldest event may be that is not handled.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    default=ANSWER_SECONDS,
    show_default=True,
    help="For the brokers' answers.",
)
@click.option("--json", "in_json", is_flag=True, help="As JSON; with --watch a line a look.")
def status(  # noqa: PLR0913, PLR0917 - an argument an option
    target: str | None,
    broker: str | None,
    partitions: bool,
    watch: float | None,
    check: bool,
    max_lag: float,
    timeout: float,
    in_json: bool,
) -> None:
    """Show whether the flow of TARGET is well: workers, lag, sources, dead letters.

    Only the brokers are asked, from any machine; no worker need run. Lag is counted in offsets, of
    which some are markers of transactions, and in seconds since the source saw the oldest event
    that is not handled. The status is 0 when it could be seen; with --check it is 1 when something
    is wrong. What is wrong is told first, with what to do.
    """
    if check and watch is not None:
        raise click.UsageError("give either --check or --watch")
    # What the client logs of brokers that do not answer is told as an error.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    connection = connection_to(target, broker)
    judge = Judge(target or "", max_lag, is_patient=check)
    if watch is not None:
        watching = _Watching(connection, judge, watch, timeout)
        with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):  # Ctrl-C is either
            asyncio.run(_watch_json(watching) if in_json else _watch(watching, partitions))
        return
    facts = asyncio.run(_look(_Watching(connection, judge, AGAIN_SECONDS, timeout)))
    if in_json:
        click.echo(as_json(facts))
    elif check:
        for line in reasons(facts):
            click.echo(line)
    else:
        from aiopype.commands import status_view  # noqa: PLC0415 - rich takes a tenth of a second

        status_view.show(facts, with_partitions=partitions)
    if check and not facts.is_well:
        raise SystemExit(1)


async def _look(watching: _Watching) -> FlowFacts:
    """Return how a flow is; looks twice where the second look tells more.

    Raises:
        BrokerError: the brokers do not answer, or do not allow it.
    """
    judge = watching.judge
    until = time.monotonic() + (PATIENCE_SECONDS if judge.is_patient else 0)
    was_behind = False
    async with contextlib.aclosing(_looks(watching)) as looks:
        async for facts in looks:
            if isinstance(facts, BrokerError):
                raise facts
            is_moving = any(group.state == "rebalancing" for group in facts.groups.values())
            if is_moving and time.monotonic() < until:
                continue
            if was_behind or not judge.is_behind(facts):
                return facts
            was_behind = True
    raise AssertionError("it looks on for ever")


async def _watch(watching: _Watching, with_partitions: bool) -> None:
    from aiopype.commands import status_view  # noqa: PLC0415 - as above

    last: FlowFacts | None = None
    with status_view.drawing(with_partitions=with_partitions) as draw:
        async with contextlib.aclosing(_looks(watching)) as looks:
            async for facts in looks:
                if isinstance(facts, FlowFacts):
                    last = facts
                    draw(facts, "")
                else:
                    draw(last, str(facts))


async def _watch_json(watching: _Watching) -> None:
    async with contextlib.aclosing(_looks(watching)) as looks:
        async for facts in looks:
            if isinstance(facts, FlowFacts):
                click.echo(as_json(facts, on_one_line=True))
            else:
                click.echo(f"Error: {facts}", err=True)


async def _looks(watching: _Watching) -> AsyncGenerator[FlowFacts | BrokerError, None]:
    """Yield how a flow is, again and again; an error is told, and it connects anew."""
    while True:
        try:
            async with contextlib.AsyncExitStack() as opened:
                looker: Looker | None = None
                while True:
                    async with _in_time(watching):
                        if looker is None:
                            log = await opened.enter_async_context(open_log(watching.connection))
                            looker = Looker(watching.connection, log)
                        facts = await looker.look()
                    yield watching.judge.judged(facts)
                    await asyncio.sleep(watching.every)
        except BrokerError as error:
            yield error
        await asyncio.sleep(watching.every)


@contextlib.asynccontextmanager
async def _in_time(watching: _Watching) -> AsyncGenerator[None, None]:
    try:
        async with asyncio.timeout(watching.seconds):
            yield
    except TimeoutError as error:
        raise BrokerError(
            f"the brokers at {watching.connection.brokers} did not tell all in "
            f"{watching.seconds:g} s; look into their own logs, or give a longer --timeout"
        ) from error
