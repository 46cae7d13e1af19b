"""Traces of events, for OpenTelemetry: off unless the setting `tracing` is on.

Here is when there are spans, and what the headers of records say of them. Without the setting
nothing of OpenTelemetry is imported, and no header is read or written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from aiopype.errors import ConfigurationError

if TYPE_CHECKING:
    from aiopype.dead_letters import DeadLetter
    from aiopype.settings import Settings
    from aiopype.tracing.spans import Tracing

__all__ = ["REPLAY_OF", "Traceable", "replay_of", "traced"]

#: The header of a request for a replay that names the trace of the original.
REPLAY_OF = "aiopype-replay-of"


class Traceable(Protocol):
    """What has traces made while a flow runs: its protocol."""

    tracing: Tracing | None


def replay_of(letter: DeadLetter | None) -> tuple[tuple[str, bytes], ...]:
    """Return the headers of a request to run the event of a letter again: they name its trace."""
    found = () if letter is None else letter.headers
    return tuple((REPLAY_OF, v) for name, v in found if name == "traceparent" and v is not None)


@contextlib.contextmanager
def traced(flow: Traceable, settings: Settings) -> Iterator[None]:
    """Have traces made meanwhile, if the settings say so; at the end wait for them, 3 s at most.

    Raises:
        ConfigurationError: OpenTelemetry is not installed.
    """
    if not settings.tracing:
        yield
        return
    try:
        from aiopype.tracing import spans  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            f"tracing is set, and OpenTelemetry is not installed ({error}); "
            "pip install 'aiopype[tracing]', or take the setting out"
        ) from None
    provider = spans.provider_of(settings.name)
    flow.tracing = spans.Tracing(provider, settings.group)
    try:
        yield
    finally:
        flow.tracing = None
        spans.flush(provider)
