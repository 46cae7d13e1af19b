"""What a `RestSource` does with the network: a request, and an answer within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp

from aiopype.clock import Clock
from aiopype.errors import SourceError
from aiopype.inputs import RawInput
from aiopype.sources.http import (
    StatusError,
    gist,
    origin_url,
    read_body,
    retry_after,
    server_time,
)
from aiopype.sources.rest_messages import Request
from aiopype.sources.rest_options import RestOptions

__all__ = ["FAULTS", "RestClient"]

#: What an upstream that cannot be asked, or does not answer as it should, raises.
FAULTS = (aiohttp.ClientError, TimeoutError, OSError, ValueError, SourceError)

#: Those of aiohttp whose texts have the whole URL.
WITH_URLS = (
    aiohttp.ClientResponseError,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    TimeoutError,
)

#: Headers that make a request conditional.
CONDITIONS = frozenset({"If-None-Match", "If-Modified-Since"})

#: What to do about a status; the others are the upstream's own trouble.
_ADVICE = {
    400: "it does not understand the request; look at the options `params` and `body`",
    401: "it wants to know who asks; set the option `headers`, or override authorize()",
    403: "it does not allow that; look at the rights of what the source is authorized with",
    404: "there is nothing at this URL; look at the source's url",
    405: "it does not allow this method; look at the option `method`",
    406: "it has nothing like that; look at the Accept in the option `headers`",
    410: "what was there is gone for good; give the source another URL, or take it out",
    415: "it does not take such a body; look at the Content-Type in the option `headers`",
    422: "it does not understand the request; look at the options `params` and `body`",
    429: "it was asked too often; raise the option `request_interval`",
}

#: No content: there is nothing, and that is all right.
NOTHING = {204, 205}


class RestClient:
    """Sends requests.

    Arguments:
        session: what to send them with.
        options: say how long, how large and how many redirects.
        authorize: called before each request; None if there is nothing to authorize.
        clock: the time.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        options: RestOptions,
        authorize: Callable[[Request], Awaitable[None]] | None,
        clock: Clock,
    ) -> None:
        self._session = session
        self._options = options
        self._authorize = authorize
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(
            total=options.answer_seconds, connect=options.connect_seconds
        )

    async def ask(self, build: Callable[[], Request], asked: str | None) -> RawInput | None:
        """Send a request; once more when it was refused, with new authority.

        Arguments:
            build: makes the request, anew for each time.
            asked: what the answer notes of it.

        Returns:
            What came; None if it is what it was before (304).

        Raises:
            StatusError: the status is none that has something to use.
            SourceError: `authorize` raised.
            aiohttp.ClientError, TimeoutError, OSError, ValueError: no answer, or no whole one.
        """
        request = build()
        if self._authorize is None:
            return await self._send(request, asked)
        await self._let_authorize(request)
        try:
            return await self._send(request, asked)
        except StatusError as error:
            if error.status != 401:
                raise
        request = build()
        request.was_refused = True
        await self._let_authorize(request)
        return await self._send(request, asked)

    async def _let_authorize(self, request: Request) -> None:
        assert self._authorize is not None
        try:
            async with asyncio.timeout(self._options.answer_seconds):
                await self._authorize(request)
        except Exception as error:
            raise SourceError(f"authorize(): {type(error).__name__}: {error}") from error

    async def _send(self, request: Request, asked: str | None) -> RawInput | None:
        options = self._options
        try:
            async with self._session.request(
                request.method,
                request.url,
                params=_query(request.params),
                headers=request.headers,
                data=request.body,
                timeout=self._timeout,
                allow_redirects=options.redirects > 0,
                max_redirects=options.redirects + 1,
            ) as response:
                if response.status == 304 and not CONDITIONS.isdisjoint(request.headers):
                    return None
                if not 200 <= response.status < 300:
                    raise await self._refusal(response)
                return await self._whole(request, response, asked)
        except StatusError:
            raise
        except WITH_URLS as error:
            # From None: what is secret may stand in a URL's query, and would in the log.
            raise self._without_url(error) from None

    def _without_url(self, error: Exception) -> Exception:
        options = self._options
        match error:
            case aiohttp.TooManyRedirects():
                text = f"more than {options.redirects} redirects, the option `redirects`"
                return StatusError(error.history[-1], text)
            case aiohttp.ClientResponseError():
                return aiohttp.ClientError(f"what came is no HTTP: {error.message}")
            case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
                where = str(error).partition("?")[0]
                return aiohttp.ClientError(f"the way leads to {where!r}, which cannot be asked")
            case aiohttp.ConnectionTimeoutError():
                seconds = options.connect_seconds
                return TimeoutError(f"no connection in {seconds:g} s, the option `connect_seconds`")
        seconds = options.answer_seconds
        return TimeoutError(f"no whole answer in {seconds:g} s, the option `answer_seconds`")

    async def _whole(
        self, request: Request, response: aiohttp.ClientResponse, asked: str | None
    ) -> RawInput:
        is_nothing = response.status in NOTHING
        body = b"" if is_nothing else await read_body(response, self._options.answer_bytes)
        now = self._clock.time()
        headers = _plain(response)
        meta: dict[str, Any] = {
            "url": origin_url(response.url),
            "status": response.status,
            "headers": headers,
            "time": server_time(response.headers, now),
            "page": request.page,
        }
        if asked is not None:
            meta["asked"] = asked
        if self._options.pages is not None and (link := response.links.get("next")):
            meta["link"] = str(link["url"])
        return RawInput("response", body, now, meta)

    async def _refusal(self, response: aiohttp.ClientResponse) -> StatusError:
        status = response.status
        advice = _ADVICE.get(status, "")
        if status == 401 and self._authorize is not None:
            advice = "it does not take what authorize() gave, not at the second try either"
        elif status < 400:
            advice = "a redirect that is not followed; look at the option `redirects`"
        said = await gist(response)
        text = "; ".join(filter(None, (response.reason, advice, said and f"it says: {said}")))
        after = retry_after(response.headers, self._clock.time())
        return StatusError(response, text, min(after, self._options.retry_after_seconds))


def _plain(response: aiohttp.ClientResponse) -> dict[str, str]:
    headers: dict[str, str] = {}
    for given, value in response.headers.items():
        if (name := given.lower()) != "set-cookie":
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _query(params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return parameters as aiohttp takes them; those that are None are left out."""
    if not params:
        return None
    return {name: _value(value) for name, value in params.items() if value is not None}


def _value(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return [_value(one) for one in value]
    return value if isinstance(value, str | int | float) else str(value)
