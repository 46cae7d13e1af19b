"""Continuous data pipelines in Python that keep running, on Kafka.

The names below are the public ones; the sources are in `aiopype.sources`. Importing this does
nothing: no registry is filled, no loop is made, Faust is not loaded before a flow starts on Kafka.
"""

from aiopype.flow import AsyncFlow, Flow
from aiopype.manager import DescriptiveManager, Manager
from aiopype.processor import Processor, Source
from aiopype.protocol import AsyncProtocol, SyncProtocol

__all__ = [
    "AsyncFlow",
    "AsyncProtocol",
    "DescriptiveManager",
    "Flow",
    "Manager",
    "Processor",
    "Source",
    "SyncProtocol",
]
