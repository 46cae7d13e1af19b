"""Durations and sizes as people write them."""

from __future__ import annotations

import re

__all__ = ["milliseconds", "octets"]

_SECOND = 1_000
_DURATIONS = {
    "ms": 1,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3_600 * _SECOND,
    "d": 86_400 * _SECOND,
    "w": 7 * 86_400 * _SECOND,
}
_SIZES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}

#: Kafka's sign for no limit.
_NO_LIMIT = -1


def milliseconds(text: str) -> int:
    """Return a duration such as `7d`, `12h` or `30m` in milliseconds; `forever` is -1.

    Raises:
        ValueError: it is none; the text says how to write one.
    """
    return _NO_LIMIT if text == "forever" else _product(text, _DURATIONS, "forever")


def octets(text: str) -> int:
    """Return a size such as `1 GiB` or `500 MB` in bytes; `unlimited` is -1.

    Raises:
        ValueError: it is none; the text says how to write one.
    """
    return _NO_LIMIT if text == "unlimited" else _product(text, _SIZES, "unlimited")


def _product(text: str, units: dict[str, int], word: str) -> int:
    match = re.fullmatch(r"([0-9]+) ?([a-zA-Z]+)", text)
    if match is None or match[2] not in units:
        raise ValueError(f"write a whole number and one of {', '.join(units)}, or {word}")
    return int(match[1]) * units[match[2]]
