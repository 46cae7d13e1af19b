"""Sources whose upstreams have every fault there is, while their owners end as any worker may."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .feed_trial import ACTS, MODES, PER_SECOND, FeedTrial
from .feed_trial import FAULTS as FEED_FAULTS
from .rest_trial import FAULTS as REST_FAULTS
from .rest_trial import RestTrial

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(600)]

ENDS = {"kill": "SIGKILL", "freeze": "SIGSTOP", "terminate": "SIGTERM"}


@pytest.fixture
def rest(kafka: str, start: Any, wait_until: Any, seed: int) -> Iterator[RestTrial]:
    trial = RestTrial(kafka, start, wait_until, seed)
    yield trial
    trial.topics.close()


def test_a_rest_upstream_fails_and_its_owner_is_stopped(rest: RestTrial, record: Any) -> None:
    for fault in ("status_500", "cut", "malformed", "two_gigabytes_in_chunks"):
        rest.endure(fault)
    rest.endure("refused", end="terminate")

    record(rest.finish("a REST upstream: 500, cut, malformed, 2 GB, refused; SIGTERM of the owner"))
    rest.check()


@pytest.mark.long
def test_a_rest_upstream_has_every_fault_and_its_owners_every_end(
    rest: RestTrial, record: Any
) -> None:
    chance = rest.chance
    ends = dict(zip(chance.sample(REST_FAULTS, 6), [*ENDS] * 2, strict=True))
    for fault in chance.sample(REST_FAULTS, len(REST_FAULTS)):
        rest.endure(fault, chance.choice((3, 9)), ends.get(fault))
    for end in ENDS:
        rest.endure(chance.choice(REST_FAULTS))
        rest.end_owner(end)
        rest.flows()

    record(rest.finish("a REST upstream, 20 faults at random, with and without ends of its owners"))
    rest.check()
    assert any("is in quarantine" in text for text in rest.workers.texts)


@pytest.fixture
def new_feed(
    kafka: str, start: Any, wait_until: Any, seed: int
) -> Iterator[Callable[..., FeedTrial]]:
    """Make a trial of a websocket source; options as for `FeedTrial`."""
    trials: list[FeedTrial] = []

    def make(**options: Any) -> FeedTrial:
        trials.append(FeedTrial(kafka, start, wait_until, seed, **options))
        return trials[-1]

    yield make
    for trial in trials:
        trial.topics.close()


@pytest.fixture
def feed(new_feed: Any) -> FeedTrial:
    return new_feed()


def test_a_websocket_breaks_off_and_its_owner_is_stopped(feed: FeedTrial, record: Any) -> None:
    for fault in ("breaks_off", "malformed", "no_frame", "half_open", "closes"):
        feed.endure(fault)
    feed.endure("refused", end="terminate")

    record(feed.finish("a websocket: closed, malformed, half open, refused; SIGTERM of the owner"))
    feed.check()


@pytest.mark.long
def test_a_websocket_has_every_fault_and_its_owners_every_end(feed: FeedTrial, record: Any) -> None:
    chance = feed.chance
    ends = dict(zip(chance.sample(FEED_FAULTS, 6), [*ENDS] * 2, strict=True))
    for fault in chance.sample(FEED_FAULTS, len(FEED_FAULTS)):
        feed.endure(fault, ends.get(fault))
    for end in ENDS:
        feed.endure(chance.choice(FEED_FAULTS))
        feed.end_owner(end)
        feed.flows()

    record(feed.finish("a websocket, 13 faults at random, with and without ends of its owners"))
    feed.check()


@pytest.mark.long
def test_what_a_websocket_without_a_backfill_misses_is_in_its_gaps(
    new_feed: Any, record: Any
) -> None:
    feed = new_feed(is_filled=False)
    faults = [*ACTS, *MODES]
    ends = dict(zip(feed.chance.sample(faults, 3), ENDS, strict=True))
    for fault in feed.chance.sample(faults, len(faults)):
        feed.endure(fault, ends.get(fault))
        time.sleep(feed.chance.uniform(0.5, 2.0))

    record(feed.finish("a websocket without a back-fill, 11 faults at random, ends of its owners"))
    feed.check()


@pytest.mark.long
@pytest.mark.parametrize("per_second", [50_000, 200_000])
def test_a_websocket_floods_its_owner(feed: FeedTrial, record: Any, per_second: int) -> None:
    feed.upstream.grow(per_second)
    time.sleep(5)
    feed.upstream.grow(PER_SECOND)
    print(f"{feed.upstream.last - feed.newest()[0]} frames behind")
    feed.faults += 1
    feed.flows(60)

    record(feed.finish(f"a websocket floods, {per_second:,} frames a second for 5 s"))
    feed.check()
    assert feed.gaps == []


@pytest.mark.long
@pytest.mark.parametrize("end", ENDS)
def test_the_owner_of_a_websocket_ends_in_a_flood(feed: FeedTrial, record: Any, end: str) -> None:
    """The flood goes on while the next owner fetches what was missed."""
    feed.upstream.grow(20_000)
    time.sleep(2)
    feed.end_owner(end)
    time.sleep(5)
    feed.upstream.grow(PER_SECOND)
    print(f"{feed.upstream.last - feed.newest()[0]} frames behind")
    feed.flows(120)

    record(feed.finish(f"a websocket floods, 20,000 frames a second; {ENDS[end]} of its owner"))
    # The frames that wait for the back-fill, and the positions that it had, are as much again.
    feed.check(memory_mb=140)
