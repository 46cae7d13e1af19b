"""The options that all sources which follow a websocket have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from aiopype.sources.options import Count, Seconds, SourceOptions

__all__ = ["FeedOptions", "merge"]


class FeedOptions(SourceOptions, frozen=True, kw_only=True):
    """What can be said of every feed, beside what can be said of every source.

    Attributes:
        headers: of the handshake.
        subprotocols: those to offer, the best first.
        connect_seconds: for the handshake; and again for what follows it, until the subscriptions
            have been sent.
        heartbeat_timeout: seconds for the answer to a ping or heartbeat, and for the other side to
            take what is sent; after that the connection is dead. A message that is on its way for
            longer delays the answer: it needs more.
        largest_bytes: a larger message ends the connection; the source connects again.
        compression: whether to offer it (permessage-deflate): it costs both sides time.
        healthy_seconds: a connection that ends sooner is an error; one that lasts longer begins the
            count of errors anew.
        backfill_attempts: errors of a back-fill after which its gap stays as it is.
        backfill_seconds: for the next item of a back-fill to come.
    """

    headers: dict[str, str] = msgspec.field(default_factory=dict)
    subprotocols: tuple[str, ...] = ()
    connect_seconds: Seconds = 10.0
    heartbeat_timeout: Seconds = 10.0
    largest_bytes: Count = 4 * 1024 * 1024
    compression: bool = False
    healthy_seconds: Seconds = 10.0
    backfill_attempts: Count = 5
    backfill_seconds: Seconds = 60.0


_Options = TypeVar("_Options", bound=FeedOptions)


def merge(
    options: Mapping[str, Any] | _Options | None, named: Mapping[str, Any]
) -> Mapping[str, Any] | _Options | None:
    """Return options, with those beside them that were given by name."""
    if not named:
        return options
    if isinstance(options, FeedOptions):
        options = msgspec.structs.asdict(options)
    return {**(options or {}), **named}
