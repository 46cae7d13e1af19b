"""The gap between two connections of a feed: what it is, where it begins, what came twice."""

from __future__ import annotations

from typing import Any

import msgspec

from aiopype.errors import StateCorrupt

__all__ = ["Continuity", "Gap", "Place", "place_of"]

#: Positions that are remembered: of live messages, to know them in the back-fill of a gap that
#: follows; and of a back-fill, to know them among the live messages that follow. Some megabytes.
LIVE, FILLED = 10_000, 100_000

#: So long after a gap live messages are compared with its back-fill.
OVERLAP_SECONDS = 60.0


class Gap(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to"}):
    """A time without a connection; what the other side sent in it has not been seen.

    It is the argument of the `gap` event: on the wire an object with the members `from`, `to`,
    `position`, `reason`, `filled` and `messages`. A handler that annotates its argument, as in
    `def tell(self, gap: Gap)`, gets this class.

    Attributes:
        start: when the last message before it came, in seconds since 1970; or when the connection
            was made, if none came on it. A connection may have been dead for a while before that
            was noticed, so the gap begins with what was really seen.
        end: when the subscriptions of the next connection had been sent.
        position: of the last message before it, as `position_of` says; None where it says nothing.
        reason: why the connection ended.
        filled: whether the back-fill fetched all of it; False too where there is none.
        messages: how many messages of the back-fill were emitted, also when it failed in the end.
    """

    start: float
    end: float
    position: Any = None
    reason: str = ""
    filled: bool = False
    messages: int = 0

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a feed is: its stored position.

    Attributes:
        at: up to when nothing is missing, in seconds since 1970.
        position: of the last message, as `position_of` says.
    """

    at: float
    position: Any = None


def place_of(source: str, position: Any) -> Place | None:
    """Return the place that was stored as the position of a source; None for none.

    Raises:
        StateCorrupt: it is not one of a feed.
    """
    if position is None:
        return None
    try:
        return msgspec.convert(position, Place)
    except msgspec.ValidationError as error:
        raise StateCorrupt(
            f"the stored position of source {source!r}, {position!r:.200}, is not that of a "
            f"websocket source ({error}); was it another class before? Give it a new name"
        ) from error


class Continuity:
    """What a feed remembers of its messages: the last position, and the gap that is being filled.

    It learns from the raw inputs alone, so that a recording of them leads to the same.

    Attributes:
        position: of the last message that was new; None before the first.
        gap: the one that is being filled.
        messages: how many of its back-fill were emitted.
    """

    def __init__(self) -> None:
        self.position: Any = None
        self.gap: Gap | None = None
        self.messages = 0
        self._live = _Recent(LIVE)
        self._filled = _Recent(FILLED)
        self._added = 0
        self._compared_until = 0.0

    @property
    def knows_overlap(self) -> bool:
        """Whether live messages can be compared with all of the last back-fill."""
        return self._added <= FILLED

    def open(self, gap: Gap) -> None:
        """Note a gap, whose back-fill follows or not.

        What the back-fill of the gap before had is still known for a while: that one may have
        reached beyond its gap's end, where this one begins.
        """
        if gap.end > self._compared_until:
            self._filled.clear()
        self.gap = gap
        self.messages = self._added = 0
        self.position = gap.position
        if gap.position is not None:
            self._live.add(gap.position)

    def close(self, *, filled: bool, at: float) -> Gap:
        """Note the end of the back-fill at a time; return the gap as it became."""
        assert self.gap is not None
        gap = msgspec.structs.replace(self.gap, filled=filled, messages=self.messages)
        self.gap = None
        self._compared_until = at + OVERLAP_SECONDS
        return gap

    def rest(self) -> Gap:
        """Return what is left of the gap that is being filled."""
        assert self.gap is not None
        return msgspec.structs.replace(self.gap, position=self.position, messages=self.messages)

    def is_new(self, position: Any, at: float) -> bool:
        """Take the position of a message that came; say whether the message came before.

        None is the position of a message that tells none; it is always new.
        """
        if position is None:
            return True
        if self.gap is not None:
            if position in self._filled or position in self._live:
                return False
            self._filled.add(position)
            self._added += 1
        else:
            if self._filled:
                if at > self._compared_until:
                    self._filled.clear()
                elif position in self._filled:
                    return False
            self._live.add(position)
        self.position = position
        return True

    def place(self, at: float) -> Place:
        """Return where the feed is when a message that came at this time has been emitted."""
        return Place(at if self.gap is None else self.gap.start, self.position)


class _Recent:
    """The positions of the last messages; an older one makes room for each new one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[bytes, None] = {}

    def add(self, position: Any) -> None:
        known = self._known
        known[msgspec.json.encode(position)] = None
        if len(known) > self._limit:
            del known[next(iter(known))]

    def clear(self) -> None:
        self._known.clear()

    def __contains__(self, position: Any) -> bool:
        return msgspec.json.encode(position) in self._known

    def __bool__(self) -> bool:
        return bool(self._known)
