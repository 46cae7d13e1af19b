"""Who runs which source: what is stored of sources, what operators wish, and how they are spread.

Pure data and arithmetic. The records are in two compacted topics, each with the source's name as
its key: `<flow>.source-state` says where a source is, `<flow>.sources` what is wished of it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping

import msgspec

from aiopype.errors import StateCorrupt

__all__ = [
    "Member",
    "SourceState",
    "Wish",
    "is_meant",
    "spread",
    "state_topic",
    "wish_topic",
    "worker_name",
]

VERSION = 1


def state_topic(group: str) -> str:
    """Return the topic that says where the sources of a flow's group are."""
    return f"{group}.source-state"


def wish_topic(group: str) -> str:
    """Return the topic with what operators wish; the group that elects owners is called alike."""
    return f"{group}.sources"


class SourceState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a source is. Written with each of its transactions, so the last one is the truth.

    Attributes:
        v: the version of this form.
        position: what the source's last `checkpoint` said, in JSON; null before the first.
        epoch: how many owners it has had.
        run: the owner's own name for its ownership; no other has it.
        number: of the owner's transactions, from 0 on.
        worker: which worker owns it, as people know it.
        since_ms, at_ms: when that one took over, and when this was written; since 1970.
    """

    v: int = VERSION
    position: msgspec.Raw = msgspec.Raw(b"null")
    epoch: int
    run: str
    number: int
    worker: str
    since_ms: int
    at_ms: int

    @property
    def raw_position(self) -> bytes | None:
        """The position's bytes; None before the first."""
        raw = bytes(self.position)
        return None if raw == b"null" else raw

    def encode(self) -> bytes:
        """Return the value of its record."""
        return _encode(self)

    @classmethod
    def decode(cls, source: str, value: bytes | None) -> SourceState:
        """Return the state of a record.

        Raises:
            StateCorrupt: it is none, or of a later version; the text says how to go on.
        """
        try:
            if value is None:
                raise ValueError("it has been deleted")
            version = _decode_version(value).v
            if version > VERSION:
                raise ValueError(f"it is of version {version}, and this is {VERSION}: update")
            return _decode_state(value)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise StateCorrupt(
                f"what is stored of source {source!r} cannot be read: {error}; say where it shall "
                f"start with `aiopype sources reset TARGET {source} --position JSON`"
            ) from error


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What operators wish of a source.

    Attributes:
        v: the version of this form.
        is_paused: it shall not run.
        worker: where it shall run as long as there is such a worker, by its name or its host's;
            None: anywhere.
        restart: grows with each wish to have it started again.
        at_ms: when that was said, since 1970.
    """

    v: int = VERSION
    is_paused: bool = False
    worker: str | None = None
    restart: int = 0
    at_ms: int = 0

    def encode(self) -> bytes:
        """Return the value of its record."""
        return _encode(self)

    @classmethod
    def decode(cls, value: bytes | None) -> Wish:
        """Return the wish of a record; none for one that cannot be read, or says nothing.

        A wish is not worth an outage.
        """
        try:
            return cls() if value is None else _decode_wish(value)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return cls()


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself when it joins the group that elects.

    Attributes:
        v: the version of this form.
        worker: its name.
        can: the sources that its program has.
        runs: those it has not given up yet, each with its epoch.
        wishes: of the sources that something is wished of; `wishes_at` is the offset up to which
            it has read them.
    """

    v: int = VERSION
    worker: str
    can: tuple[str, ...] = ()
    runs: dict[str, int] = {}
    wishes: dict[str, Wish] = {}
    wishes_at: int = 0

    def encode(self) -> bytes:
        """Return it as it travels to the one that assigns."""
        return _encode(self)

    @classmethod
    def decode(cls, value: bytes) -> Member:
        """Return a member; one without sources if it cannot be read."""
        try:
            return _decode_member(value)
        except (msgspec.MsgspecError, ValueError):
            return cls(worker="?")


def worker_name() -> str:
    """Return this process's name among the workers: `<host>:<process id>`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_meant(worker: str, wanted: str | None) -> bool:
    """Say whether a wish means a worker: it gives its name, or the host's alone."""
    return wanted is not None and wanted in {worker, worker.partition(":")[0]}


def spread(members: Mapping[str, Member]) -> dict[str, list[str]]:
    """Return which sources each member shall run, by the member's id, each source at most once.

    As evenly as their programs and the wishes allow, and with as few moves as possible. A source
    that another member has not given up yet is nobody's in this round: the one that has it gives
    it up, joins again, and the next round gives it away. So two never run it, and nothing of what
    it emitted is lost on the way.
    """
    wishes = _latest_wishes(members)
    holders = _holders(members)
    target = _target(members, holders, wishes)
    given: dict[str, list[str]] = {member: [] for member in members}
    for source in sorted(target):
        member, holder = target[source], holders.get(source)
        if holder in {None, member}:
            given[member].append(source)
    return given


def _latest_wishes(members: Mapping[str, Member]) -> Mapping[str, Wish]:
    latest = max(members.values(), key=lambda member: member.wishes_at, default=None)
    return latest.wishes if latest is not None else {}


def _holders(members: Mapping[str, Member]) -> dict[str, str]:
    """Return who has each source: of several who say so, the one with the highest epoch."""
    holders: dict[str, str] = {}
    for name, member in sorted(members.items()):
        for source, epoch in member.runs.items():
            other = holders.get(source)
            if other is None or members[other].runs[source] < epoch:
                holders[source] = name
    return holders


def _target(
    members: Mapping[str, Member], holders: Mapping[str, str], wishes: Mapping[str, Wish]
) -> dict[str, str]:
    """Return who shall have each source in the end."""
    order = sorted(members, key=lambda name: (members[name].worker, name))
    sources = sorted({source for member in members.values() for source in member.can})
    able = {source: [name for name in order if source in members[name].can] for source in sources}
    target: dict[str, str] = {}
    load = dict.fromkeys(order, 0)

    def give(source: str, member: str) -> None:
        target[source] = member
        load[member] += 1

    pinned = set()
    for source in sources:
        wanted = wishes[source].worker if source in wishes else None
        named = [name for name in able[source] if is_meant(members[name].worker, wanted)]
        if named:
            pinned.add(source)
            give(source, named[0])
    for source in sources:
        holder = holders.get(source)
        if source not in pinned and holder in able[source]:
            give(source, holder)
    for source in sources:
        if source not in target:
            give(source, min(able[source], key=load.__getitem__))
    _balance(target, load, able, pinned)
    return target


def _balance(
    target: dict[str, str],
    load: dict[str, int],
    able: Mapping[str, list[str]],
    pinned: set[str],
) -> None:
    """Move sources from those with most to those with least until one more would not help."""
    movable: dict[str, list[str]] = {name: [] for name in load}
    for source in sorted(target, reverse=True):
        if source not in pinned:
            movable[target[source]].append(source)
    while True:
        move = _best_move(load, movable, able)
        if move is None:
            return
        source, origin, goal = move
        movable[origin].remove(source)
        movable[goal].append(source)
        load[origin] -= 1
        load[goal] += 1
        target[source] = goal


def _best_move(
    load: Mapping[str, int],
    movable: Mapping[str, list[str]],
    able: Mapping[str, list[str]],
) -> tuple[str, str, str] | None:
    for origin in sorted(load, key=load.__getitem__, reverse=True):
        for goal in sorted(load, key=load.__getitem__):
            if load[origin] - load[goal] < 2:
                break
            for source in movable[origin]:
                if goal in able[source]:
                    return source, origin, goal
    return None


_encode = msgspec.json.Encoder().encode


class _Version(msgspec.Struct):
    v: int


_decode_version: Callable[[bytes], _Version] = msgspec.json.Decoder(_Version).decode
_decode_state: Callable[[bytes], SourceState] = msgspec.json.Decoder(SourceState).decode
_decode_wish: Callable[[bytes], Wish] = msgspec.json.Decoder(Wish).decode
_decode_member: Callable[[bytes], Member] = msgspec.json.Decoder(Member).decode
