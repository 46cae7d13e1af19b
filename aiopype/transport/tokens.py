"""The tokens that SASL's OAUTHBEARER logs in with.

aiokafka asks for one whenever it makes a connection. Brokers close a connection when its token has
expired; the next one asks again. So a token is never kept here, but where it says itself how long
it is good for (`token_endpoint`).
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from functools import reduce
from pathlib import Path
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.abc import AbstractTokenProvider

from aiopype.errors import ConfigurationError

__all__ = ["TokenUnavailable", "Tokens", "from_file", "from_function"]

#: For getting one.
TOKEN_SECONDS = 10.0

# RFC 6750, 2.1. Anything else would change the message that the token is sent in.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class TokenUnavailable(kafka_errors.KafkaError):  # type: ignore[misc] # aiokafka is untyped
    """There is no token; aiokafka treats it as a broker that cannot be reached, and tries again."""

    def __str__(self) -> str:
        """Return the text, without the class."""
        return str(self.args[0])


class Tokens(AbstractTokenProvider):  # type: ignore[misc] # the same
    """Gives aiokafka tokens.

    Arguments:
        fetch: returns one; it may raise anything.
        origin: where it is from, for errors.
        extensions: `name=value`, which go with each token.
    """

    def __init__(
        self, fetch: Callable[[], Awaitable[str]], origin: str, extensions: Iterable[str] = ()
    ) -> None:
        self._fetch = fetch
        self._origin = origin
        self._extensions = dict(each.split("=", 1) for each in extensions)

    async def token(self) -> str:
        """Return a token.

        Raises:
            TokenUnavailable: there is none within 10 s, or it has not the form of one; the text
                says from where and why, and not what it is.
        """
        try:
            async with asyncio.timeout(TOKEN_SECONDS):
                found = await self._fetch()
        except TimeoutError:
            raise TokenUnavailable(f"{self._origin}: no token within {TOKEN_SECONDS:g} s") from None
        except Exception as error:  # a user's function may raise anything
            text = str(error) or type(error).__name__
            raise TokenUnavailable(f"{self._origin}: {text}") from error
        if not isinstance(found, str):
            raise TokenUnavailable(f"{self._origin}: a {type(found).__name__} is no token")
        if not _TOKEN.fullmatch(found):
            raise TokenUnavailable(f"{self._origin}: what is there has not the form of a token")
        return found

    def extensions(self) -> dict[str, str]:
        """Return what goes with each token."""
        return self._extensions


def from_file(path: Path) -> Callable[[], Awaitable[str]]:
    """Return what reads a token from a file; white space around it does not count."""

    async def read() -> str:
        return (await asyncio.to_thread(path.read_text, "ascii")).strip()

    return read


def from_function(name: str) -> Callable[[], Awaitable[str]]:
    """Return what calls a user's function, in a thread if it is no coroutine function.

    Arguments:
        name: `module:function`; it takes no arguments and returns a token.

    Raises:
        ConfigurationError: it cannot be imported, or is no function.
    """
    module, _, path = name.partition(":")
    try:
        function: Any = reduce(getattr, path.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"sasl_token_provider {name!r}: {error}; name a function of a module that can be "
            "imported here"
        ) from error
    if not callable(function):
        raise ConfigurationError(f"sasl_token_provider {name!r}: {function!r} is no function")

    async def call() -> Any:
        found = await asyncio.to_thread(function)
        return await found if inspect.isawaitable(found) else found

    async def call_here() -> Any:
        return await function()

    return call_here if inspect.iscoroutinefunction(function) else call
