"""What sources that speak HTTP need of an answer: its body within a bound, and its times."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

import aiohttp
from yarl import URL

__all__ = [
    "StatusError",
    "TooLarge",
    "gist",
    "origin_url",
    "read_body",
    "retry_after",
    "server_time",
]

#: Of the body of an error so much is read and told: there the upstream says what is wrong.
GIST_BYTES = 300


class StatusError(aiohttp.ClientResponseError):
    """An answer whose status says that there is nothing to use.

    Its text has no query and no password: those hold what must not get into a log.

    Attributes:
        status, headers, request_info, history: as of every ClientResponseError.
        text: what is wrong, and what to do.
        retry_after: the seconds that the upstream wants to be left alone; 0 if it does not say.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, text: str, retry_after: float = 0.0
    ) -> None:
        super().__init__(
            response.request_info,
            response.history,
            status=response.status,
            message=text,
            headers=response.headers,
        )
        self.text = text
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"status {self.status}: {self.text}"


class TooLarge(ValueError):
    """An answer is larger than it may be."""


async def read_body(response: aiohttp.ClientResponse, largest: int) -> bytes:
    """Return the body of an answer.

    Arguments:
        largest: bytes, unpacked where it was sent packed; when there are more, nothing more is
            read and the connection is closed. Memory holds `largest` and some 100 KiB.

    Raises:
        TooLarge: there are more.
        aiohttp.ClientError: it broke off.
        TimeoutError: the time of the request is over.
    """
    content = response.content
    size = response.content_length or 0
    parts: list[bytes] = []
    if size <= largest:
        size = 0
        while part := await content.readany():
            size += len(part)
            if size > largest:
                break
            parts.append(part)
        else:
            return parts[0] if len(parts) == 1 else b"".join(parts)
    response.close()
    raise TooLarge(f"the answer is larger than {largest:,} bytes, the option `answer_bytes`")


async def gist(response: aiohttp.ClientResponse) -> str:
    """Return how the body of an error begins, as one line; empty where it cannot be read."""
    try:
        raw = await response.content.read(GIST_BYTES)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return ""
    return " ".join(raw.decode("utf-8", "replace").split())


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """Return the seconds that `Retry-After` asks for; 0 if it does not, or makes no sense.

    It may be seconds or a date (RFC 9110, 10.2.3). A date is compared with that of the answer, so
    that a clock that is wrong on one side does no harm.

    Arguments:
        headers: of the answer; a mapping that does not tell cases apart.
        now: seconds since 1970, where the answer has no date.
    """
    value = headers.get("Retry-After", "")
    try:
        seconds = float(value)
    except ValueError:
        moment = _moment(value)
        seconds = 0.0 if moment is None else moment.timestamp() - _sent(headers, now)
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def server_time(headers: Mapping[str, str], now: float) -> str:
    """Return the server's time of an answer as text (ISO 8601, UTC), from its `Date` header.

    Arguments:
        headers: of the answer; a mapping that does not tell cases apart.
        now: seconds since 1970, where there is no such header or it makes no sense.
    """
    return _iso(headers.get("Date", "")) or datetime.fromtimestamp(now, UTC).isoformat()


def origin_url(url: URL) -> str:
    """Return a URL without what may be secret: user, password, query and fragment."""
    if url.absolute and (url.raw_user is not None or url.raw_password is not None):
        url = url.with_user(None)
    return str(url.with_query(None).with_fragment(None))


def _sent(headers: Mapping[str, str], now: float) -> float:
    moment = _moment(headers.get("Date", ""))
    return now if moment is None else moment.timestamp()


@lru_cache(maxsize=64)
def _iso(date: str) -> str | None:
    # To read a date takes 9 us, and it is the same for all answers of a second.
    moment = _moment(date)
    return None if moment is None else moment.isoformat()


def _moment(date: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(date)
        # Without a zone it is none of HTTP's, and what it means is anybody's guess: UTC.
        return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
