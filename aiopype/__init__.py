"""Continuous data pipelines in Python that keep running, on Kafka.

The names below are the public ones; the sources are in `aiopype.sources`. Importing this does
nothing: no registry is filled, no loop is made, Faust is not loaded before a flow starts on Kafka.
"""

from aiopype.dead_letters import DeadLetter
from aiopype.errors import PermanentError, TemporaryError
from aiopype.flow import AsyncFlow, Flow
from aiopype.manager import DescriptiveManager, Manager
from aiopype.processor import Processor
from aiopype.protocol import AsyncProtocol, SyncProtocol
from aiopype.restarts import RestartPolicy
from aiopype.retry import Retry
from aiopype.source import Source

__all__ = [
    "AsyncFlow",
    "AsyncProtocol",
    "DeadLetter",
    "DescriptiveManager",
    "Flow",
    "Manager",
    "PermanentError",
    "Processor",
    "RestartPolicy",
    "Retry",
    "Source",
    "SyncProtocol",
    "TemporaryError",
]


def __getattr__(name: str) -> object:
    # `faust -A aiopype` asks for `app`. A submodule of that name would be taken for it.
    if name == "app":
        from aiopype.entry import faust_app  # noqa: PLC0415

        return faust_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
