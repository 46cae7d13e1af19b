"""One partition that this worker owns: a batch in work, one in hand, and the events that wait."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aiopype.errors import BrokerError, DeliveryError, OutputRefused, OwnershipLost
from aiopype.execution import Outcome, run_batch
from aiopype.graph import Subscription, manager_of
from aiopype.logs import about
from aiopype.progress import Progress
from aiopype.settlement import Attempt, Origin, Patience, Settled, settle
from aiopype.topics import Topic
from aiopype.transport import traced
from aiopype.transport.batches import Batch, Delivery, Feed
from aiopype.transport.outputs import of_foreign, restamped
from aiopype.transport.parking import Parking
from aiopype.transport.results import Results

if TYPE_CHECKING:
    from aiopype.tracing.spans import Tracing

__all__ = ["Partition"]

logger = logging.getLogger(__name__)

#: A batch closes after this much handling: what is done is made durable, the rest is the next one.
BATCH_SECONDS = 1.0

#: Bounds of the back-off after a delivery that failed.
FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS = 0.1, 10.0


class Partition:
    """Takes the batches of one partition through its subscriptions, one batch at a time.

    It is opened before anything of it is fetched: predecessors are fenced, the events that wait
    are read, and the consumer goes to where the group has got. After any error of a delivery the
    same is done again, as it may or may not have happened.

    Arguments:
        topic: the event's topic.
        number: the partition's number.
        feed: the consumer.
        delivery: makes batches durable.
        parking: the events that wait, with the topic's subscriptions in order; their agents share
            each batch.
        fail: called with what and why when an output is refused for good.
        progress: knows how far it is, and counts what its handlers did.

    Attributes:
        idle: set while no batch is in work.
        tracing: makes the spans of its batches; None without the setting.
    """

    tracing: Tracing | None = None

    def __init__(
        self,
        topic: Topic,
        number: int,
        feed: Feed,
        delivery: Delivery,
        parking: Parking,
        fail: Callable[[Exception, str], None],
        progress: Progress,
    ) -> None:
        self.topic = topic
        self.number = number
        self.subscriptions = parking.subscriptions
        self.idle = asyncio.Event()
        self.idle.set()
        self._working_since: float | None = None
        self._trying_since: float | None = None
        self.parking = parking
        self._feed = feed
        self._delivery = delivery
        self._fail = fail
        self._progress = progress
        self._results = Results(progress, self.subscriptions)
        self._origin = Origin(topic.name, number)
        self._about = about(manager_of(topic.component), topic.name, number)
        self._patience = Patience()
        self._delivering = asyncio.Lock()
        self._work: Batch | None = None
        self._hand: Batch | None = None
        self._position: int | None = None
        self._delay = 0.0
        self._opening: asyncio.Task[None] | None = None
        self._trying: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_open = False
        self._closed = False

    def __repr__(self) -> str:
        return f"{self.topic.name}[{self.number}]"

    @property
    def has_room(self) -> bool:
        """Whether it takes another batch; only then it is fetched."""
        return self._hand is None and self._is_open and not self.parking.is_full

    @property
    def is_open(self) -> bool:
        """Whether it is ready for batches; not so until who had it before is fenced."""
        return self._is_open

    @property
    def is_closed(self) -> bool:
        """Whether it was given up, or its manager stopped."""
        return self._closed

    @property
    def busy_since(self) -> float | None:
        """When the batch in work began, on the monotonic clock; None without one."""
        since = [s for s in (self._working_since, self._trying_since) if s is not None]
        return min(since, default=None)

    @property
    def parked(self) -> Iterator[tuple[Subscription, int]]:
        """How many events of each subscription wait to be tried again."""
        return zip(self.subscriptions, self.parking.counts, strict=True)

    async def check_ownership(self) -> None:
        """Ask the group whether this partition is still this worker's; raises as `Feed` says."""
        await self._feed.check_ownership(self)

    # --- open and close

    def open(self) -> None:
        """Begin to make it ready; it has room when it is."""
        self._opening = self._start(self._open(), f"open {self!r}")

    def close(self) -> None:
        """Take no more, and forget what is under way: nothing of it will be committed."""
        self._closed = True
        self._is_open = False
        if self._work is not None and self._work.trace is not None:
            self._work.trace.end(OwnershipLost(f"{self} was given up"))
        self._work = self._hand = None
        self._note_idle()
        for task in (self._opening, self._trying):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    async def end(self) -> None:
        """Wait until nothing of it runs any more, after `close`."""
        current = asyncio.current_task()
        tasks = [t for t in (self._opening, self._trying) if t is not None and t is not current]
        if tasks:
            await asyncio.wait(tasks)

    async def _open(self) -> None:
        while True:
            try:
                await self._delivery.open(self)
                await self.parking.load()
                position = self._position if self._delivery.trusts_memory else None
                self._position = await self._feed.go_on(self, position, self._position)
                break
            except OwnershipLost as error:
                logger.warning("%r is lost: %s", self, error, extra=self._about)
                self.close()
                return
            except OutputRefused as error:
                self._stop(error, f"{self} cannot be opened: {error}")
                return
            except (DeliveryError, BrokerError) as error:
                delay = self._next_delay()
                text = "%r is not open yet, again in %.1f s: %s"
                logger.warning(text, self, delay, error, extra=self._about)
                await asyncio.sleep(delay)
        self._opening = None
        self._is_open = True
        self._plan()
        self._feed.wake()

    def _reopen(self, error: Exception, count: int) -> None:
        """Forget what is under way, wait, open again: it may or may not be there."""
        self._is_open = False
        self._work = self._hand = None
        self._note_idle()
        delay = self._next_delay()
        text = "%r: %s; %d events are handled again in %.1f s"
        logger.warning(text, self, error, count, delay, extra=self._about)

        async def later() -> None:
            await asyncio.sleep(delay)
            await self._open()

        self._opening = self._start(later(), f"open {self!r} again")

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        def look(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if isinstance(error, Exception):
                self._stop(error, f"{name}: {error!r}")

        task = asyncio.create_task(work, name=name)
        task.add_done_callback(look)
        return task

    def _next_delay(self) -> float:
        self._delay = min(max(self._delay * 2, FIRST_DELAY_SECONDS), LAST_DELAY_SECONDS)
        return self._delay * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, no secret

    def _stop(self, error: Exception, what: str) -> None:
        self.close()
        self._fail(error, what)

    # --- batches

    def take(self, batch: Batch) -> None:
        """Take a batch that was fetched; only when there is room."""
        if self._work is None:
            self._note_oldest(batch)
        if self._work is None and self._feed.is_feeding:
            self._begin(batch)
        else:
            self._hand = batch

    def jump(self, position: int) -> None:
        """Go on from another position: what is before it is not in the log any more."""
        self._position = position

    async def run(self, batch: Batch, index: int) -> None:
        """Run one subscription over a batch, as its agent; the last one makes it durable.

        Guarantees that nothing a handler raises leaves here: Faust would take the event for done.
        """
        if batch is not self._work:
            return  # revoked while it waited for its agent
        try:
            await traced.within(batch, self._run(batch, index))
        except asyncio.CancelledError:
            self.close()
            raise

    async def _run(self, batch: Batch, index: int) -> None:
        outcome = await self._handle(
            index,
            batch,
            seconds=BATCH_SECONDS if index == 0 else float("inf"),
            held=self.parking.keys(index),
        )
        self._results.handled(index, outcome)
        if batch is not self._work:
            return  # revoked while it was handled
        batch.cut(outcome.handled)
        batch.emitted += outcome.emitted
        if outcome.failures:
            if batch.trace is not None:
                batch.trace.fail(outcome.failures)
            settled = await self._settle(outcome, self._patience, lambda: batch is self._work)
            if batch is not self._work:
                return
            self._results.settled(index, settled, len(settled.waiting))
            batch.emitted += settled.emitted
            batch.parked += [(index, attempt) for attempt in settled.waiting]
        if index + 1 < len(self.subscriptions):
            self._feed.give(batch, index + 1)
            return
        batch.emitted += self.parking.entries(batch.parked)
        if await self._deliver(batch, lambda: batch is self._work):
            self.parking.add(batch.parked)
            self._advance(batch)

    async def _handle(
        self, index: int, batch: Batch, *, seconds: float, held: Iterable[bytes] = ()
    ) -> Outcome:
        return await run_batch(
            self.subscriptions[index],
            batch.records,
            seconds=seconds,
            turns=self._feed.turns,
            threads=self._feed.threads,
            held=frozenset(held),
        )

    async def _settle(
        self,
        outcome: Outcome,
        patience: Patience | None,
        still_wanted: Callable[[], bool],
        tries: Sequence[Attempt] = (),
    ) -> Settled:
        return await settle(
            self._origin,
            outcome.failures,
            patience=patience,
            tries={attempt.record.offset: attempt for attempt in tries},
            turns=self._feed.turns,
            threads=self._feed.threads,
            still_wanted=still_wanted,
        )

    async def _deliver(self, batch: Batch, still_wanted: Callable[[], bool]) -> bool:
        """Make a batch durable; say whether it is, and see to what is to be done if not."""
        async with self._delivering:
            if not still_wanted():
                return False
            if self.topic.foreign is not None:
                before = batch.emitted
                batch.emitted = of_foreign(before, int(time.time() * 1000))
                if batch.trace is not None:
                    batch.emitted = restamped(batch.emitted, before)
            try:
                await self._delivery.deliver(batch)
            except OwnershipLost as error:
                text = "%r is lost, its batch is dropped uncommitted: %s"
                logger.warning(text, self, error, extra=self._about)
                self.close()
            except OutputRefused as error:
                self._stop(error, f"an output of {self} cannot be written: {error}")
            except DeliveryError as error:
                self._reopen(error, len(batch.records))
            else:
                self._delay = 0.0
                if batch.position is not None:
                    self._position = batch.position
                return True
            return False

    def _begin(self, batch: Batch) -> None:
        self._work = batch
        self._note_idle()
        if self.tracing is not None:
            traced.begin(batch, self.tracing)
        batch.began = time.monotonic()
        self._feed.give(batch, 0)

    def _advance(self, batch: Batch) -> None:
        if batch is not self._work:
            return  # revoked while it was delivered
        following = batch.rest or self._hand
        if batch.rest is None:
            self._hand = None
        self._work = None
        if following is not None:
            self._note_oldest(following)
        if following is not None and self._feed.is_feeding:
            self._begin(following)
        else:
            self._hand = None
            self._note_idle()
        if batch.parked:
            self._plan()
        self._feed.wake()

    def _note_oldest(self, batch: Batch) -> None:
        self._progress.waits(self.topic.name, self.number, batch.records[0].timestamp)

    def _note_idle(self) -> None:
        self._working_since = None if self._work is None else time.monotonic()
        if self._closed or (self._work is None and self._trying is None):
            self.idle.set()
        else:
            self.idle.clear()

    # --- events that wait

    def _plan(self) -> None:
        """Try the events that wait again when the first of them is due."""
        if self._timer is not None:
            self._timer.cancel()
        due = self.parking.next_due()
        if due is not None and self._is_open:
            seconds = max(0.0, due - time.time())
            self._timer = asyncio.get_running_loop().call_later(seconds, self._try_waiting)

    def _try_waiting(self) -> None:
        if self._is_open and self._trying is None and self._feed.is_feeding:
            self._trying = self._start(self._run_waiting(), f"try again {self!r}")
            self._note_idle()

    async def _run_waiting(self) -> None:
        """Handle what is due, beside the batches: their keys are others, or wait behind these."""
        try:
            while self._is_open and self._feed.is_feeding:
                due = self.parking.due(time.time())
                if due is None:
                    break
                self._trying_since = time.monotonic()
                await self._run_due(*due)
        finally:
            self._trying = self._trying_since = None
            self._note_idle()
            self._plan()

    async def _run_due(self, index: int, attempts: Sequence[Attempt]) -> None:
        batch = Batch(self, [attempt.record for attempt in attempts], None)
        if self.tracing is not None:
            traced.begin(batch, self.tracing)
        try:
            await traced.within(batch, self._try(batch, index, attempts))
        finally:
            if batch.trace is not None:
                batch.trace.end()

    async def _try(self, batch: Batch, index: int, attempts: Sequence[Attempt]) -> None:
        outcome = await self._handle(index, batch, seconds=float("inf"))
        self._results.handled(index, outcome, attempts)
        settled = await self._settle(outcome, None, lambda: self._is_open, attempts)
        self._results.settled(index, settled)
        batch.emitted = outcome.emitted + settled.emitted
        batch.emitted += self.parking.changes(index, attempts, settled.waiting)
        if await self._deliver(batch, lambda: self._is_open):
            self.parking.replace(index, attempts, settled.waiting)
            self._feed.wake()  # there may be room again
