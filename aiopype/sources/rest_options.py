"""The options of `RestSource`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from aiopype.sources.options import Count, Seconds, SourceOptions

__all__ = ["Content", "RestOptions"]

#: What an answer can be read as.
Content = Literal["json", "lines", "csv", "text", "bytes"]

#: A value of the query; those of a list become one parameter each.
_Parameter = str | int | float | bool | list[str | int | float | bool]


class RestOptions(SourceOptions, frozen=True, kw_only=True):
    """What can be said of a `RestSource`, beside what can be said of every source.

    Attributes:
        request_interval: seconds between the starts of two polls. After one that took longer the
            next follows at once, and the rhythm goes on from there.
        method: of the request.
        headers: to send with each request.
        params: to add to the URL's query.
        json: what to send as the body of each request, in JSON.
        body: a text to send as the body, in place of `json`.
        content: what the answer is: `json`; `lines`, a JSON value each; `csv` with a header;
            `text`; or `bytes`, which handlers get in base64. None: as its Content-Type says, JSON
            where that says little.
        items: the way to a list in the JSON, as in `result.quotes`; each of its elements becomes
            an event. An empty text: the JSON itself is the list. None: it is one event.
        pages: how many pages a poll asks for at most, one after the other; None: there are none.
        conditional: whether a server that gave an answer an ETag or a Last-Modified is asked for
            it only if it is another one now; an answer that is the same is no event then.
        changed_only: whether an answer that is equal to the last one is no event.
        connect_seconds: for a connection to be there.
        answer_seconds: for the whole answer to be there, from the beginning of its request.
        answer_bytes: the largest answer; of a larger one no more is read.
        redirects: how many are followed, one after the other.
        retry_after_seconds: the longest wait that an upstream may ask for with `Retry-After`.
    """

    request_interval: Seconds = 30.0
    method: Annotated[str, msgspec.Meta(pattern="^[A-Z]+$")] = "GET"
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    params: dict[str, _Parameter] = msgspec.field(default_factory=dict)
    json: Any = None
    body: str | None = None
    content: Content | None = None
    items: str | None = None
    pages: Annotated[int, msgspec.Meta(ge=1, le=1_000)] | None = None
    conditional: bool = True
    changed_only: bool = False
    connect_seconds: Seconds = 10.0
    answer_seconds: Seconds = 30.0
    answer_bytes: Count = 16 * 1024 * 1024
    redirects: Annotated[int, msgspec.Meta(ge=0)] = 5
    retry_after_seconds: Seconds = 3_600.0
