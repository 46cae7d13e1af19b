"""Reports errors to Sentry, where a DSN is set and the extra `sentry` is installed.

What is reported is what is logged below the logger `aiopype`: records from ERROR on, and dead
letters whatever their level. Records say what they are about by two attributes, both optional:

    logger.error("...", extra={"component": "<manager>" or "<manager>.<component>"})
    logger.warning("...", extra={"dead_letter": letter})

The client is one of our own: a program's own use of Sentry is left alone.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from aiopype.errors import ConfigurationError

if TYPE_CHECKING:
    import sentry_sdk

    from aiopype.dead_letters import DeadLetter

__all__ = ["Brake", "Reporter", "report_errors_to"]

#: Until the same kind of error is reported again.
AGAIN_SECONDS = 60.0

#: Most kinds of errors that are told apart.
KINDS = 1_000

#: For what is still to be sent at the end.
FLUSH_SECONDS = 3.0

#: What of a dead letter is reported: not its bytes, which are data of the user.
_TOLD = ("subscription", "topic", "partition", "offset", "timestamp_ms", "tries", "replays",
         "value_bytes", "traceback")  # fmt: skip


@contextlib.contextmanager
def report_errors_to(dsn: str | None, flow: str, release: str | None = None) -> Iterator[None]:
    """Report what is logged meanwhile, and the exception that ends it; at the end wait for both.

    The end takes 3 seconds at most. Without a DSN nothing is done or imported.

    Arguments:
        dsn: where to; the setting `sentry_dsn`.
        flow: its name, a tag of every report.
        release: of the user's program; SENTRY_RELEASE if not given.

    Raises:
        ConfigurationError: the extra is not installed, or it is no DSN.
    """
    if dsn is None:
        yield
        return
    reporter = Reporter(_connect(dsn, release), flow)
    logger = logging.getLogger("aiopype")
    logger.addHandler(reporter)
    try:
        yield
    except Exception as error:
        reporter.report_end(error)
        raise
    finally:
        logger.removeHandler(reporter)
        reporter.close()


def _connect(dsn: str, release: str | None) -> sentry_sdk.Client:
    try:
        import sentry_sdk  # noqa: PLC0415 - an extra
        from sentry_sdk.utils import BadDsn  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(
            "sentry_dsn is set, and the Sentry SDK is not installed; "
            "pip install 'aiopype[sentry]', or take the setting out"
        ) from None
    try:
        return sentry_sdk.Client(
            dsn=dsn,
            release=release,
            # Ours is not the only client: nothing of the process is patched for it.
            default_integrations=False,
            auto_enabling_integrations=False,
            auto_session_tracking=False,
            # Local variables hold events, and secrets.
            include_local_variables=False,
            in_app_exclude=["aiopype", "faust", "mode", "aiokafka"],
        )
    except BadDsn as error:
        raise ConfigurationError(
            f"sentry_dsn is no DSN: {error}; copy it from the project's settings in Sentry"
        ) from None


class _Kind(NamedTuple):
    """What makes two errors the same for us and for Sentry."""

    what: str  # "dead letter", "failure", or the text of the log call
    component: str  # or the name of the logger
    error: str


class Brake:
    """Lets one error of a kind through per minute, and counts those it holds back.

    Arguments:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[_Kind, tuple[float, int]] = {}

    def let(self, kind: _Kind) -> int | None:
        """Return how many of its kind were held back before it; None when it is itself."""
        now = self._clock()
        since, held = self._held.get(kind, (None, 0))
        if since is not None and now - since < AGAIN_SECONDS:
            self._held[kind] = (since, held + 1)
            return None
        if len(self._held) >= KINDS:
            self._held.clear()
        self._held[kind] = (now, 0)
        return held


class Reporter(logging.Handler):
    """Sends log records to Sentry, in the background: nobody waits, a full queue drops.

    Errors are grouped by component and class of the error; of each group one a minute is sent.

    Arguments:
        client: of the SDK, open; it is closed with the reporter.
        flow: its name, a tag of every report.
        brake: bounds how often the same is reported.
    """

    def __init__(self, client: sentry_sdk.Client, flow: str, brake: Brake | None = None) -> None:
        super().__init__()
        self._client = client
        self._flow = flow
        self._brake = brake or Brake()

    def emit(self, record: logging.LogRecord) -> None:
        """Report a record, if it is an error or tells of a dead letter."""
        letter: DeadLetter | None = getattr(record, "dead_letter", None)
        if record.levelno < logging.ERROR and letter is None:
            return
        try:
            component = getattr(record, "component", None) or (letter and letter.component)
            self._report(record, component or None, letter)
        except Exception:  # noqa: BLE001 - as every handler: a wrong log call breaks nothing
            self.handleError(record)

    def report_end(self, error: Exception) -> None:
        """Report the exception that ends the flow."""
        record = logging.LogRecord(
            "aiopype", logging.CRITICAL, __file__, 0, "the flow ends by an error", None,
            (type(error), error, error.__traceback__),
        )  # fmt: skip
        self.handle(record)

    def flush(self) -> None:
        """Wait until everything is sent, 3 seconds at most."""
        self._client.flush(timeout=FLUSH_SECONDS)

    def close(self) -> None:
        """Send what is left, 3 seconds at most, and end."""
        self._client.close(timeout=FLUSH_SECONDS)
        super().close()

    def _report(
        self, record: logging.LogRecord, component: str | None, letter: DeadLetter | None
    ) -> None:
        error = record.exc_info[0] if record.exc_info else None
        name = letter.error if letter else error.__name__ if error else ""
        what = "dead letter" if letter else "failure" if component else str(record.msg)
        kind = _Kind(what, component or record.name, name)
        held = self._brake.let(kind)
        if held is None:
            return
        event, hint = self._event_of(record, letter)
        event["level"] = "fatal" if record.levelno >= logging.CRITICAL else "error"
        event["logger"] = record.name
        event["logentry"] = {"message": str(record.msg), "formatted": record.getMessage()}
        event["fingerprint"] = list(kind)
        event["tags"] = {"flow": self._flow, "error": name}
        if component:
            event["tags"] |= {"manager": component.partition(".")[0], "component": component}
        event["extra"] = {"held back before it": held}
        self._client.capture_event(event, hint)

    def _event_of(self, record: logging.LogRecord, letter: DeadLetter | None) -> tuple[Any, Any]:
        from sentry_sdk.utils import event_from_exception  # noqa: PLC0415 - an extra

        event: Any = {}
        hint: Any = {}
        if record.exc_info and record.exc_info[0] is not None:
            event, hint = event_from_exception(
                record.exc_info,
                client_options=self._client.options,
                mechanism={"type": "logging", "handled": record.levelno < logging.CRITICAL},
            )
        elif letter:
            event["exception"] = {"values": [{"type": letter.error, "value": letter.message}]}
        if letter:
            event["contexts"] = {"dead letter": {name: getattr(letter, name) for name in _TOLD}}
        return event, hint
