"""What a user may override of a `RestSource`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import aiohttp
from yarl import URL

from aiopype.emitter import MessageHandler
from aiopype.source import Source
from aiopype.sources.http import origin_url
from aiopype.sources.options import read_options
from aiopype.sources.rest_content import Rows, decode, elements
from aiopype.sources.rest_messages import Answer, Request
from aiopype.sources.rest_options import RestOptions

__all__ = ["RestHooks", "sort_of"]


class RestHooks(Source):
    """The part of `RestSource` that says what to ask for and what to make of an answer."""

    def __init__(
        self,
        name: str,
        handler: MessageHandler,
        url: str,
        options: Mapping[str, Any] | RestOptions | None,
    ) -> None:
        super().__init__(name, handler)
        self.url = url
        self.options = read_options(name, RestOptions, options)
        self.expect_every = self.options.expect_every or self.expect_every
        self.rate_limit = self.options.rate_limit or self.rate_limit
        self._logged: tuple[str, int | None] | None = None

    def open_session(self) -> aiohttp.ClientSession:
        """Return the session for one run of `start`, which closes it.

        Called once a start; for client certificates, proxies, another connector.
        """
        return aiohttp.ClientSession()

    async def authorize(self, request: Request) -> None:
        """Put into the request what it is allowed with, such as a token in its headers.

        Called before every request, those of further pages too, and once again with
        `was_refused` when the answer was 401: then get a new token. What it raises, and more than
        `answer_seconds`, is an error of the upstream.
        """

    def params_since(self, since: Any) -> Mapping[str, Any]:
        """Return the parameters that ask for what came after `since`.

        Called before the first page of each poll. What it raises ends `start`.

        Arguments:
            since: the last value of `since_of` that is durable; None before the first.
        """
        return {} if since is None else {"since": since}

    def parse(self, body: bytes, answer: Answer) -> Any:
        """Return what a body holds.

        Called once an answer that has one. When this or one of the next four raises, the answer
        cannot be used: it becomes a dead letter and counts as an error of the upstream.
        """
        return decode(self.options.content, body, answer)

    def items(self, data: Any) -> Iterable[Any]:
        """Return the parts of which an event is made each: `emit_item` gets them one by one."""
        if isinstance(data, Rows):
            return data
        return [data] if self.options.items is None else elements(data, self.options.items)

    def since_of(self, data: Any, since: Any) -> Any:
        """Return where the next poll begins, in JSON's types: the highest id, a time, a cursor.

        Called once a page. It becomes durable when the poll's events do.

        Arguments:
            since: what it returned for the page before, or in the last poll; None at the first.
        """
        return since

    def next_page(self, data: Any, answer: Answer) -> str | Mapping[str, Any] | None:
        """Return what asks for the page after this one; None if it is the last.

        Called once a page where the option `pages` is set.

        Returns:
            A URL, which may be relative; or parameters that are added to those of the first page.
        """
        if answer.link is None:
            return None
        here, there = URL(answer.url), URL(answer.link)
        if here.origin() != there.origin():
            raise ValueError(
                f"the next page is at {there.origin()}, and this one at {here.origin()}; override "
                "next_page() if what the source is authorized with may be sent there"
            )
        return answer.link

    def compared(self, data: Any) -> Any:
        """Return the part of an answer that matters to `changed_only`: without a time of its own.

        Called once an answer where that option is set.
        """
        return data

    async def emit_item(self, item: Any, answer: Answer) -> None:
        """Emit the events of an item, ten at most, here or under keys and names of your own.

        Called for each of `items`, in the transaction that holds the poll. An item for which it
        raises becomes a dead letter, and the others go on.
        """
        await self.emit_async("data", item, answer.time)

    async def error_handler(self, error: Exception) -> None:
        """Told of each error of the upstream, before the delay; what it raises ends `start`.

        A status is an `aiohttp.ClientResponseError` with `status` and `headers`. This one logs
        the first error, and each that is of another sort than the one before.
        """
        if (sort := sort_of(error)) != self._logged:
            self._logged = sort
            where, text = origin_url(URL(self.url)), " ".join(str(error).split())
            self.logger.warning(
                "%s %s: %s: %s; it is asked again, later each time",
                self.options.method, where, sort[0], text,
            )  # fmt: skip


def sort_of(error: Exception) -> tuple[str, int | None]:
    """Return what an error has in common with others of its sort."""
    return type(error).__name__, getattr(error, "status", None)
