"""What becomes of the raw inputs of a feed: its events. Nothing here talks to the outside."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import msgspec

from aiopype.emitter import MessageHandler
from aiopype.errors import CodecError, OutputTooLarge
from aiopype.event import Key
from aiopype.inputs import RawInput
from aiopype.source import Source
from aiopype.sources.connections import BINARY
from aiopype.sources.gaps import Continuity, Gap, Place, place_of

__all__ = ["BACKFILLED", "CONNECTED", "DISCONNECTED", "FeedEvents", "item_of"]

#: Kinds of raw inputs, beside `frame`: a connection, with what was before it in `meta`; its loss,
#: with the reason in `data`; an item of a back-fill; the end of a back-fill.
CONNECTED, DISCONNECTED = "connected", "disconnected"
BACKFILL, BACKFILLED = "backfill", "backfilled"

#: The `meta` of a message of a back-fill that is parsed already.
PARSED = {"parsed": True}

_decode = msgspec.json.Decoder().decode


class FeedEvents(Source):
    """Emits the messages of a feed, and what is to be said of its connections and gaps.

    With each message the place of the feed is stored: when it came, and its position.

    What the hooks `parse`, `position_of` and `key_of` raise makes a dead letter of the frame, and
    so does a message that its topic does not take; the source goes on.
    """

    events: ClassVar[tuple[str, ...]] = ("connected", "message", "disconnected", "gap")

    #: The `publish` of the family, which emits one event.
    _publish_one: ClassVar[Any]

    def __init__(self, name: str, handler: MessageHandler) -> None:
        super().__init__(name, handler)
        self._continuity = Continuity()
        cls = type(self)
        self._fills = cls.backfill is not FeedEvents.backfill
        self._tells_position = cls.position_of is not FeedEvents.position_of
        self._is_json = cls.parse is FeedEvents.parse
        self._emits_one = cls.publish is cls._publish_one

    @property
    def place(self) -> Place | None:
        """Where the feed is: when the last message came, and its position; None before the first.

        Raises:
            StateCorrupt: the stored position is that of another kind of source.
        """
        return place_of(self.name, self.position)

    # --- hooks

    def parse(self, frame: str | bytes) -> Any:
        """Return the message of a text (str) or binary (bytes) frame; None if it is none.

        As it is here it reads JSON from both.
        """
        return _decode(frame)

    def position_of(self, message: Any) -> Any:
        """Return what tells a message apart and where it is in the feed: a number, an id.

        In JSON's types, and small: it is stored with every event. None: this one has none.
        """
        return None

    def key_of(self, message: Any) -> Key | None:
        """Return the key of a message's event: messages of one key keep their order."""
        return None

    @abstractmethod
    async def publish(self, message: Any, key: Key | None) -> None:
        """Emit what becomes of a message; what it emits is durable as a whole, or not at all.

        What it raises fails the source.
        """

    def backfill(self, gap: Gap) -> AsyncIterator[Any]:
        """Fetch what came in a gap; an async generator that a subclass may add.

            async def backfill(self, gap):
                async for trade in self.api.trades(after=gap.position):
                    yield trade

        Called when the source is connected again, and has sent its subscriptions. It yields texts
        or bytes, which `parse` gets as if they were frames, or messages as `parse` returns them, in
        JSON's types. Live messages follow those it yields. It may yield some that were emitted
        before, or come live as well: where `position_of` tells messages apart they are dropped.

        What it raises, or an item that does not come in `backfill_seconds`, is logged; it is called
        again after a delay, with `gap.position` behind what has been emitted meanwhile. After
        `backfill_attempts` errors the gap is emitted as not filled, and live messages go on.
        """
        raise NotImplementedError

    # --- events

    async def take(self, raw: RawInput) -> None:
        """Emit the events of a raw input."""
        match raw.kind:
            case "frame":
                await self._take_message(raw, in_part=False)
            case "backfill":
                await self._take_message(raw, in_part=True)
            case "backfilled":
                await self._take_end_of_gap(raw.meta["filled"], raw.at)
            case "connected":
                await self._take_connection(raw)
            case "disconnected":
                await self.emit_async("disconnected", raw.data.decode())
            case _:
                await super().take(raw)

    async def _take_message(self, raw: RawInput, *, in_part: bool) -> None:
        continuity = self._continuity
        try:
            message = self._message_of(raw)
            if message is None:
                return
            if self._tells_position and not continuity.is_new(self.position_of(message), raw.at):
                return
            key = self.key_of(message)
        except Exception as error:  # noqa: BLE001 - hooks that see what others sent
            await self.reject(raw, error)
            return
        place = continuity.place(raw.at)
        try:
            if in_part or self._emits_one:
                self.checkpoint(place)
                await self.publish(message, key)
            else:
                async with self.transaction():
                    self.checkpoint(place)
                    await self.publish(message, key)
        except (CodecError, OutputTooLarge) as error:
            await self.reject(raw, error)
        else:
            continuity.messages += in_part

    def _message_of(self, raw: RawInput) -> Any:
        meta = raw.meta
        if meta.get("parsed"):
            return self._restored(_decode(raw.data))
        if self._is_json:
            return _decode(raw.data)
        return self.parse(raw.data if meta else raw.data.decode())

    def _restored(self, data: Any) -> Any:
        """Return a message of a back-fill as `parse` would, from its JSON."""
        return data

    async def _take_connection(self, raw: RawInput) -> None:
        continuity, meta = self._continuity, raw.meta
        start = meta.get("at")
        if start is None:
            self.checkpoint(continuity.place(raw.at))
            await self.emit_async("connected")
            return
        end = max(raw.at, start)  # the clock may have been set back
        continuity.open(Gap(start, end, meta.get("position"), meta.get("reason", "")))
        await self.emit_async("connected")
        if not self._fills:
            await self._take_end_of_gap(filled=False, at=raw.at)

    async def _take_end_of_gap(self, filled: bool, at: float) -> None:
        if self._continuity.gap is None:
            return  # a recording that was begun in the middle
        gap = self._continuity.close(filled=filled, at=at)
        self.checkpoint(self._continuity.place(gap.end))
        await self.emit_async("gap", gap)


def item_of(item: Any, at: float) -> RawInput:
    """Return the raw input of an item of a back-fill: a text, bytes, or a parsed message."""
    if isinstance(item, str):
        return RawInput(BACKFILL, item.encode(), at)
    if isinstance(item, bytes):
        return RawInput(BACKFILL, item, at, BINARY)
    return RawInput(BACKFILL, msgspec.json.encode(item), at, PARSED)
