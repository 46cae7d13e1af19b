"""What the demo's unit tests share; none needs Kafka."""

import pytest

from aiopype.demo.days import Day

# Two quiet days and two busy ones, the last of them with a price that has three decimals.
DAYS = [
    Day("2008-01-18", "161.36", "49999999"),
    Day("2008-01-22", "155.64", "86965700"),
    Day("2008-01-23", "139.072", "120463200"),
    Day("2008-01-24", "135.6", "50000000"),
]


@pytest.fixture
def days() -> list[Day]:
    return list(DAYS)
