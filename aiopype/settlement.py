"""What becomes of events whose handler failed: tried again, made dead letters, or left waiting.

Short delays are waited for here, inside the batch; what takes longer is handed back, to be parked.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import NamedTuple

from aiopype.dead_letters import Origin, letter_of, to_emit
from aiopype.event import Emitted, Record
from aiopype.execution import Failure, Outcome, run_batch
from aiopype.graph import Subscription
from aiopype.patience import Patience

__all__ = [
    "Attempt",
    "Origin",
    "Patience",
    "Settled",
    "dead_letter",
    "retries_of",
    "settle",
]

#: For how long events are run that were held by one that is settled now; then the rest waits. As
#: long as a batch is handled, which they are beyond.
RUN_SECONDS = 1.0

#: Delays differ by up to this part, so that what failed together is not tried together.
JITTER = 0.2


@dataclass
class Attempt:
    """What is known of an event that did not go well, or waits behind one of its key.

    Attributes:
        record: the event's.
        tries: how often its handler was called.
        first_failed: when the first of them failed, in seconds since 1970.
        error: what the last one raised; None when it is not known (any more), or was not tried.
        due: when the next try may begin, in seconds since 1970.
    """

    record: Record
    tries: int
    first_failed: float
    error: Exception | None
    due: float


class Settled(NamedTuple):
    """What came of failures.

    `emitted` is what their events emitted in a later try, and dead letters, of which there are
    `dead_letters`. `waiting` are those that wait on, in the order of their offsets: with an error
    where they failed, as they were where an event of their key waits before them, or where there
    was no time to try them. `outcomes` are those of the tries that were made, of which so many
    were not the first of their event as `retries` says.
    """

    emitted: list[Emitted]
    waiting: list[Attempt]
    dead_letters: int = 0
    outcomes: Sequence[Outcome] = ()
    retries: int = 0


def retries_of(outcome: Outcome, attempts: Sequence[Attempt]) -> int:
    """Return how many of the tries of an outcome were not the first of their event.

    Arguments:
        attempts: what was known of its events before, in their order.
    """
    held = {failure.record.offset for failure in outcome.failures if failure.error is None}
    tried = attempts[: outcome.handled]
    return sum(attempt.tries > 0 and attempt.record.offset not in held for attempt in tried)


async def settle(
    origin: Origin,
    failures: Sequence[Failure],
    *,
    patience: Patience | None,
    tries: Mapping[int, Attempt] | None = None,
    turns: asyncio.Lock | None = None,
    threads: Executor | None = None,
    still_wanted: Callable[[], bool] = lambda: True,
) -> Settled:
    """Find out what becomes of the failures of a batch, trying again what is due soon.

    The component's `retry` decides after each try. Where it allows no other, the event becomes a
    dead letter, and those of its key that were held are run. Nothing a handler raises passes
    through here.

    Arguments:
        origin: where the records came from; told in dead letters.
        failures: of one partition, in order, as `run_batch` gives them.
        patience: what may be waited for; None waits for nothing.
        tries: what is known of earlier tries, by the record's offset.
        turns, threads: as for `run_batch`.
        still_wanted: whether the result will be of use; else it comes early, incomplete.
    """
    work = _Settling(origin, tries or {}, turns, threads)
    work.take(failures)
    while not work.is_late and still_wanted():
        ready = work.free()
        if not ready:
            due = work.next_due()
            if due is None or patience is None:
                break
            delay = max(0.0, due - time.time())
            if not patience.take(delay):
                break
            await patience.wait(delay, still_wanted)
            if not still_wanted():
                break
            ready = work.due(due)
        seconds = await work.run(ready)
        if patience is not None:
            patience.lose(seconds)
    return work.settled()


def dead_letter(
    origin: Origin, failure: Failure, tries: int, level: int = logging.WARNING
) -> Emitted:
    """Return the `error` event of a failure for good, and log it; an ERROR with its traceback."""
    subscription, record, error = failure
    assert error is not None
    letter = letter_of(subscription, record, error, origin=origin, tries=tries)
    where = origin.topic
    if origin.partition is not None:
        where = f"{where}[{origin.partition}] offset {record.offset}"
    subscription.letter_log.tell(
        level,
        f"{subscription.name}: {letter.error}: {letter.message:.200}; "
        f"tried {tries} {'time' if tries == 1 else 'times'}, "
        f"the event of {where} is a dead letter in {subscription.errors.name} now",
        letter,
        error if level >= logging.ERROR else None,
    )
    return to_emit(subscription, record, letter)


_Place = tuple[Subscription, bytes | int]


@dataclass(eq=False)
class _Lane:
    """The events of one key that did not go well, in order; one without a key is alone.

    `is_free`: the first may be run at once, as the one before it is settled. Otherwise it failed,
    and is due some time; or it is held from elsewhere, and has no error.
    """

    place: _Place
    attempts: deque[Attempt]
    is_free: bool = False

    @property
    def subscription(self) -> Subscription:
        return self.place[0]


class _Settling:
    """The failures of one batch on their way.

    Attributes:
        is_late: whether the time to run events is over.
    """

    def __init__(
        self,
        origin: Origin,
        known: Mapping[int, Attempt],
        turns: asyncio.Lock | None,
        threads: Executor | None,
    ) -> None:
        self.is_late = False
        self._origin = origin
        self._known = dict(known)
        self._turns = turns
        self._threads = threads
        self._seconds = RUN_SECONDS
        self._lanes: dict[_Place, _Lane] = {}
        self._emitted: list[Emitted] = []
        self._late: list[Attempt] = []
        self._outcomes: list[Outcome] = []
        self._dead_letters = self._retries = 0

    def take(self, failures: Sequence[Failure]) -> None:
        """Take failures in, and see what becomes of the first of each key."""
        now = time.time()
        lanes: dict[_Place, _Lane] = {}
        for failure in failures:
            key = failure.record.key
            place = (failure.subscription, failure.record.offset if key is None else key)
            if place not in lanes:
                lanes[place] = _Lane(place, deque())
            lanes[place].attempts.append(self._attempt(failure, now))
        for place, lane in lanes.items():
            self._judge(lane, now)
            if lane.attempts:
                self._lanes[place] = lane

    def free(self) -> list[_Lane]:
        """Return the lanes that are run without waiting."""
        return [lane for lane in self._lanes.values() if lane.is_free]

    def next_due(self) -> float | None:
        """Return when the first event is due; None when none will be."""
        return min((lane.attempts[0].due for lane in self._failed()), default=None)

    def due(self, due: float) -> list[_Lane]:
        """Return the lanes whose first event is due, now that it was waited for `due`."""
        now = max(due, time.time())
        return [lane for lane in self._failed() if lane.attempts[0].due <= now]

    async def run(self, lanes: Sequence[_Lane]) -> float:
        """Run the events of some lanes; return the seconds it took when some failed, else 0."""
        began = time.monotonic()
        has_failed = False
        by_subscription: dict[Subscription, list[Attempt]] = {}
        for lane in lanes:
            by_subscription.setdefault(lane.subscription, []).extend(lane.attempts)
            del self._lanes[lane.place]
        for subscription, attempts in by_subscription.items():
            attempts.sort(key=_offset)
            outcome = await run_batch(
                subscription,
                [attempt.record for attempt in attempts],
                seconds=self._seconds,
                turns=self._turns,
                threads=self._threads,
            )
            self._outcomes.append(outcome)
            self._retries += retries_of(outcome, attempts)
            self._emitted += outcome.emitted
            self._late += attempts[outcome.handled :]
            self._known.update({_offset(attempt): attempt for attempt in attempts})
            self.take(outcome.failures)
            has_failed = has_failed or bool(outcome.failures)
        seconds = time.monotonic() - began
        self._seconds = max(0.0, self._seconds - seconds)
        self.is_late = bool(self._late)
        return seconds if has_failed else 0.0

    def settled(self) -> Settled:
        waiting = self._late + [a for lane in self._lanes.values() for a in lane.attempts]
        return Settled(
            self._emitted,
            sorted(waiting, key=_offset),
            self._dead_letters,
            self._outcomes,
            self._retries,
        )

    def _failed(self) -> list[_Lane]:
        return [lane for lane in self._lanes.values() if lane.attempts[0].error is not None]

    def _attempt(self, failure: Failure, now: float) -> Attempt:
        record, error = failure.record, failure.error
        known = self._known.get(record.offset)
        if error is None:
            return known or Attempt(record, 0, now, None, now)
        if known is None or known.tries == 0:
            return Attempt(record, 1, now, error, now)
        return Attempt(record, known.tries + 1, known.first_failed, error, now)

    def _judge(self, lane: _Lane, now: float) -> None:
        """See when the first event is tried again; those that never are become dead letters."""
        retry = lane.subscription.processor.retry
        while lane.attempts and (error := lane.attempts[0].error) is not None:
            first = lane.attempts[0]
            delay = retry.delay(error, first.tries, now - first.first_failed)
            if delay is not None:
                first.due = now + delay * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
                lane.is_free = False
                _forget_frames(error)
                return
            failure = Failure(lane.subscription, first.record, error)
            self._emitted.append(dead_letter(self._origin, failure, first.tries))
            self._dead_letters += 1
            _forget_frames(error)
            lane.attempts.popleft()
            lane.is_free = True


def _offset(attempt: Attempt) -> int:
    return attempt.record.offset


def _forget_frames(error: BaseException) -> None:
    """Let go of what an error's frames hold: all records of its batch, as long as it waits."""
    seen: set[int] = set()
    following: list[BaseException | None] = [error]
    while following:
        each = following.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            following += [each.__cause__, each.__context__]
