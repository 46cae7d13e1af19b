"""The topic of an event: its name, and what is known of it on the broker."""

from __future__ import annotations

import re

from aiopype.errors import GraphError

__all__ = ["DEFAULT_PARTITIONS", "Topic", "topic_name"]

#: Partitions of a topic that nothing else is said about.
DEFAULT_PARTITIONS = 4

# Kafka's own rule (org.apache.kafka.common.internals.Topic): 249 leaves room for "-<partition>"
# and a suffix within a file name of 255.
_LEGAL = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class Topic:
    """Where the events of one name from one component go.

    Attributes:
        name: `<manager>.<component>.<event>`.
        event: the event's name.
        partitions: how many the broker has, or None as long as that is unknown.
    """

    __slots__ = ("event", "name", "partitions")

    def __init__(self, component: str, event: str) -> None:
        self.name = topic_name(component, event)
        self.event = event
        self.partitions: int | None = None

    def __repr__(self) -> str:
        return f"<Topic {self.name} partitions={self.partitions}>"


def topic_name(component: str, event: str) -> str:
    """Return the topic of `event` of `component`, a full name.

    Raises:
        GraphError: the broker would refuse the name.
    """
    name = f"{component}.{event}"
    if not isinstance(event, str) or not event or not _LEGAL.fullmatch(name):
        raise GraphError(
            f"event {event!r} of {component!r} cannot be a topic: "
            "use letters, digits, '.', '_' and '-', 249 characters at most with the component"
        )
    return name
