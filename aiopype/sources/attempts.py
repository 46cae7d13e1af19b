"""How a source goes about an upstream that fails: back-off with jitter, and a circuit."""

from __future__ import annotations

import random
from collections.abc import Callable

from aiopype.errors import CircuitOpen
from aiopype.sources.options import SourceOptions
from aiopype.vitals import Vitals

__all__ = ["Attempts"]

#: The share of a delay by which it may be shorter or longer, so that many do not come at once.
JITTER = 0.2


class Attempts:
    """Counts the errors of an upstream in a row; keep one a source, over all its starts.

    The attempts are counted in the source's vitals as well.

    When there are too many the circuit opens: the source is in quarantine. Then it is on trial: the
    next error opens the circuit again, and the next success closes it.

    Arguments:
        options: say how many are too many, and the delays.
        vitals: the source's.
        jitter: returns a number between two; a random one.

    Attributes:
        failures: how many there were in a row.
    """

    def __init__(
        self,
        options: SourceOptions,
        vitals: Vitals,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._options = options
        self._vitals = vitals
        self._jitter = jitter
        self.failures = 0

    def succeeded(self) -> None:
        """Count an attempt at which the upstream answered as it should."""
        self._vitals.succeeded()
        self.failures = 0

    def connected(self) -> None:
        """Count a connection that was made; whether it is of use is not known yet."""
        self._vitals.connected()

    def recovered(self) -> None:
        """Note that a connection, counted before, is of use: errors are in a row no more."""
        self.failures = 0

    def failed(
        self, error: Exception, at_least_seconds: float = 0.0, *, is_expected: bool = False
    ) -> float:
        """Count an error, of an attempt or a connection; return the seconds until the next attempt.

        Arguments:
            error: what went wrong.
            at_least_seconds: what the upstream asked for, as with `Retry-After`.
            is_expected: it is one only if there are more in a row: a connection that may end.

        Raises:
            CircuitOpen: that was one too many; from `error`. It knows `at_least_seconds`.
        """
        if not is_expected:
            self._vitals.failed(error)
        self.failures += 1
        if self.failures >= self._options.exception_threshold:
            circuit = CircuitOpen(
                f"{self.failures} errors in a row, the last: {type(error).__name__}: {error}"
            )
            circuit.at_least_seconds = at_least_seconds
            raise circuit from error
        # Beyond 2**30 the power only costs; the longest delay is reached long before.
        doubled = self._options.first_delay_seconds * 2.0 ** min(self.failures - 1, 30)
        delay = min(doubled, self._options.last_delay_seconds)
        return max(delay * self._jitter(1 - JITTER, 1 + JITTER), at_least_seconds)
