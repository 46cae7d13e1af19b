"""The message handlers: SyncProtocol in process, AsyncProtocol on Kafka.

Here is what happens to an event between `emit` and a handler. What a component is, is not here
(`processor`), nor how records reach Kafka (`transport`).
"""

from aiopype.protocol.kafka import AsyncProtocol
from aiopype.protocol.sync import SyncProtocol

__all__ = ["AsyncProtocol", "SyncProtocol"]
