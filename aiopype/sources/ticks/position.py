"""Where a source that ticks is: which instants are dealt with, ticked or left out."""

from __future__ import annotations

from typing import Any, NamedTuple

from aiopype.errors import StateCorrupt

__all__ = ["Dealt"]


class Dealt(NamedTuple):
    """The instants of which nothing is to be done any more.

    Attributes:
        until: all up to this one,
        but_for: without these, where runs overlap and a later one has ended before them.
    """

    until: int
    but_for: frozenset[int] = frozenset()

    @classmethod
    def read(cls, source: str, position: Any) -> Dealt:
        """Return what a stored position says.

        Raises:
            StateCorrupt: it is none of a source that ticks.
        """
        numbers = position if isinstance(position, list) and position else [position]
        if all(type(number) is int for number in numbers):
            return cls(numbers[0], frozenset(numbers[1:]))
        raise StateCorrupt(
            f"source {source!r}: its position {position!r:.200} is none of a source that ticks; "
            "if it was of another kind before, give it another name"
        )

    @property
    def position(self) -> int | list[int]:
        """What is stored of it: `until`, or a list that begins with it."""
        return [self.until, *sorted(self.but_for)] if self.but_for else self.until

    @property
    def begin(self) -> int:
        """The instant after which there may be something to do."""
        return min(self.but_for) - 1 if self.but_for else self.until

    def has(self, instant: int) -> bool:
        """Say whether nothing is to be done of an instant any more."""
        return instant <= self.until and instant not in self.but_for
