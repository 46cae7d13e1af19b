"""The protocol of Pusher's channels: its messages, as far as a client has to know them.

Version 7, https://pusher.com/docs/channels/library_auth_reference/pusher-websockets-protocol
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = [
    "AGAIN",
    "BUSY",
    "OTHER",
    "PING",
    "PONG",
    "PROTOCOL",
    "REFUSED",
    "Envelope",
    "is_closed",
    "is_own",
    "parsed",
    "public",
    "read_envelope",
]

PROTOCOL = 7

#: What the code of an error, or of a close frame, asks of the client; each range ends where the
#: next one begins: not to connect again as it is, after a delay, at once, and nothing at all.
REFUSED, BUSY, AGAIN, OTHER = 4000, 4100, 4200, 4300

PING = {"event": "pusher:ping", "data": {}}
PONG = {"event": "pusher:pong", "data": {}}


class Envelope(msgspec.Struct):
    """A frame."""

    event: str
    channel: str = ""
    data: Any = None


#: Reads a frame, or raises a msgspec.MsgspecError.
read_envelope = msgspec.json.Decoder(Envelope).decode


def is_closed(channel: str) -> bool:
    """Say whether a channel takes only clients that prove that they may."""
    return channel.startswith(("private-", "presence-"))


def is_own(event: str) -> bool:
    """Say whether an event is the protocol's, and none that an app sends."""
    return event.startswith(("pusher:", "pusher_internal:"))


def public(event: str) -> str:
    """Return an event's name as Pusher's clients have it."""
    return event.replace("pusher_internal:", "pusher:", 1)


def parsed(data: Any) -> Any:
    """Return data that are sent as a text with JSON in it; a text that has none stays one."""
    if not isinstance(data, str):
        return data
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        return data
