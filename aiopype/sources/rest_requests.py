"""What a `RestSource` asks with: its options, where it is, and what the server knows it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from yarl import URL

from aiopype import models
from aiopype.errors import ConfigurationError
from aiopype.sources.rest_messages import Request
from aiopype.sources.rest_options import RestOptions
from aiopype.sources.rest_poll import Place, Poll, digest

__all__ = ["Requests", "checked_url"]


class Requests:
    """Makes the requests of a source.

    Arguments:
        source: its name, for errors.
        options: what they have in common.

    Raises:
        ConfigurationError: there are two bodies, or one has no JSON form.
    """

    def __init__(self, source: str, options: RestOptions) -> None:
        self._options = options
        self._headers = dict(options.headers)
        self._body = self._content(source)

    def of(
        self, url: str, poll: Poll, since: Mapping[str, Any]
    ) -> tuple[Callable[[], Request], str | None]:
        """Return what makes the request for the next page of a poll, and a digest of it.

        The digest is None where an answer's ETag is of no use.

        Arguments:
            url: of the source.
            since: the parameters for the first page.
        """
        options, following = self._options, poll.next
        params = {**options.params, **since}
        if isinstance(following, str):
            url, params = following, {}
        elif following is not None:
            params |= following
        asked, conditions = None, {}
        if options.conditional and options.method == "GET" and poll.is_new:
            asked = digest(repr((url, params, self._body)).encode())
            conditions = _conditions(poll.place, asked)

        def build() -> Request:
            return Request(
                method=options.method,
                url=url,
                params=dict(params),
                headers={**self._headers, **conditions},
                body=self._body,
                page=poll.page + 1,
            )

        return build, asked

    def _content(self, source: str) -> bytes | None:
        options = self._options
        if options.json is None:
            if options.body is None:
                return None
            self._say_type("text/plain; charset=utf-8")
            return options.body.encode()
        if options.body is not None:
            raise ConfigurationError(f"source {source!r}: give `json` or `body`, not both")
        self._say_type("application/json")
        try:
            return msgspec.json.encode(options.json, enc_hook=models.as_plain)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ConfigurationError(
                f"source {source!r}: json={options.json!r:.200} has no JSON form: {error}"
            ) from error

    def _say_type(self, content_type: str) -> None:
        if "content-type" not in map(str.lower, self._headers):
            self._headers["Content-Type"] = content_type


def checked_url(source: str, url: str) -> URL:
    """Return the URL of a source.

    Raises:
        ConfigurationError: it is none of http or https.
    """
    try:
        parsed = URL(url)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"source {source!r}: url={url!r} is no URL: {error}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ConfigurationError(
            f"source {source!r}: url={url!r} is not of the form http://host/path or https://..."
        )
    return parsed


def _conditions(place: Place, asked: str) -> dict[str, str]:
    if place.asked != asked:
        return {}
    given = {"If-None-Match": place.etag, "If-Modified-Since": place.modified}
    return {name: value for name, value in given.items() if value is not None}
