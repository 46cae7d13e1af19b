"""How the program logs: one line an event, to standard error."""

from __future__ import annotations

import logging
import sys

__all__ = ["set_up"]

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

#: Loggers that tell of their own inner life at INFO, or of what aiopype handles and reports
#: itself: a user who wants them sets their level.
_CHATTY = {
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "aiokafka": logging.WARNING,
}


def set_up(level: str = "INFO", process: str = "") -> None:
    """Log to standard error from `level` on, unless the program has configured logging itself.

    Arguments:
        level: a level's name.
        process: what each line says of the process it came from.
    """
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    form = f"{process} {_FORMAT}" if process else _FORMAT
    handler.setFormatter(logging.Formatter(form, "%H:%M:%S"))
    root.addHandler(handler)
    root.setLevel(level)
    handler.addFilter(_is_news)
    for name, least in _CHATTY.items():
        logging.getLogger(name).setLevel(least)


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
