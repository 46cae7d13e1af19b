"""A source that is a Kafka topic of somebody else's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NoReturn, cast

from aiopype import foreign
from aiopype.emitter import MessageHandler
from aiopype.errors import EmitError
from aiopype.event import Key
from aiopype.source import Source
from aiopype.sources.options import SourceOptions, read_options
from aiopype.topics import Foreign

__all__ = ["TopicOptions", "TopicSource"]

MESSAGE = "message"


class TopicOptions(SourceOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be said of a TopicSource. What is said of every source means nothing here: no
    upstream is asked.

    Attributes:
        content: what the records' values are: `json`, `text` in UTF-8, or `bytes`.
        begin: where the flow begins when its group has no position in a partition yet, with the
            `earliest` record there is or behind the `latest`.
        wait: whether a worker waits at its start for a topic that does not exist; else it ends
            with an error.
    """

    content: Literal["json", "text", "bytes"] = "json"
    begin: Literal["earliest", "latest"] = "earliest"
    wait: bool = False


class TopicSource(Source):
    """Makes the records of an existing topic events of the flow.

    Emits `message(value)`: one argument, whatever the value is; None for a record without one. A
    handler with an annotation gets what it says. What cannot be decoded is a dead letter.

    It has no `start` and no owner: the flow's own group reads the topic, its partitions are spread
    over all workers, and subscriptions to it have the guarantees of any other. The topic is neither
    made nor altered nor written. A key stays the key of what is emitted, and decides its partition
    as Kafka's clients do.

    In process (`Flow`, SyncProtocol) nobody reads the topic; `await source.feed(value)` stands for
    a record of it.

    Arguments:
        name, handler: as for every component.
        topic: its name; a namespace of the flow does not go in front. One source a topic.
        options: see `TopicOptions`.

    Raises:
        ConfigurationError: an option is unknown or makes no sense.
        GraphError: no topic can have this name.
    """

    is_owned: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        handler: MessageHandler,
        topic: str,
        options: Mapping[str, Any] | TopicOptions | None = None,
    ) -> None:
        super().__init__(name, handler)
        self.options = read_options(name, TopicOptions, options)
        self.topic = topic
        self._topic = handler.topic(name, MESSAGE)
        self._topic.become(
            Foreign(topic, self.options.content, self.options.begin, self.options.wait)
        )

    async def feed(self, value: Any, key: Key | None = None) -> None:
        """Handle a record as if it came from the topic; in process only, for tests.

        Arguments:
            value: what the record holds; None for a record without a value; bytes are the value as
                it is in the topic, such as `b"{broken"`.
            key: of the record.

        Raises:
            CodecError: the value has no form in the source's content.
            EmitError: the flow runs on Kafka, where the topic is only read.
        """
        raw = None if value is None else foreign.encode(value, self.options.content)
        await self.handler.emit_async(self._topic, key, cast("bytes", raw))

    def emit(self, event: str, /, *args: Any, key: Key | None = None, **kwargs: Any) -> None:
        """Refuse to emit `message`: the topic is only read."""
        if event == MESSAGE:
            self._refuse()
        super().emit(event, *args, key=key, **kwargs)

    async def emit_async(
        self, event: str, /, *args: Any, key: Key | None = None, **kwargs: Any
    ) -> None:
        """Refuse to emit `message`: the topic is only read."""
        if event == MESSAGE:
            self._refuse()
        await super().emit_async(event, *args, key=key, **kwargs)

    def _refuse(self) -> NoReturn:
        raise EmitError(
            f"{self.name!r} reads the topic {self.topic!r} and never writes it; in process "
            "`await source.feed(value)` stands for a record"
        )
