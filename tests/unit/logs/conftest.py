"""Logging set up as in a new process, and put back; records made by hand."""

import logging
import sys
import threading

import pytest

from aiopype import logs
from aiopype.logs.repeats import _PACKAGE

CHATTY = ("faust", "mode", "aiokafka")


@pytest.fixture
def set_up(monkeypatch):
    """Sets logging up as in a new process; everything is put back afterwards."""
    root = logging.getLogger()
    before = {name: logging.getLogger(name).level for name in ("", *CHATTY)}
    made = []
    for module, name in (
        (sys, "excepthook"),
        (threading, "excepthook"),
        (sys, "unraisablehook"),
    ):
        # As Python starts: pytest has its own.
        monkeypatch.setattr(module, name, getattr(module, f"__{name}__"))

    def run(form="text", level="INFO", **options):
        monkeypatch.setattr(root, "handlers", [])
        logs.set_up(form, level, **options)
        made.extend(root.handlers)

    yield run
    for handler in made:
        handler.close()
    logging.captureWarnings(False)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def record():
    """Makes a record as a log call of aiopype's own does."""

    def make(
        text="it fails", *args, level="WARNING", name="aiopype.transport.x", error=None, **extra
    ):
        raised = None if error is None else (type(error), error, error.__traceback__)
        made = logging.LogRecord(
            name, getattr(logging, level), f"{_PACKAGE}x.py", 1, text, args, raised
        )
        vars(made).update(extra)
        return made

    return make


class Clock:
    """The seconds are what the test says."""

    now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()
