"""The states of managers and sources."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["State", "Status"]


class State(StrEnum):
    """What a manager or a source does; the word in the log, in metrics and in health."""

    RUNNING = "running"
    RESTARTING = "restarting"
    QUARANTINED = "quarantined"
    ENDED = "ended"


_DOWN = frozenset({State.RESTARTING, State.QUARANTINED})


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a manager or source.

    Attributes:
        state: what it does.
        since_seconds: since when, in seconds since 1970.
        reason: why it does not run.
        error: what it failed with, when it does not run.
        again_seconds: when it is started again, in seconds since 1970.
    """

    state: State
    since_seconds: float
    reason: str = ""
    error: BaseException | None = None
    again_seconds: float | None = None

    @property
    def is_down(self) -> bool:
        """Whether it failed, and does not run again yet."""
        return self.state in _DOWN
