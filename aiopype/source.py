"""Sources: the components that start a pipeline."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ClassVar

from aiolimiter import AsyncLimiter

from aiopype.clock import SYSTEM_CLOCK, Clock
from aiopype.dead_letters import encode, rejected
from aiopype.emitter import MessageHandler, Outbox, current_outbox
from aiopype.errors import OutboxFull
from aiopype.event import Key
from aiopype.inputs import RawInput
from aiopype.letter_log import LetterLog
from aiopype.positions import decode_position, encode_position
from aiopype.processor import Processor
from aiopype.restarts import RestartPolicy
from aiopype.topics import ERROR, Topic
from aiopype.vitals import Vitals

__all__ = ["Source"]

#: Events of one transaction: more is a position that is set too seldom.
TOGETHER = 50_000


class Source(Processor):
    """Starts a pipeline; runs on exactly one worker of the cluster, in a task of its own.

    A user's source is this much:

        class Lines(Source):
            async def start(self):
                async for number, line in read_lines(after=self.position or 0):
                    self.checkpoint(number)
                    await self.emit_async("line", line)

    `start` is called once when this worker becomes the owner of the source, and again, as
    `restarts` says, when it has raised. It may run for ever; when it returns the source has ended.
    It is cancelled when the flow stops, the source is paused or another worker takes over: clean up
    in `finally`, within 5 seconds, and let `CancelledError` pass. It must not block the event loop:
    await, or use `asyncio.to_thread`.

    What it emits is written in order, in transactions that no earlier owner can add to: a worker
    that was frozen and wakes up writes nothing. `await emit_async(...)` waits for room and so slows
    the source down to what Kafka takes; `emit` raises OutboxFull instead.

    `position` is where the source was: on whichever worker it runs, after whatever error, it is the
    last one whose events are durable. With a source that can read on from a position nothing is
    lost and nothing comes twice.

    Its worker shows when it last emitted and heard something, what waits to be written, and what
    `start` has raised. Attempts and connections, and errors that it deals with by itself, are shown
    where it says of them in `vitals`.

    Attributes:
        expect_every: seconds; when the source has emitted nothing for longer, and said `heard()`
            no more either, it is silent: its `start` is cancelled and called again. Until something
            comes the worker is not ready.
        rate_limit: how often a second `pace` lets pass.
        restarts: how it is started again after a failure; as its manager's if None.
        clock: the time, and waiting; tests give another.
        tap: called with every raw input; for recordings.
        heard_at: when its upstream was last heard of, on the monotonic clock; None: not since the
            worker began to run it.
        waiting: how many calls wait for room; meanwhile its silence is not the upstream's.
        vitals: counts its attempts and connections.
    """

    expect_every: float | None = None
    rate_limit: float | None = None
    restarts: RestartPolicy | None = None
    clock: Clock = SYSTEM_CLOCK

    #: Whether `start` runs on one worker; without it, partitions are spread over all of them.
    is_owned: ClassVar[bool] = True

    def __init__(self, name: str, handler: MessageHandler) -> None:
        super().__init__(name, handler)
        self.tap: Callable[[str, RawInput], None] | None = None
        self.heard_at: float | None = None
        self.waiting = 0
        self.vitals = Vitals()
        self._letter_log = LetterLog(name)
        self._limiter: AsyncLimiter | None = None

    async def start(self) -> None:
        """Run the source.

        Raises:
            NotImplementedError: a subclass must say what the source does.
        """
        raise NotImplementedError(
            f"{type(self).__name__} {self.name!r} has no start(); override `async def start(self)`"
        )

    # --- where it is

    @property
    def position(self) -> Any:
        """The last position given to `checkpoint`, in JSON's types; None before the first one.

        When `start` is called it is the last durable one.

        Raises:
            EmitError: the source does not run here.
        """
        group = current_outbox.get()
        if isinstance(group, _Group) and group.position is not None:
            return decode_position(group.position)
        return decode_position(self.handler.position(self.name))

    @property
    def epoch(self) -> int:
        """How many owners the source has had, this one included: of two, the higher is the later.

        Raises:
            EmitError: the source does not run here.
        """
        return self.handler.epoch(self.name)

    def checkpoint(self, position: Any) -> None:
        """Make `position` durable together with the next event that is emitted.

        Where several events share a position, emit them in a `transaction`. A position that no
        event follows becomes durable when `start` returns or `flush` is called.

        Arguments:
            position: anything that has a JSON form, some kilobytes at most.

        Raises:
            CodecError: it has none, or more than 64 KiB.
            EmitError: the source does not run here.
        """
        raw = encode_position(position)
        group = current_outbox.get()
        if isinstance(group, _Group):
            group.position = raw
        else:
            self.handler.checkpoint(self.name, raw)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Make the events and the position of this block durable together, or none of them.

            async with self.transaction():
                for item in page:
                    await self.emit_async("item", item)
                self.checkpoint(page.cursor)

        They leave when the block ends; when it raises they are dropped. In the block nothing waits
        for room, and `emit` is as good as `emit_async`.

        A transaction in another one is a part of it: what it emitted is dropped when it raises, and
        durable when the outer one is.

        Raises:
            OutboxFull: in the block, at the 50,001st event.
        """
        outer = current_outbox.get()
        if isinstance(outer, _Group):
            with outer.part():
                yield
            return
        group = _Group(int(self.clock.time() * 1000))
        token = current_outbox.set(group)
        try:
            yield
        finally:
            current_outbox.reset(token)
            group.is_open = False
        self.waiting += 1
        try:
            await self.handler.emit_all(self.name, group.emitted, group.position)
        finally:
            self.waiting -= 1
            self.heard()

    async def flush(self) -> None:
        """Wait until everything emitted, and the last position, is durable.

        For a source that has to tell its upstream what it need not send again.
        """
        await self.handler.flush(self.name)

    # --- how it is doing

    def heard(self) -> None:
        """Note that the upstream is alive though there is nothing to emit; see `expect_every`."""
        self.heard_at = self.clock.monotonic()

    async def pace(self) -> None:
        """Wait as `rate_limit` says; before each request, or each message that is taken."""
        if self.rate_limit is not None:
            if self._limiter is None:
                self._limiter = AsyncLimiter(max(1.0, self.rate_limit), max(1, 1 / self.rate_limit))
            await self._limiter.acquire()

    def emit(self, event: str, /, *args: Any, key: Key | None = None, **kwargs: Any) -> None:
        """As `Processor.emit`; outside of a transaction it raises OutboxFull rather than wait."""
        self.heard()
        super().emit(event, *args, key=key, **kwargs)

    async def emit_async(
        self, event: str, /, *args: Any, key: Key | None = None, **kwargs: Any
    ) -> None:
        """As `Processor.emit_async`: it waits for room."""
        self.waiting += 1
        try:
            await super().emit_async(event, *args, key=key, **kwargs)
        finally:
            self.waiting -= 1
            self.heard()

    # --- what comes from outside

    async def receive(self, raw: RawInput) -> None:
        """Have `take` make events of what came from outside.

        Sources that call it for all they get can be recorded and played again.
        """
        self.heard()
        if self.tap is not None:
            self.tap(self.name, raw)
        await self.take(raw)

    async def take(self, raw: RawInput) -> None:
        """Make events of what came from outside, now or in a recording.

        Of a source that does not override it, recordings hold the events it emitted.
        """
        topic = self.handler.topic(self.name, raw.meta["event"])
        await self.handler.emit_async(topic, raw.meta.get("key"), raw.data)

    async def reject(self, raw: RawInput, error: Exception) -> None:
        """Make a dead letter of what came from outside and cannot be used; the source goes on."""
        topic = self.handler.topic(self.name, ERROR)
        letter = rejected(self.name, raw.data, error)
        text = f"{self.name}: a {raw.kind} cannot be used: {type(error).__name__}: {error}"
        self._letter_log.tell(logging.WARNING, text, letter)
        value = encode(letter, topic.largest)
        group = current_outbox.get()
        if group is None:
            await self.handler.emit_async(topic, None, value)
        else:  # or it would come again with a transaction that is tried again
            group.append(topic, None, value)
            group.stamp_last(letter.at_ms)


class _Group(Outbox):
    """The events of a transaction, until its end."""

    __slots__ = ("position",)

    def __init__(self, timestamp: int) -> None:
        super().__init__([], None, timestamp)
        self.position: bytes | None = None

    @contextmanager
    def part(self) -> Iterator[None]:
        """Drop what this block adds when it raises."""
        count, position = len(self.emitted), self.position
        try:
            yield
        except BaseException:
            del self.emitted[count:]
            self.position = position
            raise

    def append(self, topic: Topic, key: Key | None, value: bytes) -> None:
        if len(self.emitted) >= TOGETHER:
            raise OutboxFull(
                f"a transaction of {topic.component!r} has {TOGETHER:,} events; end it earlier, "
                "with a position for each part"
            )
        super().append(topic, key, value)
