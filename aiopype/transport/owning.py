"""What the outboxes of all sources of a worker share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiopype.progress import Progress
from aiopype.tracing import Traceable
from aiopype.transport.limits import Limits
from aiopype.transport.source_states import SourceStates
from aiopype.transport.transactions import TransactionalProducer

__all__ = ["Owning"]

#: Owners that open, and that write, at once.
OPENING, WRITING = 32, 64


@dataclass(frozen=True, kw_only=True)
class Owning:
    """What the outboxes of all sources of a worker share.

    Attributes:
        group: the flow's consumer group.
        worker: this worker's name.
        connect: returns a producer of a transactional id, not started.
        confirm: asks the group whether a source is this worker's, or raises OwnershipLost.
        states: reads where sources are.
        limits: makes sure that the topics written to exist, and knows what they take.
        progress: counts what was written.
        traced: has what makes spans, if anything does.
        opening, writing: how many may do so at once. Those that wait collect more for their next
            transaction; all at once would be too late, throw their producers away, and make more
            work for brokers that have too much.
    """

    group: str
    worker: str
    connect: Callable[[str], Awaitable[TransactionalProducer]]
    confirm: Callable[[str], Awaitable[None]]
    states: SourceStates
    limits: Limits
    progress: Progress
    traced: Traceable | None = None
    opening: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(OPENING))
    writing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WRITING))
