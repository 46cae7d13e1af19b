"""What the watchdog sees of a consumer: batches, fetches, group, and whether brokers answer."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from aiokafka.client import ConnectionGroup

from aiopype.transport.settings import HEARTBEAT_SECONDS
from aiopype.watchdog import Condition

if TYPE_CHECKING:
    from faust.types import TP

    from aiopype.transport.consumer import Consumer

__all__ = ["condition_of"]

#: A broker that answers nothing for so long, though it was asked, is out of reach.
ANSWER_SECONDS = 5 * HEARTBEAT_SECONDS


def condition_of(consumer: Consumer) -> Condition:
    """Return the condition of a worker's consumer; called on its event loop."""
    client = consumer._thread._consumer
    if client is None:
        return Condition()
    busy = {
        repr(partition): partition.busy_since
        for partition in consumer.partitions.values()
        if partition.busy_since is not None
    }
    return Condition(
        busy=busy,
        fetches=_fetches(consumer, client),
        unready=_unready(consumer, client),
        is_member=_is_member(client),
        is_connected=_is_connected(client),
    )


def _fetches(consumer: Consumer, client: Any) -> dict[str, Hashable]:
    """Return when those partitions were fetched whose leader is connected.

    aiokafka fetches a partition that has room all the time, also where the log has nothing new;
    the answer is noted beside the position.
    """
    subscription = client._subscription.subscription
    if not consumer.is_feeding or subscription is None or subscription.assignment is None:
        return {}
    found: dict[str, Hashable] = {}
    for tp, partition in consumer.partitions.items():
        state = subscription.assignment.state_value(tp)
        is_fetched = state is not None and not state.paused
        if partition.has_room and is_fetched and _is_led(client, tp):
            found[repr(partition)] = (state.timestamp, state._position)
    return found


def _unready(consumer: Consumer, client: Any) -> dict[str, str]:
    """Return why partitions cannot be fetched; those of a manager that is down are not named."""
    if not consumer.is_feeding:
        return {}
    found: dict[str, str] = {}
    for tp, partition in consumer.partitions.items():
        if partition.is_closed:
            if not consumer.transport.is_stopped(partition):
                found[repr(partition)] = "given up"
        elif not partition.is_open:
            found[repr(partition)] = "not open"
        elif partition.has_room and not _is_led(client, tp):
            found[repr(partition)] = "its leader is out of reach"
    return found


def _is_led(client: Any, tp: TP) -> bool:
    leader = client._client.cluster.leader_for_partition(tp)
    connection = client._client._conns.get((leader, ConnectionGroup.DEFAULT))
    return connection is not None and bool(connection.connected())


def _is_member(client: Any) -> bool:
    """Say whether it is in its group; True also where it has none, or its broker is not known."""
    coordinator = client._coordinator
    if client._subscription.subscription is None:
        return True
    if coordinator._coordination_task.done():
        return False
    return coordinator.coordinator_id is None or bool(coordinator.generation >= 0)


def _is_connected(client: Any) -> bool:
    """Say whether brokers are connected, and none of them leaves a request without an answer."""
    connections = [c for c in client._client._conns.values() if c.connected()]
    late = time.monotonic() - ANSWER_SECONDS
    return bool(connections) and not any(c._requests and c._last_action < late for c in connections)
