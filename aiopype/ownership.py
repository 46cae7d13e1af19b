"""Who runs which source: what is stored of sources, what operators wish, and how they are spread.

Pure data and arithmetic. The records are in two compacted topics, each with the source's name as
its key: `<flow>.source-state` says where a source is, `<flow>.sources` what is wished of it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Container, Iterable, Mapping

import msgspec

from aiopype.errors import StateCorrupt

__all__ = [
    "RESET",
    "Member",
    "SourceState",
    "Stopped",
    "Wish",
    "is_meant",
    "spread",
    "state_topic",
    "wish_topic",
    "worker_name",
]

VERSION = 1

#: How the `run` of a state begins that an operator wrote.
RESET = "reset-"


def state_topic(group: str) -> str:
    """Return the topic that says where the sources of a flow's group are."""
    return f"{group}.source-state"


def wish_topic(group: str) -> str:
    """Return the topic with what operators wish; the group that elects owners is called alike."""
    return f"{group}.sources"


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """That a source does not run, although a worker has it and nobody has paused it.

    Attributes:
        state: `restarting`, `quarantined` or `ended`.
        since_ms: since when, since 1970.
        reason: why.
        again_ms: when it is started again; None if that is not planned.
    """

    state: str
    since_ms: int
    reason: str = ""
    again_ms: int | None = None


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
        is_paused, restart: what the owner has done of what is wished; see `Wish`.
        stopped: that it does not run; None if it does, or an older version wrote it.
    """

    v: int = VERSION
    position: msgspec.Raw = msgspec.Raw(b"null")
    epoch: int
    run: str
    number: int
    worker: str
    since_ms: int
    at_ms: int
    is_paused: bool = False
    restart: int = 0
    stopped: Stopped | None = None

    @property
    def is_reset(self) -> bool:
        """Whether an operator wrote it and no owner since."""
        return self.run.startswith(RESET)

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
        except (msgspec.MsgspecError, ValueError, RecursionError):
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
    able: dict[str, list[str]] = {}
    pinned = set()
    for source in sorted({source for member in members.values() for source in member.can}):
        able[source] = [name for name in order if source in members[name].can]
        wanted = wishes[source].worker if source in wishes else None
        named = [name for name in able[source] if is_meant(members[name].worker, wanted)]
        if named:
            pinned.add(source)
            able[source] = named
    plan = _Plan(order, able, pinned)
    for source, names in able.items():
        holder = holders.get(source)
        if holder in names:
            plan.give(source, holder)
    for source in sorted(able.keys() - plan.target.keys(), key=lambda s: (s not in pinned, s)):
        plan.give(source, min(able[source], key=plan.load.__getitem__))
    while plan.improve():
        pass
    return plan.target


class _Plan:
    """Who shall have each source, as far as that is decided.

    Arguments:
        order: the members, by name.
        able: those that may run each source.
        pinned: the sources that an operator wants on certain members.
    """

    def __init__(
        self, order: Iterable[str], able: Mapping[str, list[str]], pinned: Container[str]
    ) -> None:
        self._able = able
        self._pinned = pinned
        self.target: dict[str, str] = {}
        #: How many each member has, and how many of them are not pinned.
        self.load = dict.fromkeys(order, 0)
        self._free = dict(self.load)

    def give(self, source: str, member: str) -> None:
        """Give a source to a member, also if another has it."""
        for name, count in ((self.target.get(source), -1), (member, 1)):
            if name is not None:
                self.load[name] += count
                self._free[name] += 0 if source in self._pinned else count
        self.target[source] = member

    def improve(self) -> bool:
        """Move a source from who has most to who has least; say whether that made it more even."""
        for origin in sorted(self.load, key=self.load.__getitem__, reverse=True):
            for goal in sorted(self.load, key=self.load.__getitem__):
                if self.load[origin] - self.load[goal] < 2:
                    break
                for source in sorted(self.target, reverse=True):
                    if self.target[source] == origin and self._may_move(source, goal):
                        self.give(source, goal)
                        return True
        return False

    def _may_move(self, source: str, goal: str) -> bool:
        if goal not in self._able[source]:
            return False
        # Where somebody pins a source to a worker, another shall not leave it in exchange.
        origin = self.target[source]
        return source in self._pinned or self._free[origin] - self._free[goal] >= 2


_encode = msgspec.json.Encoder().encode


class _Version(msgspec.Struct):
    v: int


_decode_version: Callable[[bytes], _Version] = msgspec.json.Decoder(_Version).decode
_decode_state: Callable[[bytes], SourceState] = msgspec.json.Decoder(SourceState).decode
_decode_wish: Callable[[bytes], Wish] = msgspec.json.Decoder(Wish).decode
_decode_member: Callable[[bytes], Member] = msgspec.json.Decoder(Member).decode
