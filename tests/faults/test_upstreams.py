"""Sources whose upstreams have every fault there is, while their owners end as any worker may."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .rest_trial import FAULTS, RestTrial

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(400)]


@pytest.fixture
def rest(kafka: str, start: Any, wait_until: Any, seed: int) -> RestTrial:
    return RestTrial(kafka, start, wait_until, seed)


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
    ends = dict(zip(rest.chance.sample(FAULTS, 6), ["kill", "freeze", "terminate"] * 2, strict=True))
    for fault in rest.chance.sample(FAULTS, len(FAULTS)):
        rest.endure(fault, ends.get(fault))
    for end in ("kill", "freeze", "terminate"):
        rest.endure(rest.chance.choice(FAULTS))
        rest.end_owner(end)

    record(rest.finish("a REST upstream with 20 faults at random, and ends of its owners"))
    rest.check()
