"""What a fault did, as a line of JSON, and the table of many.

    python -m tests.faults.report FILE

prints the markdown table of the results in FILE, one row a fault and guarantee; of several runs
it has the worst figures, and the sum of events and faults.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from .load import PARTITIONS, STEPS

__all__ = ["BATCH", "Result", "append", "table"]

BATCH = 4_000  # the most records a batch has


@dataclass(frozen=True)
class Result:
    """What was counted in one test.

    Attributes:
        fault: what was done, and how.
        guarantee: `exactly_once` or `at_least_once`.
        seed: of the choices that were left to chance.
        faults: how many there were.
        events: that were fed.
        lost: neither out nor a dead letter.
        repeated, out_of_order: of those that came out.
        dead_letters: in the flow's error topics.
        aborted: records that only a reader of uncommitted ones sees.
        seconds: the longest time from a fault's end until each partition gave out an event that
            was fed after it; None where nothing had to recover.
        runs: how many results this is the worst of.
    """

    fault: str
    guarantee: str
    seed: int
    faults: int
    events: int
    lost: int
    repeated: int
    out_of_order: int
    dead_letters: int
    aborted: int
    seconds: float | None
    runs: int = 1

    def __str__(self) -> str:
        took = "" if self.seconds is None else f", flowed again after {self.seconds:.1f} s"
        return (
            f"{self.fault} ({self.guarantee}, seed {self.seed}): {self.events} events, "
            f"{self.lost} lost, {self.repeated} repeated, {self.out_of_order} out of order, "
            f"{self.dead_letters} dead letters, {self.aborted} aborted{took}"
        )

    def check(self) -> None:
        """Fail when this is more than the guarantee allows."""
        assert self.lost == 0, f"lost: {self}"
        assert self.out_of_order == 0, f"out of order: {self}"
        allowed = 0 if self.guarantee == "exactly_once" else BATCH * PARTITIONS * STEPS
        assert self.repeated <= allowed * self.faults, f"repeated: {self}"


def append(path: Path, result: Result) -> None:
    """Write a result behind those that a file has."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(result) + b"\n")


def table(results: Iterable[Result]) -> str:
    """Return the markdown table of some results."""
    worst: dict[tuple[str, str], Result] = {}
    for result in results:
        key = result.fault, result.guarantee
        worst[key] = _worse(worst[key], result) if key in worst else result
    lines = [
        "| fault | guarantee | runs | faults | events | lost | repeated | out of order "
        "| dead letters | flows again after |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    faults = list(dict.fromkeys(fault for fault, _ in worst))
    for key in sorted(worst, key=lambda key: (faults.index(key[0]), key[1] != "exactly_once")):
        result = worst[key]
        took = "" if result.seconds is None else f"{result.seconds:.1f} s"
        lines.append(
            f"| {result.fault} | {result.guarantee.replace('_', ' ')} | {result.runs} "
            f"| {result.faults} | {result.events:,} | {result.lost:,} | {result.repeated:,} "
            f"| {result.out_of_order} | {result.dead_letters:,} | {took} |"
        )
    return "\n".join(lines)


def _worse(one: Result, other: Result) -> Result:
    times = [result.seconds for result in (one, other) if result.seconds is not None]
    return replace(
        other,
        faults=one.faults + other.faults,
        events=one.events + other.events,
        lost=max(one.lost, other.lost),
        repeated=max(one.repeated, other.repeated),
        out_of_order=max(one.out_of_order, other.out_of_order),
        dead_letters=max(one.dead_letters, other.dead_letters),
        seconds=max(times, default=None),
        runs=one.runs + other.runs,
    )


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_bytes().splitlines()
    print(table(msgspec.json.decode(line, type=Result) for line in lines))
