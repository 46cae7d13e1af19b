"""When what failed is started again: a back-off, a budget, a quarantine."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields
from typing import NamedTuple

__all__ = ["Budget", "Restart", "RestartPolicy"]


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """How a manager that failed, or a source of it, is started again.

    With the default it is started after 1, 2, 4, 8 and 16 seconds; when it fails once more it is in
    quarantine for 5 minutes, then for 10, 20 and 30. What has run well for 5 minutes begins anew.

    Attributes:
        first_delay_seconds: before the first restart; doubled for each that follows.
        last_delay_seconds: the longest delay.
        jitter: the share of a delay by which it may be shorter or longer, from 0 to 1.
        calm_seconds: what has run so long without failing begins anew.
        failures: the budget; with one failure more it goes into quarantine.
        within_seconds: only failures of this time count.
        first_quarantine_seconds: until it is tried again; doubled each time it fails soon after.
        last_quarantine_seconds: the longest quarantine.

    Raises:
        ValueError: a value is negative, or `jitter` above 1.
    """

    first_delay_seconds: float = 1.0
    last_delay_seconds: float = 60.0
    jitter: float = 0.2
    calm_seconds: float = 300.0
    failures: int = 5
    within_seconds: float = 600.0
    first_quarantine_seconds: float = 300.0
    last_quarantine_seconds: float = 1800.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 0:
                raise ValueError(f"RestartPolicy({field.name}={value!r}): give 0 or more")
        if self.jitter > 1:
            raise ValueError(f"RestartPolicy(jitter={self.jitter!r}): a share, so 1 at most")


class Restart(NamedTuple):
    """What follows from a failure: a restart after so many seconds, jitter not included."""

    delay_seconds: float
    is_quarantine: bool


class Budget:
    """Counts the failures of one manager or source against its policy.

    Arguments:
        policy: its policy.
        now: seconds of a clock that never goes back, as in the calls that follow.
    """

    def __init__(self, policy: RestartPolicy, now: float) -> None:
        self._policy = policy
        self._failed: deque[float] = deque()
        self._started = now
        self._delays = 0
        self._quarantines = 0

    def start(self, now: float) -> None:
        """Note that it runs again."""
        self._started = now

    def fail(self, now: float, *, at_once: bool = False) -> Restart:
        """Count a failure; return what follows.

        Arguments:
            at_once: it goes into quarantine whatever is left of the budget.
        """
        policy = self._policy
        if now - self._started >= policy.calm_seconds:
            self._delays = self._quarantines = 0
            self._failed.clear()
        self._failed.append(now)
        while now - self._failed[0] > policy.within_seconds:
            self._failed.popleft()
        # After a quarantine it is on trial: the next failure needs no full budget.
        if at_once or self._quarantines or len(self._failed) > policy.failures:
            delay = _doubled(policy.first_quarantine_seconds, self._quarantines)
            self._quarantines += 1
            return Restart(min(delay, policy.last_quarantine_seconds), is_quarantine=True)
        delay = _doubled(policy.first_delay_seconds, self._delays)
        self._delays += 1
        return Restart(min(delay, policy.last_delay_seconds), is_quarantine=False)


def _doubled(seconds: float, times: int) -> float:
    # Beyond 2**30 the power only costs; the longest delay is reached long before.
    return seconds * 2.0 ** min(times, 30)
