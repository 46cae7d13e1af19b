"""How a source is doing, as numbers; whoever shows them, or checks them, reads them from here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Vitals", "Written"]


class Written(Protocol):
    """What is asked of the outbox of a source; the transport's is the one.

    Attributes:
        epoch: how many owners the source has had; 0 before it is this worker's.
        written_at: when an event of it was last written, in seconds since 1970.
        stuck_since: since when what waits has been tried in vain, on the monotonic clock.
        trouble: why the last such try was in vain.
    """

    epoch: int
    written_at: float | None
    stuck_since: float | None
    trouble: str

    @property
    def count(self) -> int:
        """How many events wait."""


class Vitals:
    """Signs of life of one source, kept at each attempt and connection, never at each event.

    The sources of this package keep them; one of your own may, in its `start`:

        self.vitals.succeeded()    # an attempt went well: a request, a poll
        self.vitals.connected()    # so did one to connect
        self.vitals.failed(error)  # an attempt went wrong, or the connection broke
        self.vitals.note(error)    # something else went wrong, and the source goes on

    What `start` raises is counted in any case, as an error of its class. An attempt counts once:
    a connection that was made and broke is one that went well, an error, and a reconnect later.

    Attributes:
        ok, failures: how many attempts went well, and wrong.
        reconnects: connections after the first one since the worker began to run the source.
        began_at: when its `start` was first called since then, on the source's monotonic clock.
        outbox: what it emits goes through, as long as the source is this worker's.
    """

    def __init__(self) -> None:
        self.ok = self.failures = self.reconnects = 0
        self.began_at: float | None = None
        self.outbox: Written | None = None
        self._was_connected = self._is_connected = False
        self._on_error: Callable[[BaseException], None] = _ignore

    def begin(self, on_error: Callable[[BaseException], None]) -> None:
        """Note that this worker begins to run the source; counts stay.

        Arguments:
            on_error: called with each error that the source deals with by itself.
        """
        self.began_at = None
        self._was_connected = False
        self._on_error = on_error

    def starts(self, now: float) -> None:
        """Note that `start` is called, at this time of the source's monotonic clock."""
        self._is_connected = False
        if self.began_at is None:
            self.began_at = now

    def succeeded(self) -> None:
        """Count an attempt that went well."""
        self.ok += 1

    def connected(self) -> None:
        """Count a connection that was made."""
        self.ok += 1
        self.reconnects += self._was_connected
        self._was_connected = self._is_connected = True

    def failed(self, error: BaseException) -> None:
        """Count an attempt that went wrong, or a connection that broke, and the error."""
        self.failures += not self._is_connected
        self._is_connected = False
        self._on_error(error)

    def note(self, error: BaseException) -> None:
        """Count an error that is neither an attempt's nor a connection's."""
        self._on_error(error)


def _ignore(_error: BaseException) -> None:
    pass
