"""Runs the demo for a person: `python -m aiopype.demo`."""

from __future__ import annotations

import sys
import time
from functools import partial

from aiopype import broker
from aiopype.demo.days import read_days
from aiopype.demo.directory import empty, in_use
from aiopype.demo.flow import BUSY_SHARES, DATA_DIR, dataflow
from aiopype.demo.outputs import Output, outputs_of
from aiopype.demo.watch import watching
from aiopype.errors import AiopypeError

#: For the flow; with Kafka's start and stop the demo stays below two minutes.
LIMIT_SECONDS = 95.0

_INTRODUCTION = """\
{days:,} trading days of Apple's stock, {first} to {last}, go from a local quote server
through Kafka into CSV files: each day's price, and the days with more than {busy:,} shares.
The demo starts a Kafka of its own and leaves any other alone (AIOPYPE_BROKER is not used).
Everything is in {directory}.
It takes about half a minute; Ctrl-C ends it before.
"""

say = partial(print, flush=True)


def main() -> int:
    """Run the flow over all days and check what came of it; return the exit status."""
    days = read_days()
    outputs = outputs_of(days)
    say(
        _INTRODUCTION.format(
            days=len(days),
            first=days[0].date,
            last=days[-1].date,
            busy=BUSY_SHARES,
            directory=DATA_DIR,
        )
    )
    began = time.monotonic()
    try:
        ended_well = run(*outputs)
    except AiopypeError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    correct = report(outputs, time.monotonic() - began)
    return 0 if ended_well and correct else 1


def run(prices: Output, busy: Output) -> bool:
    """Run the flow until its files are complete; say whether it ended without a failure.

    Raises:
        AiopypeError: it could not be started, for the reason that the text gives.
    """
    empty(DATA_DIR, [prices.file, busy.file])
    try:
        with broker.running(DATA_DIR / "kafka") as kafka:
            if not kafka.owned:
                raise in_use(DATA_DIR)
            with watching(prices, busy, dataflow.stop, LIMIT_SECONDS, say):
                dataflow.start(broker=kafka.address)
    except (KeyboardInterrupt, SystemExit):
        return False  # the flow has logged why
    return True


def report(outputs: tuple[Output, ...], seconds: float) -> bool:
    """Tell what is in the files; say whether they are complete and correct."""
    say()
    for output in outputs:
        rows = len(output.rows())
        say(f"{output.topic:20} {rows:5,} of {len(output.expected):5,} events in {output.file}")
    days = len(outputs[0].rows())
    say(f"{days:,} days in {seconds:.1f} s, starts and stops included: {days / seconds:.0f}/s.")
    faults = [fault for output in outputs if (fault := output.fault())]
    for fault in faults:
        say(f"Incomplete or wrong: {fault}.")
    if not faults:
        say("Each day is there exactly once, in order, and every number is that of the data.")
    return not faults


if __name__ == "__main__":
    sys.exit(main())
