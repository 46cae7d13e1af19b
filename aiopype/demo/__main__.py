"""Runs the demo for a person: `python -m aiopype.demo`."""

from __future__ import annotations

import sys
import time
from functools import partial

from aiopype import broker
from aiopype.demo.days import read_days
from aiopype.demo.directory import empty, in_use
from aiopype.demo.exchange import read_trades
from aiopype.demo.flow import DATA_DIR, OPENED_FILE, dataflow
from aiopype.demo.outputs import Outputs, outputs_of
from aiopype.demo.quotes import BUSY_SHARES
from aiopype.demo.watch import watching
from aiopype.errors import AiopypeError

#: For the flow; with Kafka's start and stop the demo stays below two minutes.
LIMIT_SECONDS = 95.0

_INTRODUCTION = """\
{days:,} trading days of Apple's stock, {first} to {last}, go from a local REST API through
Kafka into CSV files: each day's price, and the days with more than {busy:,} shares.
Beside them {trades:,} trades come over a websocket, which is cut off on the way for some seconds.
The demo starts a Kafka of its own and leaves any other alone (AIOPYPE_BROKER is not used).
Everything is in {directory}.
It takes about half a minute; Ctrl-C ends it before.
"""

say = partial(print, flush=True)


def main() -> int:
    """Run the flow over all days and trades and check what came of it; return the exit status."""
    days, trades = read_days(), read_trades()
    outputs = outputs_of(days, trades)
    say(
        _INTRODUCTION.format(
            days=len(days),
            first=days[0].date,
            last=days[-1].date,
            busy=BUSY_SHARES,
            trades=len(trades),
            directory=DATA_DIR,
        )
    )
    began = time.monotonic()
    try:
        ended_well = run(outputs)
    except AiopypeError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    correct = report(outputs, time.monotonic() - began)
    return 0 if ended_well and correct else 1


def run(outputs: Outputs) -> bool:
    """Run the flow until its files are complete; say whether it ended without a failure.

    Raises:
        AiopypeError: it could not be started, for the reason that the text gives.
    """
    # With Kafka's data the positions of the sources go, so they begin at the first day and trade.
    empty(DATA_DIR, [*outputs.files, OPENED_FILE])
    try:
        with broker.running(DATA_DIR / "kafka") as kafka:
            if not kafka.owned:
                raise in_use(DATA_DIR)
            with watching(outputs, dataflow.stop, LIMIT_SECONDS, say):
                dataflow.start(broker=kafka.address)
    except (KeyboardInterrupt, SystemExit):
        return False  # the flow has logged why
    return True


def report(outputs: Outputs, seconds: float) -> bool:
    """Tell what is in the files; say whether they are complete and correct."""
    say()
    for output in (outputs.prices, outputs.busy, outputs.trades):
        rows = len(output.rows())
        say(f"{output.topic:20} {rows:5,} of {len(output.expected):5,} events in {output.file}")
    gaps = outputs.gaps.rows()
    missed = sum(int(trades) for _, _, trades in gaps)
    say(f"Gaps of the feed: {len(gaps)}, filled over REST with {missed:,} trades.")
    days, trades = len(outputs.prices.rows()), len(outputs.trades.rows())
    say(f"{days:,} days and {trades:,} trades in {seconds:.1f} s, starts and stops included.")
    faults = outputs.faults()
    for fault in faults:
        say(f"Incomplete or wrong: {fault}.")
    if not faults:
        say("Each is there exactly once, in order, and every number is that of the data.")
    return not faults


if __name__ == "__main__":
    sys.exit(main())
