"""The work that every pipeline does, and what must come out of it.

A quote as JSON (about 300 bytes) becomes a price event, the price event becomes a row. What is not
here is how a pipeline reads and writes Kafka: that is what is compared.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

__all__ = ["KEYS", "PARTITIONS", "Job", "broken", "key", "lines", "parse", "quote", "row"]

PARTITIONS = 4
KEYS = 64

_START = datetime(2016, 7, 1, 20, tzinfo=UTC)


@dataclass(frozen=True)
class Job:
    """What a pipeline has to know: where the broker is and how its topics are called."""

    broker: str
    """`host:port`."""
    name: str
    """Of this run: consumer group, application id or manager, whatever the pipeline calls it."""
    guarantee: str = "at_least_once"
    """`at_least_once` or `exactly_once`, for pipelines that have the choice."""

    @property
    def raw(self) -> str:
        """The topic of quotes, complete before the pipeline starts."""
        return f"{self.name}.source.raw"

    @property
    def price(self) -> str:
        """The topic of price events."""
        return f"{self.name}.parse.price"

    @property
    def out(self) -> str:
        """The topic of rows."""
        return f"{self.name}.row.row"

    def environ(self) -> dict[str, str]:
        """The environment variables that tell a pipeline its job."""
        return {
            "BENCH_BROKER": self.broker,
            "BENCH_NAME": self.name,
            "BENCH_GUARANTEE": self.guarantee,
        }

    @classmethod
    def from_environ(cls) -> Job:
        """The job of this process."""
        return cls(*(os.environ[f"BENCH_{name}"] for name in ("BROKER", "NAME", "GUARANTEE")))


def parse(quote: dict[str, Any]) -> dict[str, Any]:
    """The first step: a price event from a quote."""
    fields = quote["list"]["resources"][0]["resource"]["fields"]
    return {
        "time": fields["utctime"],
        "price": float(fields["price"]),
        "symbol": fields["symbol"],
    }


def row(price: dict[str, Any]) -> dict[str, str]:
    """The second step: a row from a price event."""
    return {"line": f"{price['time']},{price['symbol']},{price['price']:.2f}"}


def key(index: int) -> bytes:
    """The key of an event; each key is in one partition, so the order of its events is known."""
    return str(index % KEYS).encode()


def quote(index: int, utctime: str | None = None) -> bytes:
    """The input event of this index: like a quote of Yahoo's old API, a second after the last."""
    time = _START + timedelta(seconds=index)
    return _QUOTE % (
        _price(index).encode(),
        int(time.timestamp()),
        (utctime or _utctime(time)).encode(),
    )


def broken(quote: bytes) -> bytes:
    """A quote at which `parse` raises: its price is no number."""
    return quote.replace(b'"price": "', b'"price": "none ')


@cache
def lines(count: int) -> dict[str, int]:
    """The rows that so many events must give, each with its event's index; no two are alike."""
    return {
        f"{_utctime(_START + timedelta(seconds=i))},AAPL,{float(_price(i)):.2f}": i
        for i in range(count)
    }


def _price(index: int) -> str:
    return f"{90 + index % 1000 / 100:.6f}"


def _utctime(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+0000")


# A template: json.dumps for each event would take longer than sending it.
_FIELDS = {
    "name": "Apple Inc.",
    "price": "%s",
    "symbol": "AAPL",
    "ts": "%d",
    "type": "equity",
    "utctime": "%s",
    "volume": "25872909",
}
_QUOTE = json.dumps(
    {
        "list": {
            "meta": {"type": "resource-list", "start": 0, "count": 1},
            "resources": [{"resource": {"classname": "Quote", "fields": _FIELDS}}],
        }
    }
).encode()
