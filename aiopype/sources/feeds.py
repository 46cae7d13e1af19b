"""What sources that follow a websocket have in common: connections, and filling the gaps."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import aiohttp
import msgspec
from yarl import URL

from aiopype.emitter import MessageHandler
from aiopype.errors import CircuitOpen
from aiopype.inputs import RawInput
from aiopype.sources.attempts import Attempts
from aiopype.sources.backfills import Held, close_iterator, next_part
from aiopype.sources.connections import (
    TROUBLE,
    Connection,
    ConnectionLost,
    beside,
    connect,
)
from aiopype.sources.feed_events import (
    BACKFILLED,
    CONNECTED,
    DISCONNECTED,
    FeedEvents,
    item_of,
)
from aiopype.sources.feed_options import FeedOptions
from aiopype.sources.gaps import Continuity
from aiopype.sources.http import origin_url
from aiopype.vitals import Vitals

__all__ = ["Feed"]

#: Frames that are taken before other tasks of the worker have their turn.
TURN_FRAMES = 256

_T = TypeVar("_T")


class Feed(FeedEvents):
    """Follows what a server sends over a connection, and fills the gaps between connections.

    `start` connects, and connects again when the connection is lost: at once when it was a healthy
    one, else after a delay. A frame is read when the one before has been emitted, so the server is
    slowed down to what Kafka takes.

    What the hooks `address`, `headers` and `on_connect` raise as aiohttp.ClientError, OSError or
    TimeoutError counts as an error of the upstream; anything else, and whatever
    `on_lost_connection` raises, fails the source.

    Attributes:
        options: as given, with defaults.
        websocket: the connection, while there is one.
    """

    def __init__(self, name: str, handler: MessageHandler, options: FeedOptions) -> None:
        super().__init__(name, handler)
        self.options = options
        self.expect_every = options.expect_every
        self.rate_limit = options.rate_limit
        self.websocket: Connection | None = None
        self._attempts = Attempts(options, self.vitals)
        self._reason = ""
        self._shown = ""
        self._has_control = False  # whether each frame is looked at by `_is_control`

    # --- hooks

    def open_session(self) -> aiohttp.ClientSession:
        """Return the session to connect with; called at each start, which closes it.

        For proxies, client certificates and the like.
        """
        # Without a limit of aiohttp's: connecting has one of its own, and then it shall last.
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))

    @abstractmethod
    async def address(self) -> str:
        """Return the URL to connect to; called before each attempt."""

    async def headers(self) -> Mapping[str, str]:
        """Return headers of the handshake beside those of the options, such as a fresh token.

        Called before each attempt.
        """
        return {}

    async def on_connect(self) -> None:
        """Do what a new connection needs before the subscriptions are sent.

        Called at each connection. `self.websocket` can `send`, and `receive` where an answer has to
        be awaited; all has to be done in `connect_seconds`.
        """

    async def on_lost_connection(self, reason: str) -> None:
        """Called when a connection is lost, after the event `disconnected` was emitted."""

    # --- what a family of feeds adds

    @abstractmethod
    async def _enter(self, connection: Connection) -> bytes:
        """Do what comes before messages, up to the subscriptions.

        Returns:
            What the server said about the connection.
        """

    @abstractmethod
    def _watchers(self, connection: Connection) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what runs beside a connection to find out that it is dead."""

    async def _is_control(self, raw: RawInput, connection: Connection) -> bool:
        """Deal with a frame that is about the connection and no data; say whether it is one."""
        return False

    def _delay_after(self, lost: ConnectionLost) -> float:
        """Return the seconds until the next attempt.

        Raises:
            CircuitOpen: the server is to be left alone.
        """
        if lost.was_healthy:
            self.vitals.failed(lost)
            return 0.0
        return self._attempts.failed(lost, lost.after_seconds)

    # --- connections

    async def start(self) -> None:
        """Follow the feed for ever.

        Raises:
            CircuitOpen: there were too many errors in a row.
            StateCorrupt: the stored position is that of another kind of source.
        """
        _ = self.place  # what is stored is refused before anything else
        # What it remembers of messages that were not durable when it failed would be missing.
        self._continuity = Continuity()
        self._reason = "the source was started anew"
        async with self.open_session() as session:
            while True:
                try:
                    await self._follow(session)
                except ConnectionLost as lost:
                    delay = self._delay_after(lost)
                    self.logger.warning(
                        "%s: %s; it connects again in %.1f s", self._shown, lost, delay
                    )
                    await self.clock.sleep(delay)

    async def _follow(self, session: aiohttp.ClientSession) -> None:
        """Connect, and emit what comes until the connection is lost."""
        connection = await self._connect(session)
        self.websocket = connection
        try:
            greeting = await self._in_time(self._enter(connection))
            self._attempts.connected()
            began = self.clock.monotonic()
            try:
                async with beside(self.name, *self._watchers(connection)):
                    await self._take_over(connection, greeting)
            except ConnectionLost as lost:
                lost.was_healthy = lost.was_healthy or self._was_healthy(began)
                self._reason = str(lost)
                await self._tell(DISCONNECTED, self._reason.encode())
                await self.on_lost_connection(self._reason)
                raise
            finally:
                if self._was_healthy(began):
                    self._attempts.recovered()
        finally:
            self.websocket = None
            await connection.close()

    async def _connect(self, session: aiohttp.ClientSession) -> Connection:
        async def made() -> Connection:
            url = await self.address()
            self._shown = origin_url(URL(url))
            headers = {**self.options.headers, **await self.headers()}
            return await connect(session, url, headers, self.options, self.clock)

        return await self._in_time(made())

    async def _in_time(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Await a part of connecting; its errors are those of the upstream."""
        seconds = self.options.connect_seconds
        try:
            async with asyncio.timeout(seconds) as patience:
                return await work
        except TROUBLE as error:
            if patience.expired():
                raise ConnectionLost(f"it was not ready in {seconds:g} s") from error
            raise ConnectionLost(f"{type(error).__name__}: {error}") from error

    def _was_healthy(self, began: float) -> bool:
        return self.clock.monotonic() - began >= self.options.healthy_seconds

    async def _tell(
        self, kind: str, data: bytes = b"", meta: Mapping[str, Any] | None = None
    ) -> None:
        """Receive what the source itself has to say: for `expect_every` no sign of life."""
        heard_at = self.heard_at
        await self.receive(RawInput(kind, data, self.clock.time(), dict(meta or {})))
        self.heard_at = heard_at

    # --- messages

    async def _take_over(self, connection: Connection, greeting: bytes) -> None:
        """Emit what a new connection brings, behind what was missed since the last one."""
        place = self.place
        before = {}
        if place is not None:
            before = {"at": place.at, "position": place.position, "reason": self._reason}
        await self._tell(CONNECTED, greeting, before)
        if self._continuity.gap is not None:
            await self._fill(connection)
        taken = 0
        while True:
            await self._take_live(await self._next(connection))
            taken += 1
            if taken % TURN_FRAMES == 0:
                await asyncio.sleep(0)

    async def _take_live(self, raw: RawInput) -> None:
        if self.rate_limit is not None:
            await self.pace()
        await self.receive(raw)

    async def _next(self, connection: Connection) -> RawInput:
        """Return the next frame with data."""
        while True:
            raw = await connection.read()
            if not (self._has_control and await self._is_control(raw, connection)):
                return raw

    async def _fill(self, connection: Connection) -> None:
        """Fill the gap, while live frames wait; then take these.

        Of a back-fill too long to be compared with they are dropped: the next one, which is short,
        has them.
        """

        async def read() -> RawInput:
            raw = await self._next(connection)
            self.heard()
            return raw

        held = Held()
        async with beside(self.name, held.collect(read)):
            is_filled = await self._backfill()
        if is_filled and not self._continuity.knows_overlap:
            again = ConnectionLost(
                "the back-fill was long; another one fetches what came meanwhile"
            )
            again.was_healthy = True
            raise held.lost or again
        while held.frames:
            await self._take_live(held.frames.popleft())
        if held.lost is not None:
            raise held.lost

    async def _backfill(self) -> bool:
        """Emit what the back-fill fetches; in the end the gap. Return whether it is filled."""
        options = self.options
        tries = Attempts(
            msgspec.structs.replace(options, exception_threshold=options.backfill_attempts),
            Vitals(),  # of the source's own attempts none is a back-fill
        )
        while (error := await self._try_backfill()) is not None:
            what = f"{type(error).__name__}: {error}"
            self.vitals.note(error)
            try:
                delay = tries.failed(error)
            except CircuitOpen:
                self.logger.error(  # noqa: TRY400 - the other one's traceback is of use
                    "the back-fill failed %d times, the gap stays: %s",
                    tries.failures,
                    what,
                    exc_info=error,
                )
                await self._tell(BACKFILLED, what.encode(), {"filled": False})
                return False
            self.logger.warning("the back-fill failed: %s; again in %.1f s", what, delay)
            self.heard()
            await self.clock.sleep(delay)
        return True

    async def _try_backfill(self) -> Exception | None:
        """Emit what the back-fill fetches, and the gap; return the error that ended it."""
        seconds = self.options.backfill_seconds
        items = aiter(self.backfill(self._continuity.rest()))
        try:
            is_last = False
            while not is_last:
                try:
                    part, is_last = await next_part(items, seconds, self._item)
                except Exception as error:  # noqa: BLE001 - the hook's, which is tried again
                    return error
                async with self.transaction():
                    for raw in part:
                        await self.receive(raw)
                    if is_last:
                        await self._tell(BACKFILLED, meta={"filled": True})
            return None
        finally:
            await close_iterator(items, seconds)

    def _item(self, item: Any) -> RawInput:
        self.heard()
        return item_of(item, self.clock.time())
