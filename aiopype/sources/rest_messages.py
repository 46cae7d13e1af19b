"""What a `RestSource` asks, and what it is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

__all__ = ["Answer", "Request"]


@dataclass(slots=True, kw_only=True)
class Request:
    """A request that is about to be sent; `authorize` may change all of it.

    Attributes:
        method: GET, POST.
        url: where to; what `params` has is added to its query.
        params: the options', those of `params_since`, and those of `next_page`.
        headers: the options', and those that make it conditional.
        body: bytes, or None.
        page: which page of the poll it asks for, from 1 on.
        was_refused: whether the same request has just been answered with 401; what it was
            authorized with is of no use any more.
    """

    method: str
    url: str
    params: dict[str, Any]
    headers: dict[str, str]
    body: bytes | None = None
    page: int = 1
    was_refused: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came with a body; it is recorded with it.

    Attributes:
        url: where it came from, after redirects; without its query, which may hold secrets.
        status: from 200 to 299.
        headers: their names in small letters; without Set-Cookie.
        time: the server's time of it, as text (ISO 8601, UTC).
        page: which page of the poll it is, from 1 on.
        asked: a digest of what was asked, to which ETag and Last-Modified belong.
        link: the URL of the next page, where a `Link: rel=next` header gave one.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    time: str
    page: int = 1
    asked: str | None = None
    link: str | None = None

    @property
    def content_type(self) -> str:
        """The media type in small letters, without parameters; empty where there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str:
        """The charset of the Content-Type; UTF-8 where it says none."""
        _, _, parameters = self.headers.get("content-type", "").partition(";")
        for parameter in parameters.split(";"):
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                return value.strip().strip("\"'") or "utf-8"
        return "utf-8"
