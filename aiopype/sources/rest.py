"""A source that polls a REST API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from yarl import URL

from aiopype import models
from aiopype.emitter import MessageHandler, current_outbox
from aiopype.errors import AiopypeError, CodecError, OutputTooLarge
from aiopype.inputs import RawInput
from aiopype.sources.attempts import Attempts
from aiopype.sources.http import StatusError
from aiopype.sources.rest_client import FAULTS, NOTHING, RestClient
from aiopype.sources.rest_content import Rows
from aiopype.sources.rest_hooks import RestHooks, sort_of
from aiopype.sources.rest_messages import Answer
from aiopype.sources.rest_options import RestOptions
from aiopype.sources.rest_poll import Next, Page, Place, Poll, digest, digest_of
from aiopype.sources.rest_requests import Requests, checked_url

__all__ = ["RestSource"]

#: The URL of a page is kept in the position while its poll is under way.
URL_LENGTH = 8_192

#: Refusals that say nothing of the page: it may be asked for again.
PASSING = {401, 403, 408, 425, 429}


class RestSource(RestHooks):
    """Asks a URL again and again and emits what it answers.

    Emits `data(json, time)` for each answer: what it holds, and the server's time of it as text
    (ISO 8601, UTC; from its `Date` header, or this worker's clock where it sends none). Of answers
    in JSON lines or CSV, and of a list that the option `items` leads to, each element is an event.

    An answer that is known already is no event: one that the server says is the same (304; see
    the option `conditional`), and with `changed_only` one that is equal to the last. Where the
    source is (`since_of`, ETag, digests) becomes durable with the events of the poll, all its pages
    together: after a crash, on whichever worker, nothing is lost and nothing comes twice.

    An error of the upstream is told to `error_handler`, and the request comes again after a delay
    that doubles with each error in a row, or that `Retry-After` asks for; `exception_threshold` of
    them open the circuit. Errors are: no connection, no whole answer in time, a status that is
    none from 200 to 299, an answer that is too large or broken off, and one that cannot be read; of
    the last there is a dead letter too. The position does not move.

    Arguments:
        name, handler: as for every component.
        url: what to ask; a subclass may set it as late as in `start`.
        options: a `RestOptions`, or a mapping of some of its fields.

    Raises:
        ConfigurationError: an option is unknown, or its value makes no sense.
    """

    events = ("data",)

    def __init__(
        self,
        name: str,
        handler: MessageHandler,
        url: str,
        options: Mapping[str, Any] | RestOptions | None = None,
    ) -> None:
        super().__init__(name, handler, url, options)
        self._requests = Requests(name, self.options)
        self._attempts = Attempts(self.options, self.vitals)
        self._poll: Poll | None = None
        self._unusable: Exception | None = None
        self._rejected = ""

    # --- asking

    async def start(self) -> None:
        """Poll for ever.

        Raises:
            ConfigurationError: `url` is no URL.
            CircuitOpen: too many errors of the upstream in a row.
            StateCorrupt: the position is none of a RestSource.
        """
        checked_url(self.name, self.url)
        authorize = None if type(self).authorize is RestHooks.authorize else self.authorize
        async with self.open_session() as session:
            client = RestClient(session, self.options, authorize, self.clock)
            due = self.clock.monotonic()
            while True:
                began = await self._run_poll(client, due)
                now = self.clock.monotonic()
                due = max(began + self.options.request_interval, now)
                await self.clock.sleep(due - now)

    async def _run_poll(self, client: RestClient, began: float) -> float:
        """Ask for all pages of a poll; return when it began, or began again after an error."""
        self._poll = Poll(self._place())
        while (poll := self._poll) is not None:
            error = await self._step(client, poll)
            if error is not None:
                await self.error_handler(error)
                delay = self._attempts.failed(error, getattr(error, "retry_after", 0.0))
                await self.clock.sleep(delay)
                began = self.clock.monotonic()
                if poll.page and _is_gone(error):
                    self._poll = Poll(self._place(), 1)
        return began

    async def _step(self, client: RestClient, poll: Poll) -> Exception | None:
        """Ask for a page and take it; return what is wrong with it."""
        await self.pace()
        since = self.params_since(poll.place.since)
        build, asked = self._requests.of(self.url, poll, since)
        try:
            raw = await client.ask(build, asked)
        except FAULTS as error:
            return error
        self._unusable = None
        if raw is None:
            self.heard()
            self._poll = None
        else:
            await self.receive(raw)
        if self._unusable is None:
            self._note_success()
        return self._unusable

    def _note_success(self) -> None:
        if self._logged is not None:
            self.logger.info("it answers again, after %d errors", self._attempts.failures)
            self._logged = None
        self._attempts.succeeded()

    def _place(self) -> Place:
        return Place.read(self.name, self.position)

    # --- what came

    async def take(self, raw: RawInput) -> None:
        """Make events of an answer, or keep it until the last page of its poll is here."""
        answer = msgspec.convert(raw.meta, Answer)
        poll = self._poll
        if poll is None or answer.page != poll.page + 1:
            poll = self._poll = Poll(self._place(), answer.page)
        try:
            page = self._read(raw, answer, poll)
        except Exception as error:
            if not _is_of_data(error):
                raise
            self._poll = Poll(self._place())
            await self._refuse(raw, error)
            return
        self._rejected = ""
        poll.add(page)
        is_over = poll.is_through or poll.page % (self.options.pages or 1) == 0
        if is_over or poll.is_large:
            await self._emit(poll)
            self._poll = None if is_over else Poll(self._place())

    def _read(self, raw: RawInput, answer: Answer, poll: Poll) -> Page:
        if answer.status in NOTHING:
            return Page(raw, answer, [], [], poll.found, None, None)
        data = self.parse(raw.data, answer)
        items = list(self.items(data))
        unusable = data.unusable if isinstance(data, Rows) else []
        found = self.since_of(data, poll.found)
        content = None
        if self.options.changed_only:
            content = digest_of(self.compared(data))
            if content == poll.known(answer.page):
                items, unusable = [], []
        following = self._next(data, answer, poll, found)
        return Page(raw, answer, items, unusable, found, following, content)

    def _next(self, data: Any, answer: Answer, poll: Poll, found: Any) -> Next:
        pages = self.options.pages
        following = None if pages is None else self.next_page(data, answer)
        # Where a `since` says what is left the next poll goes on; without it begins anew.
        if following is None or (found is None and answer.page >= (pages or 1)):
            return None
        if isinstance(following, str):
            following = str(URL(answer.url).join(URL(following)))
            if len(following) > URL_LENGTH:
                raise ValueError(f"the URL of the next page has {len(following):,} characters")
        if following == poll.next:
            raise ValueError("what asks for the next page is what has asked for this one")
        return following if isinstance(following, str) else dict(following)

    async def _emit(self, poll: Poll) -> None:
        for page in poll.pages:
            for raw, error in page.unusable:
                await self.reject(RawInput("row", raw, page.raw.at), error)
        before = poll.place
        for part, place in poll.parts():
            if part or place != before:
                async with self.transaction():
                    for page, item in part:
                        await self._emit_item(page, item)
                    if place != before:
                        self.checkpoint(place)
            before = place

    async def _emit_item(self, page: Page, item: Any) -> None:
        outbox = current_outbox.get()
        assert outbox is not None
        count = len(outbox.emitted)
        try:
            await self.emit_item(item, page.answer)
        except Exception as error:
            if not _is_of_data(error):
                raise
            del outbox.emitted[count:]
            raw = page.raw if len(page.items) == 1 else RawInput("item", _told(item), page.raw.at)
            await self.reject(raw, error)

    async def _refuse(self, raw: RawInput, error: Exception) -> None:
        """Note that an answer cannot be used; the same one again makes no further dead letter."""
        self._unusable = error
        self._logged = sort_of(error)  # `reject` logs it
        if (mark := digest(raw.data)) != self._rejected:
            self._rejected = mark
            await self.reject(raw, error)


def _is_of_data(error: Exception) -> bool:
    """Whether what came is at fault, and not this program, its broker or its configuration."""
    return not isinstance(error, AiopypeError) or isinstance(error, CodecError | OutputTooLarge)


def _is_gone(error: Exception) -> bool:
    """Whether a page is not to be had any more: a cursor that has expired."""
    return (
        isinstance(error, StatusError) and 400 <= error.status < 500 and error.status not in PASSING
    )


def _told(item: Any) -> bytes:
    try:
        return msgspec.json.encode(item, enc_hook=models.as_plain)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return repr(item).encode("utf-8", "replace")
