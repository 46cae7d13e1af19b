"""Dead letters in the log: each where the log sums up, else a few lines a second and a count."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from aiopype.logs import about, are_summed_up

if TYPE_CHECKING:
    from aiopype.dead_letters import DeadLetter

__all__ = ["LINES_A_SECOND", "LetterLog"]

logger = logging.getLogger(__name__)

#: A subscription of which every event fails may make thousands a second. The letters tell all.
LINES_A_SECOND = 3


class LetterLog:
    """Logs the dead letters of one subscription.

    Where a program has configured logging itself, nothing sums them up: a few a second are logged,
    and their number.

    Arguments:
        name: the subscription's.
        clock: seconds that never go back.
    """

    def __init__(self, name: str, clock: Callable[[], float] = monotonic) -> None:
        self._name = name
        self._clock = clock
        self._since = clock() - 1.0
        self._count = 0

    def tell(
        self, level: int, text: str, letter: DeadLetter, error: Exception | None = None
    ) -> None:
        """Log a dead letter, with the traceback of `error` if given, or count it.

        The log record carries `dead_letter`, for those who report it (`reporting`).
        The count is logged within a second where an event loop runs, else before the next letter.
        """
        if are_summed_up():
            self._log(level, text, letter, error)
            return
        now = self._clock()
        if now - self._since >= 1.0:
            self._tell_count()
            self._since = now
        self._count += 1
        if self._count <= LINES_A_SECOND:
            self._log(level, text, letter, error)
        elif self._count == LINES_A_SECOND + 1:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return
            loop.call_later(self._since + 1.0 - now, self._tell_count)

    def _log(self, level: int, text: str, letter: DeadLetter, error: Exception | None) -> None:
        extra = about(
            letter.component, letter.topic, letter.partition, letter.offset,
            apart=self._name, template="a dead letter", error=letter.error, dead_letter=letter,
        )  # fmt: skip
        logger.log(level, text, exc_info=error, extra=extra)

    def _tell_count(self) -> None:
        more = self._count - LINES_A_SECOND
        self._count = 0
        if more > 0:
            logger.warning("%s: %d more dead letters within a second", self._name, more)
