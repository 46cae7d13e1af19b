"""The network of one worker of two: cut, one way only, slow, refused.

The worker has a listener of its own, which a proxy stands before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from .proxy import Proxy
from .trial import SESSION_SECONDS

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(300)]

#: A last heartbeat may still reach the broker, whose session begins with it; the other worker
#: learns of the rebalance with its next one.
TAKEN_OVER_SECONDS = SESSION_SECONDS + 2 * 3 + 5


@pytest.fixture
def behind_proxy(proxied: Any, new_trial: Any) -> Callable[[], Any]:
    """Begin a trial with two workers, one of them behind a proxy; return both."""
    cluster, proxy = proxied

    def begin() -> tuple[Any, Proxy]:
        trial = new_trial(cluster)
        trial.work(AIOPYPE_BROKER=proxy.address)
        trial.begin()
        return trial, proxy

    return begin


@pytest.mark.parametrize(
    ("ways", "what"),
    [
        (("there", "back"), "nothing passes"),
        (("there",), "nothing reaches the broker"),
        (("back",), "nothing comes back from the broker"),
    ],
)
def test_a_worker_is_cut_off_past_its_session(
    behind_proxy: Any, ways: tuple[str, ...], what: str
) -> None:
    trial, proxy = behind_proxy()
    proxy.cut(ways)
    trial.flows(TAKEN_OVER_SECONDS)  # through the other worker
    time.sleep(10)
    proxy.heal()
    trial.recovers()
    trial.finish(f"network of one of two workers: {what}, past its session")


def test_connections_of_a_worker_are_refused_past_its_session(behind_proxy: Any) -> None:
    trial, proxy = behind_proxy()
    proxy.refuse()
    trial.flows(TAKEN_OVER_SECONDS)
    time.sleep(10)
    proxy.heal()
    trial.recovers()
    trial.finish("network of one of two workers: connections reset and refused, past its session")


def test_the_network_of_a_worker_is_slow(behind_proxy: Any) -> None:
    trial, proxy = behind_proxy()
    proxy.delay_seconds = 2.0
    time.sleep(30)
    proxy.heal()
    trial.recovers()
    trial.finish("network of one of two workers: 2 s each way, for 30 s")
