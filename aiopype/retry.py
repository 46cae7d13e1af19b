"""How often, how long and after which delays a failed event is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from aiopype.errors import CodecError, EmitError, PermanentError, TemporaryError

__all__ = ["Retry"]

#: Raised again and again by the same event: its bytes, or what the handler emits, are at fault.
_FINAL = (PermanentError, CodecError, EmitError)


@dataclass(frozen=True, kw_only=True)
class Retry:
    """The policy of a component for events whose handler raised.

    The delay doubles from try to try. With the default an event is tried ten times in about 50
    seconds. The bound that is reached first counts; then the event becomes a dead letter.

    Attributes:
        tries: how often the handler is called for one event, the first call included.
        seconds: no try begins later than this after the first one failed.
        first_delay_seconds: before the second try.
        last_delay_seconds: the longest delay.
    """

    tries: int = 10
    seconds: float = 60.0
    first_delay_seconds: float = 0.1
    last_delay_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.tries < 1:
            raise ValueError(f"Retry(tries={self.tries!r}): the first call is a try, so 1 or more")
        for name in ("seconds", "first_delay_seconds", "last_delay_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"Retry({name}={getattr(self, name)!r}): give 0 or more seconds")

    def delay(self, error: Exception, tries: int, waited_seconds: float) -> float | None:
        """Return the seconds until the next try, without jitter; None when there is none.

        Arguments:
            error: what the last try raised.
            tries: how many there were.
            waited_seconds: since the first one failed.
        """
        if tries >= self.tries or isinstance(error, _FINAL):
            return None
        if isinstance(error, TemporaryError) and error.delay is not None:
            delay = max(0.0, float(error.delay))
        else:
            # Beyond 2**30 the power only costs; the longest delay is reached long before.
            doubled = self.first_delay_seconds * 2.0 ** min(tries - 1, 30)
            delay = min(doubled, self.last_delay_seconds)
        return delay if waited_seconds + delay <= self.seconds else None
