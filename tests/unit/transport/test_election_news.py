"""A worker that has news for the group while it joins tells them in another join."""

from types import SimpleNamespace

import pytest

from aiopype.ownership import Member
from aiopype.transport.election import Election

MINE = frozenset({"m.s"})


@pytest.fixture
def joins():
    """What the worker says in its joins, the last one of which may be under way."""
    return []


@pytest.fixture
async def election(joins):
    made = Election(
        brokers="a:1",
        group="flow",
        member=lambda: Member(worker=f"me:{len(joins)}"),
        on_assigned=lambda names: None,
        on_lost=lambda reason: None,
    )
    # As aiokafka: what asks for another join while one is under way is forgotten when that ends.
    coordinator = SimpleNamespace(request_rejoin=lambda: setattr(coordinator, "is_asked", True))
    coordinator.is_asked, coordinator.generation = False, 1
    made._consumer = SimpleNamespace(_coordinator=coordinator)

    def join():
        joins.append(Member.decode(made._assignor.metadata(["t"]).user_data))

    def end():
        coordinator.is_asked = False
        made.take(MINE)

    made.join, made.end, made.coordinator = join, end, coordinator
    return made


async def test_a_worker_with_news_asks_for_a_join(election):
    election.rejoin()

    assert election.coordinator.is_asked


async def test_news_that_came_while_it_joined_are_told_in_another_join(election, joins):
    election.join()
    election.rejoin()
    election.end()
    assert election.coordinator.is_asked

    election.join()
    election.end()
    assert not election.coordinator.is_asked
    assert [member.worker for member in joins] == ["me:0", "me:1"]


async def test_news_that_were_told_are_not_told_again(election):
    election.rejoin()
    election.join()
    election.end()

    assert not election.coordinator.is_asked


async def test_news_are_kept_over_a_join_that_failed(election):
    election.join()
    election.rejoin()
    election.coordinator.is_asked = False  # it failed, and is tried again
    election.join()
    election.rejoin()
    election.end()

    assert election.coordinator.is_asked


async def test_news_before_it_is_connected_are_told_when_it_joins(election):
    consumer, election._consumer = election._consumer, None
    election.rejoin()
    election._consumer = consumer

    election.join()
    election.end()

    assert not election.coordinator.is_asked
