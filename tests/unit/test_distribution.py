import pytest

from aiopype.distribution import Distribution


@pytest.fixture
def values():
    """A distribution with bounds at 1 and 10."""
    return Distribution((1, 10))


def test_a_value_is_in_the_range_whose_bound_it_does_not_exceed(values):
    for value in (0, 1, 1.5, 10, 11, 1_000):
        values.add(value)

    assert values.counts == [2, 2, 2]
    assert (values.count, values.sum) == (6, 1_023.5)


def test_a_value_may_stand_for_many(values):
    values.add(2, 1_000)

    assert values.counts == [0, 1_000, 0]
    assert (values.count, values.sum) == (1_000, 2_000)


def test_of_nothing_there_is_nothing(values):
    assert (values.counts, values.count, values.sum) == ([0, 0, 0], 0, 0)
