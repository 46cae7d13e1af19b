"""The judge itself: what it takes for lost, repeated and out of order."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from .checker import Counts
from .load import KEYS, program
from .report import Result, table

RESULT = Result(
    fault="a fault", guarantee="exactly_once", seed=1, faults=2, events=10, lost=0, repeated=0,
    out_of_order=0, dead_letters=0, aborted=3, seconds=1.25,
)  # fmt: skip


class Record(NamedTuple):
    value: bytes
    partition: int = 0
    timestamp: int = 1_000


def counted(*numbers: int, key: int = 1) -> Counts:
    counts = Counts()
    for number in numbers:
        counts.add(Record(json.dumps([key, number]).encode()))
    return counts


def figures(counts: Counts) -> tuple[int, int, int]:
    return counts.distinct, counts.repeated, counts.out_of_order


def test_numbers_in_order_are_neither_repeated_nor_out_of_order() -> None:
    assert figures(counted(0, 1, 2)) == (3, 0, 0)


def test_what_comes_again_is_repeated_and_not_out_of_order() -> None:
    assert figures(counted(0, 1, 2, 0, 1, 2, 3)) == (4, 3, 0)


def test_a_number_that_comes_first_after_a_higher_one_was_overtaken() -> None:
    assert figures(counted(0, 2, 1)) == (3, 0, 1)


def test_a_gap_is_neither_repeated_nor_out_of_order() -> None:
    counts = counted(0, 2, 3)
    assert figures(counts) == (3, 0, 0)
    assert not counts.has(1, 1)
    assert counts.has(1, 2)
    assert not counts.has(1, 4)


@pytest.mark.parametrize("value", [b"{", b"7", b"[1]", b"[1, 2, 3]", b"[null, null]"])
def test_a_record_that_was_not_fed_is_foreign(value: bytes) -> None:
    counts = Counts()
    counts.add(Record(value))
    counts.add(Record(json.dumps([KEYS, 0]).encode()))
    assert counts.foreign == 2
    assert counts.total == 0


def test_the_newest_event_of_a_partition_is_told_by_when_it_was_fed() -> None:
    counts = Counts()
    counts.add(Record(b"[1, 0]", partition=2, timestamp=5_000))
    counts.add(Record(b"[1, 1]", partition=2, timestamp=4_000))
    assert counts.newest[2] == 5_000
    assert counts.newest[0] == 0


@pytest.mark.parametrize("bad", [{"lost": 1}, {"repeated": 1}, {"out_of_order": 1}])
def test_exactly_once_allows_nothing(bad: dict[str, Any]) -> None:
    RESULT.check()
    with pytest.raises(AssertionError):
        replace(RESULT, **bad).check()


def test_at_least_once_allows_the_batches_in_flight_of_each_fault() -> None:
    result = replace(RESULT, guarantee="at_least_once")
    replace(result, repeated=64_000).check()
    with pytest.raises(AssertionError):
        replace(result, repeated=64_001).check()
    with pytest.raises(AssertionError):
        replace(result, lost=1).check()


def test_a_row_of_the_table_has_the_worst_figures_of_its_runs() -> None:
    worse = replace(RESULT, repeated=4, seconds=2.0)
    row = table([RESULT, worse, replace(RESULT, seconds=None)]).splitlines()[-1]
    assert row == "| a fault | exactly once | 3 | 6 | 30 | 0 | 4 | 0 | 0 | 2.0 s |"


def test_the_programs_variants_compile_and_differ() -> None:
    plain = program()
    variant = program("if n == 1: raise ValueError", first="key += 0", head="import time", tries=2)
    compile(plain, "plain", "exec")
    compile(variant, "variant", "exec")
    assert variant.startswith("import time\n")
    assert variant.index("key += 0") < variant.index("if n == 1") < variant.index("class Load")
    assert variant.count("retry = Retry(tries=2") == 2
