"""The options of the sources in this package: what all have in common, and how they are read."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

import msgspec

from aiopype.errors import ConfigurationError

__all__ = ["Count", "Seconds", "SourceOptions", "read_options"]

#: A number of seconds above 0.
Seconds = Annotated[float, msgspec.Meta(gt=0)]

#: A whole number from 1 on.
Count = Annotated[int, msgspec.Meta(ge=1)]


class SourceOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be said of every source here.

    Attributes:
        exception_threshold: errors of the upstream in a row after which the circuit opens: the
            source is in quarantine, and left alone as long as its `restarts` says.
        first_delay_seconds: before the first attempt after an error; doubled for each that follows.
        last_delay_seconds: the longest such delay.
        expect_every: seconds without anything from the upstream that make the source silent: it is
            started again. None: it may be quiet for ever.
        rate_limit: how often a second it may ask the upstream, or take something from it.
    """

    exception_threshold: Count = 10
    first_delay_seconds: Seconds = 1.0
    last_delay_seconds: Seconds = 60.0
    expect_every: Seconds | None = None
    rate_limit: Seconds | None = None


_Options = TypeVar("_Options", bound=SourceOptions)


def read_options(
    source: str, kind: type[_Options], given: Mapping[str, Any] | _Options | None
) -> _Options:
    """Return the options of a source.

    Arguments:
        source: its name, for the error.
        kind: which options there are.
        given: some of them; the others have their defaults.

    Raises:
        ConfigurationError: an option is unknown, its value makes no sense, or the options are
            another source's.
    """
    if isinstance(given, kind):
        return given
    if isinstance(given, SourceOptions):
        raise ConfigurationError(
            f"source {source!r} takes {kind.__name__}, not {type(given).__name__}"
        )
    options = dict(given or {})
    known = kind.__struct_fields__
    for name in options:
        if name not in known:
            close = get_close_matches(str(name), known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {sorted(known)}"
            raise ConfigurationError(f"source {source!r} has no option {name!r}; {hint}")
    for name, value in options.items():
        try:
            msgspec.convert({name: value}, kind)
        except msgspec.ValidationError as error:
            reason = str(error).partition(" - at ")[0]
            raise ConfigurationError(f"source {source!r}: {name}={value!r}: {reason}") from error
    return msgspec.convert(options, kind)
