"""One behaviour suite, both protocols: `run` runs managers in process or on Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from aiopype import Manager
from aiopype.clock import SystemClock
from aiopype.testing import Run, run_managers


@pytest.fixture(params=["sync", "kafka"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def broker(protocol: str, request: pytest.FixtureRequest) -> str | None:
    """The address of a broker; None in process."""
    return request.getfixturevalue("kafka") if protocol == "kafka" else None


@pytest.fixture
def run(broker: str | None) -> Callable[..., Any]:
    """Run managers until a condition holds, and return what they became."""

    async def run_until(*managers: type[Manager], until: Callable[[Run], bool]) -> Run:
        async with run_managers(
            *managers, broker=broker, clock=SystemClock(), namespace=""
        ) as running:
            running.start_sources()
            await running.until(lambda: until(running))
        return running

    return run_until


@pytest.fixture
def name() -> str:
    """A manager's name that no other test has: topics of one run live on one broker."""
    return f"m{uuid.uuid4().hex[:10]}"
