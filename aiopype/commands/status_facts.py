"""What `aiopype status` knows of a flow at a moment: plain data, and its form as JSON.

The form is told in docs/status.md. Fields are added only; one that changes its meaning gets a new
name, and `v` a new number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

__all__ = [
    "VERSION",
    "EventFacts",
    "FlowFacts",
    "GroupFacts",
    "GroupState",
    "LetterFacts",
    "PartitionFacts",
    "Remark",
    "WaitingFacts",
    "WorkerFacts",
    "as_json",
]

VERSION = 1

GroupState = Literal["stable", "rebalancing", "empty"]


class Remark(msgspec.Struct, frozen=True):
    """Something to know of a flow.

    Attributes:
        kind: one of few words, for programs.
        about: the event, component, source or worker that it is about; empty of the flow.
        text: says it.
        next: what to do; empty where there is nothing.
    """

    kind: str
    about: str
    text: str
    next: str = ""


class GroupFacts(msgspec.Struct, frozen=True):
    """A consumer group.

    Attributes:
        name: what the brokers call it.
        state: whether its members have agreed on who does what.
        members: how many there are; not known while it is rebalancing.
    """

    name: str
    state: GroupState
    members: int


class WorkerFacts(msgspec.Struct, frozen=True):
    """A worker.

    Attributes:
        worker: `<host>:<process id>`; of a version that does not tell it what the group calls it.
        address: the one it is connected from.
        partitions: how many it has; None if it is not in that group, or it is rebalancing.
        sources: likewise.
    """

    worker: str
    address: str
    partitions: int | None = None
    sources: int | None = None


class PartitionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A partition; None is what nobody tells, or what there is none of.

    Attributes:
        owner: the worker that has it.
        has_leader: whether a broker leads it.
        begin, end: its first offset and the one behind its last, for readers of committed records.
        uncommitted: offsets behind `end`, of transactions that have not ended.
        committed: before it the flow is done.
        lag: offsets that the flow has not done yet, the markers of transactions among them; 0 if
            they are nothing else.
        oldest_ms: when the first of them was seen by its source, since 1970.
        lag_seconds: how long ago that was; 0 without lag.
    """

    partition: int
    owner: str | None = None
    has_leader: bool = True
    begin: int | None = None
    end: int | None = None
    uncommitted: int | None = None
    committed: int | None = None
    lag: int | None = None
    oldest_ms: int | None = None
    lag_seconds: float | None = None

    @property
    def lost(self) -> int:
        """How many offsets were deleted before the flow was done with them."""
        if self.committed is None or self.begin is None:
            return 0
        return max(0, self.begin - self.committed)

    @property
    def is_beyond(self) -> bool:
        """Whether the flow is done with more than there is."""
        if self.committed is None or self.end is None or self.uncommitted is None:
            return False
        return self.committed > self.end + self.uncommitted


class EventFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An event.

    Attributes:
        event: its full name.
        topic: its topic's name.
        is_subscribed: whether the flow handles it; else nobody has a partition of it.
        is_foreign: whether the topic is another's.
        is_internal: whether it is aiopype's own.
        partitions: none if the topic does not exist.
        lag: of all partitions; None if it is known of none.
        lag_seconds: that of the partition that is the furthest behind.
        written_rate, handled_rate: offsets a second lately; None after one look.
    """

    event: str
    topic: str
    is_subscribed: bool
    is_foreign: bool
    is_internal: bool
    partitions: tuple[PartitionFacts, ...]
    lag: int | None = None
    lag_seconds: float | None = None
    written_rate: float | None = None
    handled_rate: float | None = None

    @property
    def owners(self) -> list[str]:
        """The workers that have partitions of it."""
        return sorted({each.owner for each in self.partitions if each.owner is not None})


class WaitingFacts(msgspec.Struct, frozen=True):
    """Events of a subscription that wait to be tried again, with those of their keys behind them.

    Attributes:
        subscription: its name.
        events: how many.
        is_exact: whether all were counted; else there may be more.
    """

    subscription: str
    events: int
    is_exact: bool = True


class LetterFacts(msgspec.Struct, frozen=True):
    """The dead letters of a component.

    Attributes:
        component: its full name.
        letters: how many there are; about, if they were not counted.
        open, replayed, discarded: what became of them; None if they were not counted.
    """

    component: str
    letters: int
    open: int | None = None
    replayed: int | None = None
    discarded: int | None = None


class FlowFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A flow, seen from its brokers.

    Attributes:
        v: the version of this form.
        flow: its consumer group.
        brokers: their addresses.
        at_ms: when it was looked at, since 1970.
        is_well: whether there are no troubles.
        troubles: what is wrong, the worst first.
        notes: what is not wrong and good to know.
        groups: of the workers: that of events, and that of sources, if the flow has any.
        workers: the live ones.
        events: those of the graph but for `error` events that nobody is subscribed to.
        waiting: of subscriptions that have such events.
        sources: each as `aiopype sources list --json` tells it.
        dead_letters: of components that have any.
        full_partitions: those with so many waiting events that they are not fetched.
    """

    v: int = VERSION
    flow: str
    brokers: str
    at_ms: int
    is_well: bool = True
    troubles: Sequence[Remark] = ()
    notes: Sequence[Remark] = ()
    groups: dict[str, GroupFacts]
    workers: Sequence[WorkerFacts]
    events: Sequence[EventFacts]
    waiting: Sequence[WaitingFacts] = ()
    sources: Sequence[dict[str, Any]] = ()
    dead_letters: Sequence[LetterFacts] = ()
    full_partitions: Sequence[str] = ()


def as_json(facts: FlowFacts, *, on_one_line: bool = False) -> str:
    """Return the facts as a JSON object."""
    raw = msgspec.json.encode(facts)
    return (raw if on_one_line else msgspec.json.format(raw, indent=2)).decode()
