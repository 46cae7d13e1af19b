"""What the body of an answer holds, by its content type."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from aiopype.sources.lines import Csv, Format, JsonLines
from aiopype.sources.rest_messages import Answer
from aiopype.sources.rest_options import Content

__all__ = ["Rows", "content_of", "decode", "elements"]

_LINES = {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl"}

#: Pages for people: what an API answers with when something is wrong.
_PAGES = {"text/html", "application/xhtml+xml"}

_decode_json = msgspec.json.Decoder().decode


class Rows(list[Any]):
    """The rows of `lines` and `csv`.

    Attributes:
        unusable: the bytes of those that cannot be read, and why.
    """

    def __init__(self, rows: Iterable[Any], unusable: list[tuple[bytes, Exception]]) -> None:
        super().__init__(rows)
        self.unusable = unusable


def content_of(media_type: str) -> Content:
    """Return what an answer of this media type is read as; JSON where that says little.

    Raises:
        ValueError: it is a page for people.
    """
    if media_type in _PAGES:
        raise ValueError(
            f"the answer is a page for people ({media_type}); the URL may be wrong, or the API has "
            "a problem. If it is meant, set the option `content` to 'text'"
        )
    if media_type in _LINES:
        return "lines"
    if media_type == "text/csv":
        return "csv"
    kind, _, subtype = media_type.partition("/")
    # JSON comes as text/plain too, and with no type at all.
    if subtype in {"plain", "json"} or subtype.endswith("+json"):
        return "json"
    if kind == "text" or subtype == "xml" or subtype.endswith("+xml"):
        return "text"
    return "bytes" if kind in {"image", "audio", "video", "font"} else "json"


def decode(content: Content | None, body: bytes, answer: Answer) -> Any:
    """Return what a body holds: JSON's types, `Rows`, a text or the bytes.

    Raises:
        ValueError: it is not what it should be.
    """
    return _DECODERS[content or content_of(answer.content_type)](body, answer)


def elements(data: Any, way: str) -> list[Any]:
    """Return the list in some JSON.

    Arguments:
        way: the names of members, with a dot between two; none: `data` is the list.

    Raises:
        ValueError: there is none.
    """
    for name in way.split(".") if way else ():
        if not isinstance(data, dict) or name not in data:
            raise ValueError(f"the answer has no member {name!r} on the way `items`={way!r}")
        data = data[name]
    if not isinstance(data, list):
        what = f"is of type {type(data).__name__} and no list"
        raise ValueError(f"what the answer has at `items`={way!r} {what}")  # noqa: TRY004 - data
    return data


def _json(body: bytes, answer: Answer) -> Any:
    try:
        return _decode_json(body.removeprefix(codecs.BOM_UTF8))
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        kind = answer.content_type or "no content type"
        what = "is empty" if not body else f"is not JSON: {error}"
        raise ValueError(
            f"the answer ({kind}) {what}; if it is something else, set the option `content`"
        ) from error


def _text(body: bytes, answer: Answer) -> str:
    try:
        return body.decode(answer.charset)
    except LookupError as error:
        raise ValueError(f"the answer's charset {answer.charset!r} is not known") from error


def _bytes(body: bytes, answer: Answer) -> bytes:
    return body


def _lines(body: bytes, answer: Answer) -> Rows:
    return _rows(JsonLines(), body.removeprefix(codecs.BOM_UTF8), 0)


def _csv(body: bytes, answer: Answer) -> Rows:
    if answer.charset.lower() not in {"utf-8", "utf8", "us-ascii", "ascii"}:
        body = _text(body, answer).encode()
    body = body.removeprefix(codecs.BOM_UTF8)
    form = Csv()
    return _rows(form, body, form.whole(body + b"\n", 1)[0]) if body.strip() else Rows([], [])


def _rows(form: Format, body: bytes, begin: int) -> Rows:
    found = list(form.records(body[begin:], form.header(body[:begin])))
    good = (record.value for record in found if record.error is None)
    return Rows(good, [(record.raw, record.error) for record in found if record.error is not None])


_DECODERS: dict[Content, Callable[[bytes, Answer], Any]] = {
    "json": _json,
    "lines": _lines,
    "csv": _csv,
    "text": _text,
    "bytes": _bytes,
}
