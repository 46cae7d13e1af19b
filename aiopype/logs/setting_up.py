"""Sets the program's logging up, unless the program does so itself."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType

from aiopype.logs.forms import JsonForm, TextForm
from aiopype.logs.lines import Lines

__all__ = ["FORMATS", "LEVELS", "set_up"]

logger = logging.getLogger("aiopype")

#: The forms of a line, and the levels from which on there are lines; the settings' words.
FORMATS = ("text", "json")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

#: Loggers that tell of their own inner life at INFO, or of what aiopype handles and reports
#: itself: a user who wants them sets their level.
_CHATTY = {
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "aiokafka": logging.WARNING,
}


def set_up(
    form: str = "text",
    level: str = "INFO",
    *,
    flow: str | None = None,
    worker: int | None = None,
    force: bool = False,
) -> None:
    """Log to standard error from `level` on, unless the program has configured logging itself.

    What was set up here before is changed. Warnings, and errors that nobody catches, are logged
    too.

    Arguments:
        form: one of FORMATS.
        level: a level's name.
        flow: its name, in each line of JSON.
        worker: the number of this process among the workers of one command, in each line.
        force: take the place of handlers of others.
    """
    root = logging.getLogger()
    lines = next((each for each in root.handlers if isinstance(each, Lines)), None)
    if force:
        for handler in [each for each in root.handlers if each is not lines]:
            root.removeHandler(handler)
    if lines is None:
        if root.handlers:
            return
        # `faust worker` puts what logs in the place of the streams.
        lines = Lines(sys.__stderr__ if force else sys.stderr)
        lines.addFilter(_is_news)
        root.addHandler(lines)
        _hear_errors()
    lines.setFormatter((JsonForm if form == "json" else TextForm)(flow, worker))
    lines.setLevel(logging.NOTSET)
    root.setLevel(level)
    for name, least in _CHATTY.items():
        logging.getLogger(name).setLevel(max(least, root.level))


def _is_news(record: logging.LogRecord) -> bool:
    # Two things that aiokafka warns of and that are as they should be: the first look-up of a new
    # group finds no coordinator and is tried again at once; and a member hears of a rebalance by
    # a heartbeat that is refused.
    template = str(record.msg)
    first = record.args[0] if isinstance(record.args, tuple) and record.args else None
    looks_up = template.startswith("Group Coordinator Request failed")
    return not (
        (looks_up and type(first).__name__ == "GroupCoordinatorNotAvailableError")
        or "because it is rebalancing" in template
    )


def _hear_errors() -> None:
    """Log warnings and what nobody catches, where the program has no hooks of its own."""
    logging.captureWarnings(True)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _log_end
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _log_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _log_unraisable


def _log_end(
    cls: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(cls, KeyboardInterrupt):
        sys.__excepthook__(cls, error, traceback)
        return
    logger.critical(
        "the program ends by an error: %s: %s", cls.__name__, error,
        exc_info=(cls, error, traceback),
    )  # fmt: skip


def _log_thread(args: threading.ExceptHookArgs) -> None:
    error = args.exc_value
    if error is not None and args.exc_type is not SystemExit:
        name = args.thread.name if args.thread is not None else "?"
        logger.error("thread %s ends by an error", name, exc_info=error)


def _log_unraisable(args: sys.UnraisableHookArgs) -> None:
    # Its object is named by its class alone: a repr may be the last thing that works there.
    logger.error(
        "%s, which nobody could catch, of a %s",
        args.err_msg or "an error", type(args.object).__name__,
        exc_info=args.exc_value,
    )  # fmt: skip
