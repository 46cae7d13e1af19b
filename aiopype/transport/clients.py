"""Connections that many producers share: a flow may have a thousand sources."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient
from mode import Service

from aiopype.transport.producer import CLOSE_SECONDS
from aiopype.transport.transactions import new_client

__all__ = ["Clients"]

logger = logging.getLogger(__name__)

#: A broker answers the requests of one connection one after the other. Four of them carry some
#: thousand transactions a second.
SIZE = 4


class Clients(Service):
    """A few connected clients, given out in turn.

    Arguments:
        brokers: `host:port,...`.
        security: from `connection_options`.
        topics: returns names of topics that a client learns of as it connects, all in one request;
            those that it meets later cost one each, with all that it has met before in it.
        size: how many there are at most; each is made when it is needed.
    """

    logger = logger
    mundane_level = "debug"

    def __init__(
        self,
        brokers: str,
        security: Mapping[str, Any] | None = None,
        topics: Callable[[], Iterable[str]] = tuple,
        size: int = SIZE,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._brokers = brokers
        self._security = security
        self._topics = topics
        self._size = size
        self._clients: list[AIOKafkaClient] = []
        self._given = 0
        self._connecting = asyncio.Lock()

    async def next(self) -> AIOKafkaClient:
        """Return a connected client; it belongs to all.

        Raises:
            KafkaError: no broker can be reached.
        """
        async with self._connecting:
            if len(self._clients) < self._size:
                client = new_client(self._brokers, self._security)
                try:
                    await client.bootstrap()
                    if topics := list(self._topics()):
                        await client.set_topics(topics)
                except BaseException:
                    await client.close()
                    raise
                self._clients.append(client)
        self._given += 1
        return self._clients[self._given % len(self._clients)]

    async def on_stop(self) -> None:
        """Disconnect, 5 seconds at most."""
        clients, self._clients = self._clients, []
        with contextlib.suppress(kafka_errors.KafkaError, TimeoutError, OSError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*(client.close() for client in clients))
