"""The embedded broker: a real Apache Kafka of one node, for development and tests.

Here belongs what it takes to have one: its jars and how they are fetched, its settings, its
process, and the lock that makes processes on one data directory share it. What is done with a
broker does not belong here: this package speaks no more Kafka than the question whether it serves.
For Linux and macOS; an external broker makes all of this unnecessary.
"""

from aiopype.broker.joining import Broker, find, running, start
from aiopype.broker.serving import serve

__all__ = ["Broker", "find", "running", "serve", "start"]
