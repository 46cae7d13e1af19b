"""Times of the consumer groups.

The broker takes a worker for dead when it has sent no heartbeat for SESSION_SECONDS; a worker has
REBALANCE_SECONDS to give up its partitions and join again.
"""

from __future__ import annotations

__all__ = [
    "DRAIN_SECONDS",
    "HEARTBEAT_SECONDS",
    "REBALANCE_SECONDS",
    "REQUEST_SECONDS",
    "SESSION_SECONDS",
]

SESSION_SECONDS = 10.0
HEARTBEAT_SECONDS = 3.0
REBALANCE_SECONDS = 30.0

#: Must not be below the session's (Faust checks it).
REQUEST_SECONDS = 40.0

#: How long batches in work may take to end when partitions are given up, or the worker stops; a
#: third of the rebalance's time, and short enough for a stop within 15 s.
DRAIN_SECONDS = 8.0
