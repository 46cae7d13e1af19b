"""Tokens from an OpenID Connect provider: OAuth's client credentials (RFC 6749, 4.4)."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from urllib.parse import quote_plus

import aiohttp
import msgspec

from aiopype.errors import BrokerError

__all__ = ["Credentials", "Endpoint"]

logger = logging.getLogger(__name__)

#: Of a token's life it is given out for; the rest is for an endpoint that is down meanwhile.
GOOD_FOR = 0.8

#: The life of a token of which the endpoint does not say how long it is.
UNKNOWN_SECONDS = 60.0

#: After a failure the endpoint is left alone for so long: a worker makes hundreds of connections.
PAUSE_SECONDS = 1.0

#: For the answer; less than what `Tokens` waits, so that its reason is told.
ANSWER_SECONDS = 8.0

#: Tokens are a few kB at most.
ANSWER_BYTES = 1_000_000


class Credentials(msgspec.Struct, frozen=True):
    """Who asks for a token.

    Attributes:
        client: its id.
        secret: its secret.
        scope: what it asks for; None is what the endpoint takes for granted.
    """

    client: str
    secret: str
    scope: str | None = None

    def __repr__(self) -> str:
        """Return a text without the secret."""
        return f"Credentials({self.client!r})"


class _Answer(msgspec.Struct):
    access_token: str = ""
    expires_in: float | None = None
    error: str = ""
    error_description: str = ""


class Endpoint:
    """Asks for a token when the one it has is near its end; one request for all who wait.

    Arguments:
        url: of the token endpoint.
        credentials: who asks.
        context: whose certificates are trusted; the system's if not given.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        url: str,
        credentials: Credentials,
        context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._credentials = credentials
        self._context = context
        self._clock = clock
        self._asking = asyncio.Lock()
        self._token = ""
        self._good_until = self._lives_until = self._pause_until = -float("inf")
        self._failure = ""

    async def fetch(self) -> str:
        """Return a token, whose life has at least a fifth to go unless the endpoint is down.

        Raises:
            BrokerError: the endpoint gives none; the text has its reason.
        """
        async with self._asking:
            now = self._clock()
            if now < self._good_until:
                return self._token
            try:
                if now < self._pause_until:
                    raise BrokerError(self._failure)
                answer = await self._ask()
            except BrokerError as error:
                return self._old_one(now, str(error))
        life = UNKNOWN_SECONDS if answer.expires_in is None else answer.expires_in
        self._token = answer.access_token
        self._good_until, self._lives_until = now + GOOD_FOR * life, now + life
        return self._token

    def _old_one(self, now: float, failure: str) -> str:
        fresh = now >= self._pause_until
        if fresh:
            self._failure, self._pause_until = failure, now + PAUSE_SECONDS
        if now >= self._lives_until:
            raise BrokerError(failure)
        if fresh:
            logger.warning(
                "the old token is used for %.0f s yet: %s", self._lives_until - now, failure
            )
        return self._token

    async def _ask(self) -> _Answer:
        who = self._credentials
        form = {"grant_type": "client_credentials"}
        if who.scope is not None:
            form["scope"] = who.scope
        # RFC 6749, 2.3.1: both are encoded as in a form before they are a login.
        login = aiohttp.encode_basic_auth(quote_plus(who.client), quote_plus(who.secret))
        try:
            async with (
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS)
                ) as session,
                session.post(
                    self._url,
                    data=form,
                    allow_redirects=False,
                    headers={"Accept": "application/json", "Authorization": login},
                    ssl=self._context or True,
                ) as response,
            ):
                return self._read(response.status, await _body(response))
        except TimeoutError:
            raise BrokerError(f"no answer within {ANSWER_SECONDS:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise BrokerError(str(error) or type(error).__name__) from None

    def _read(self, status: int, body: bytes) -> _Answer:
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except msgspec.MsgspecError:  # an error page, or another kind of server
            answer = _Answer()
        if status == 200 and answer.access_token:
            return answer
        told = " ".join(filter(None, (answer.error, answer.error_description)))[:300]
        told = told.replace(self._credentials.secret, "****")
        raise BrokerError(f"status {status}, {told or 'and no token'}")


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        if len(body) > ANSWER_BYTES:
            raise BrokerError(f"more than {ANSWER_BYTES:,} bytes, which is no token")
    return bytes(body)
