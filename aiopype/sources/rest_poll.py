"""How far a `RestSource` is: the position it keeps, and the pages of the poll under way.

Nothing here asks or waits: what becomes of a position is a function of the answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from aiopype import models
from aiopype.errors import StateCorrupt
from aiopype.inputs import RawInput
from aiopype.sources.rest_messages import Answer

__all__ = ["Middle", "Page", "Place", "Poll", "digest", "digest_of"]

#: Of so many pages the digests are kept; a position has 64 KiB.
DIGESTS = 1_000

#: A validator that is longer is not kept, for the same reason.
VALIDATOR_LENGTH = 1_024

#: Items of a part of a poll, which is written at once, and the bytes of pages after which one ends.
PART_ITEMS, PART_BYTES = 5_000, 4 * 1024 * 1024

#: What asks for a page: its URL, or parameters for the source's own; None asks for the first.
Next = str | dict[str, Any] | None


class Middle(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where a poll is that is not through.

    Attributes:
        page: so many of its pages are durable.
        next: what asks for the page after them.
        found: the `since` that they have led to.
        taken: of the page after them so many items are durable too,
        body: if its body has this digest.
    """

    page: int = 0
    next: Next = None
    found: Any = None
    taken: int = 0
    body: str = ""


class Place(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The position of a source, as it is stored.

    Attributes:
        since: where the next poll begins, as `since_of` said.
        etag, modified: what makes the next request conditional.
        asked: a digest of the request they belong to.
        digests: of the content of each page of the last poll, where `changed_only` is set.
        middle: where the poll under way is.
    """

    since: Any = None
    etag: str | None = None
    modified: str | None = None
    asked: str | None = None
    digests: tuple[str, ...] = ()
    middle: Middle | None = None

    @classmethod
    def read(cls, source: str, position: Any) -> Place:
        """Return what a position says.

        Raises:
            StateCorrupt: it is none of this class.
        """
        if position is None:
            return cls()
        try:
            return msgspec.convert(position, cls)
        except msgspec.ValidationError as error:
            raise StateCorrupt(
                f"the position of {source!r}, {position!r:.200}, is not one of a RestSource of "
                f"this version: {error}; was another source of this name here before?"
            ) from error


class Page(NamedTuple):
    """A page of a poll, read and not emitted yet.

    Attributes:
        raw: as it came.
        answer: what came with it.
        items: of which an event is to be made each.
        unusable: parts of it that cannot be read, and why.
        found: the `since` that it leads to.
        next: what asks for the page after it; None if there is none.
        digest: of its content, where `changed_only` is set.
    """

    raw: RawInput
    answer: Answer
    items: list[Any]
    unusable: list[tuple[bytes, Exception]]
    found: Any
    next: Next
    digest: str | None


class Poll:
    """The pages of a poll, from the first that is not durable on.

    Arguments:
        place: the last durable one.
        page: which page comes; where the poll of `place` stands elsewhere, it begins anew.

    Attributes:
        place: the last durable one.
        page: so many pages are there.
        next: what asks for the page after them.
        found: the `since` that they lead to.
        pages: those that are not emitted yet.
        is_through: whether the last one is there.
    """

    def __init__(self, place: Place, page: int | None = None) -> None:
        middle = place.middle
        if middle is None or page not in {None, middle.page + 1}:
            middle = Middle(page=(page or 1) - 1, found=place.since)
        self._middle = middle
        self.place = place
        self.page, self.next, self.found = middle.page, middle.next, middle.found
        self.pages: list[Page] = []
        self.is_through = False

    @property
    def is_new(self) -> bool:
        """Whether nothing of it is there or durable."""
        return self.page == self._middle.taken == 0

    @property
    def is_large(self) -> bool:
        """Whether the pages that are not emitted yet should be."""
        return (
            sum(len(page.raw.data) for page in self.pages) >= PART_BYTES
            or sum(len(page.items) for page in self.pages) >= PART_ITEMS
        )

    def known(self, page: int) -> str | None:
        """Return the digest that a page had in the last poll."""
        return self.place.digests[page - 1] if page <= len(self.place.digests) else None

    def add(self, page: Page) -> None:
        """Take the next page; of one that is durable in part, the rest."""
        taken = self._middle.taken
        if taken and not self.pages:
            if self._middle.body == digest(page.raw.data):
                page = page._replace(items=page.items[taken:])
            else:
                self._middle = msgspec.structs.replace(self._middle, taken=0)
        self.pages.append(page)
        self.page += 1
        self.next, self.found = page.next, page.found
        self.is_through = page.next is None

    def parts(self) -> Iterator[tuple[list[tuple[Page, Any]], Place]]:
        """Yield the items of the pages in parts, each with its page, and the place after each part.

        A part has 5,000 items at most; the last may have none.
        """
        part: list[tuple[Page, Any]] = []
        middle = self._middle
        for index, page in enumerate(self.pages):
            for number, item in enumerate(page.items, middle.taken):
                if len(part) == PART_ITEMS:
                    body = digest(page.raw.data)
                    yield part, self._within(middle, index, taken=number, body=body)
                    part = []
                part.append((page, item))
            middle = Middle(middle.page + 1, page.next, page.found)
        yield part, self._after() if self.is_through else self._within(middle, len(self.pages))

    def _within(self, middle: Middle, pages: int, **changes: Any) -> Place:
        middle = msgspec.structs.replace(middle, **changes)
        return Place(since=self.place.since, digests=self._digests(pages), middle=middle)

    def _after(self) -> Place:
        answer = self.pages[-1].answer
        # `asked` is of the first page: where the last is another, its ETag says too little.
        etag = _validator(answer, "etag") if answer.asked else None
        modified = _validator(answer, "last-modified") if answer.asked else None
        return Place(
            since=self.found,
            etag=etag,
            modified=modified,
            asked=answer.asked if etag or modified else None,
            digests=self._digests(len(self.pages))[: self.page],
        )

    def _digests(self, pages: int) -> tuple[str, ...]:
        digests = list(self.place.digests)
        for number, page in enumerate(self.pages[:pages], self._middle.page):
            if page.digest is not None and number < DIGESTS:
                digests += [""] * (number - len(digests))
                digests[number : number + 1] = [page.digest]
        return tuple(digests)


def digest(body: bytes) -> str:
    """Return a digest of some bytes, in 32 letters."""
    return blake2b(body, digest_size=16).hexdigest()


def digest_of(value: Any) -> str:
    """Return a digest of the JSON of a value, whatever the order of its members.

    Raises:
        TypeError: it has none.
    """
    return digest(msgspec.json.encode(value, order="sorted", enc_hook=models.as_plain))


def _validator(answer: Answer, name: str) -> str | None:
    value = answer.headers.get(name)
    return value if value and len(value) <= VALIDATOR_LENGTH else None
