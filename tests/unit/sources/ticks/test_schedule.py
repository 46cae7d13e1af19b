import asyncio

import pytest

from aiopype.errors import ConfigurationError
from aiopype.sources.ticks.schedule import Interval, Span, newest, told, whole_seconds


class Listed:
    """Some instants; counts how often it is asked."""

    def __init__(self, instants):
        self.instants = instants
        self.asked = 0

    def after(self, instant):
        self.asked += 1
        return next((known for known in self.instants if known > instant), None)


@pytest.mark.parametrize(
    ("instant", "later"), [(0, 10), (9, 10), (10, 20), (11, 20), (-1, 0), (-10, 0), (-11, -10)]
)
def test_an_interval_has_its_multiples(instant, later):
    assert Interval(10).after(instant) == later


@pytest.mark.parametrize(
    ("instant", "later"),
    [(-5, 3), (2, 3), (3, 13), (4, 13), (13, 23), (22, 23), (23, None), (99, None)],
)
def test_a_span_begins_with_its_start_and_ends_before_its_end(instant, later):
    assert Span(3, 10, 33).after(instant) == later


def test_a_span_that_ends_where_it_begins_has_no_instant():
    assert Span(3, 10, 3).after(0) is None


async def test_the_newest_are_the_last_ones_in_order():
    assert await newest(Interval(10), 0, 1_000, 3) == ([980, 990, 1_000], True)


async def test_the_newest_are_after_the_one_and_up_to_the_other():
    assert await newest(Interval(10), 10, 30, 9) == ([20, 30], False)


async def test_as_many_as_the_limit_are_all():
    assert await newest(Interval(10), 0, 30, 3) == ([10, 20, 30], False)


async def test_the_newest_of_none_are_none():
    assert await newest(Interval(10), 11, 19, 3) == ([], False)


async def test_the_newest_may_be_far_back():
    assert await newest(Listed([7, 8, 9]), 0, 10_000_000, 2) == ([8, 9], True)


async def test_the_newest_of_a_year_of_seconds_cost_no_more_than_some_of_them():
    asked = 0

    class Counting:
        def after(self, instant):
            nonlocal asked
            asked += 1
            return instant + 1

    found = await newest(Counting(), 0, 365 * 86_400, 100)

    assert found.instants == list(range(365 * 86_400 - 99, 365 * 86_400 + 1))
    assert asked < 1_000


async def test_looking_for_the_newest_lets_others_run():
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await newest(Interval(1), 0, 20_000, 10_000)
    task.cancel()

    assert turns > 50


def test_an_instant_is_told_in_utc():
    assert told(1_743_210_000.7) == "2025-03-29 01:00:00Z"


@pytest.mark.parametrize("value", [1, 60, 60.0])
def test_whole_seconds_are_taken(value):
    taken = whole_seconds("m.clock", "interval", value, 1)

    assert taken == value
    assert type(taken) is int


@pytest.mark.parametrize("value", [0, -1, 1.5, "60", None, False, float("nan"), float("inf")])
def test_what_is_no_number_of_whole_seconds_is_refused(value):
    with pytest.raises(
        ConfigurationError, match=r"'m.clock': interval=.*; give whole seconds from 1 on"
    ):
        whole_seconds("m.clock", "interval", value, 1)
