"""What a source got from outside, as it came: the thing to record, and to play again."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["RawInput"]


class RawInput(msgspec.Struct, frozen=True):
    """One thing that came from outside.

    Attributes:
        kind: what it is, in a word of the source's own: `response`, `frame`, `tick`.
        data: the bytes, as they came.
        at: when, in seconds since 1970.
        meta: what else the source needs to make its events of it, in JSON's types.
    """

    kind: str
    data: bytes
    at: float
    meta: dict[str, Any] = {}
