"""Where a source is, as it is stored."""

from __future__ import annotations

from typing import Any

import msgspec

from aiopype import models
from aiopype.errors import CodecError

__all__ = ["POSITION_BYTES", "decode_position", "encode_position"]

#: A position is written with every transaction, and read whole when a source moves.
POSITION_BYTES = 65_536


def encode_position(position: Any) -> bytes:
    """Return the JSON of a position.

    Raises:
        CodecError: it has none, or more than 64 KiB.
    """
    try:
        raw = msgspec.json.encode(position, enc_hook=models.as_plain)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CodecError(f"position {position!r:.200} has no JSON form: {error}") from error
    if len(raw) > POSITION_BYTES:
        raise CodecError(
            f"a position of {len(raw):,} bytes is larger than {POSITION_BYTES:,}; "
            "keep what leads back to the data, not the data"
        )
    return raw


def decode_position(raw: bytes | None) -> Any:
    """Return a position in JSON's types; None for none."""
    return None if raw is None else msgspec.json.decode(raw)
