"""What a flow is tested with: without Kafka, without a network, without waiting; docs/testing.md.

    async with run_managers(Prices) as run:
        await run.emit("prices.source", "data", {"price": "1.5"}, "2026-01-01")
        assert run.events("prices.step.price") == [("2026-01-01", 1.5)]

It imports no test framework. What a run does in place of Kafka's topics is here, and what it looks
at; nothing of it is used by the rest of the package.
"""

from aiopype.testing.clock import FakeClock
from aiopype.testing.run import Run
from aiopype.testing.running import run_flow, run_managers
from aiopype.testing.scripted import (
    Crash,
    Crashed,
    Emit,
    End,
    Fail,
    Pause,
    Receive,
    ScriptedSource,
    Silence,
    Step,
)
from aiopype.testing.seen import Record

__all__ = [
    "Crash",
    "Crashed",
    "Emit",
    "End",
    "Fail",
    "FakeClock",
    "Pause",
    "Receive",
    "Record",
    "Run",
    "ScriptedSource",
    "Silence",
    "Step",
    "run_flow",
    "run_managers",
]
