"""The topic of an event: its name, what is wanted of it, and what is known of it on the broker."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from aiopype.errors import GraphError

__all__ = [
    "DEFAULT_PARTITIONS",
    "ERROR",
    "LARGEST_BYTES",
    "RECORD_BYTES",
    "Foreign",
    "Topic",
    "TopicSpec",
    "is_legal",
    "parked_name",
    "topic_name",
]

#: The event that carries a component's dead letters.
ERROR = "error"

#: Partitions of a topic that nothing else is said about.
DEFAULT_PARTITIONS = 4

#: Kafka's setting of a topic's largest record, and its default.
LARGEST = "max.message.bytes"
LARGEST_BYTES = 1_048_588

#: What a batch of one record adds to its key and value at most: its header (61 bytes), lengths and
#: deltas.
RECORD_BYTES = 128

# Kafka's own rule (org.apache.kafka.common.internals.Topic): 249 leaves room for "-<partition>"
# and a suffix within a file name of 255.
_LEGAL = re.compile(r"(?!\.{1,2}\Z)[a-zA-Z0-9._-]{1,249}")


@dataclass(frozen=True)
class TopicSpec:
    """What somebody wants of a topic; what is left out is for Kafka to say.

    Attributes:
        partitions: how many; None makes DEFAULT_PARTITIONS of a new topic.
        replication: how many brokers keep a copy; None is the cluster's default.
        configs: Kafka's settings of topics, as text.
        name: what the topic is called in place of `<manager>.<component>.<event>`.
        file: where that is said.
    """

    partitions: int | None = None
    replication: int | None = None
    configs: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None
    file: Path | None = None

    def over(self, other: TopicSpec) -> TopicSpec:
        """Return this with what it leaves out taken from `other`."""
        return replace(
            self,
            partitions=self.partitions or other.partitions,
            replication=self.replication or other.replication,
            configs={**other.configs, **self.configs},
        )

    def without(self, setting: str) -> TopicSpec:
        """Return this without one of Kafka's settings."""
        return replace(self, configs={k: v for k, v in self.configs.items() if k != setting})


@dataclass(frozen=True)
class Foreign:
    """A topic that others make and write: it is read only.

    Attributes:
        name: what it is called; no namespace goes in front.
        content: what its values are.
        begin: where a flow begins that has read nothing of a partition yet.
        wait: whether a worker waits at its start until the topic exists; else it does not start.
    """

    name: str
    content: Literal["json", "text", "bytes"] = "json"
    begin: Literal["earliest", "latest"] = "earliest"
    wait: bool = False


class Topic:
    """Where the events of one name from one component go.

    Attributes:
        name: what the broker calls it: `<manager>.<component>.<event>`, or what its file says,
            behind the flow's namespace.
        own_name: the same, also where the topic is another's: what belongs to it has names of this.
        foreign: whose the topic is, if not ours.
        component: full name of the component that emits.
        event: the event's name.
        spec: what is wanted of it.
        partitions: how many the broker has, or None as long as that is unknown.
        largest: bytes of key and value that fit into a record of it at most.
        follows: whether its records have the partition's number of what they came of, always.
        needs_key: whether it is compacted, so that the broker refuses records without a key.

    Raises:
        GraphError: the broker would refuse the name.
    """

    __slots__ = (
        "component", "event", "follows", "foreign", "largest", "name", "needs_key", "own_name",
        "partitions", "spec",
    )  # fmt: skip

    def __init__(
        self,
        component: str,
        event: str,
        spec: TopicSpec | None = None,
        namespace: str | None = None,
    ) -> None:
        self.component = component
        self.event = event
        self.spec = spec or TopicSpec()
        name = self.spec.name or topic_name(component, event)
        self.name = self.own_name = f"{namespace}.{name}" if namespace else name
        self.foreign: Foreign | None = None
        self.partitions: int | None = None
        self.largest = LARGEST_BYTES - RECORD_BYTES
        self.follows = False
        self.needs_key = False
        if not is_legal(self.name):
            raise GraphError(
                f"topic {self.name!r} of event {event!r} of {component!r} is too long: "
                "249 characters at most, with the namespace"
            )

    def become(self, foreign: Foreign) -> None:
        """Be a topic of others. Before there are subscriptions to it.

        Raises:
            GraphError: no broker has a topic of that name.
        """
        if not isinstance(foreign.name, str) or not is_legal(foreign.name):
            raise GraphError(
                f"topic {foreign.name!r} of event {self.full_name!r} cannot exist: Kafka's names "
                "have letters, digits, '.', '_' and '-', 249 characters at most"
            )
        self.foreign = foreign
        self.name = foreign.name
        self.spec = TopicSpec()

    def hold_letters_about(self, other: Topic) -> None:
        """Want room for records twice as large as those of `other`, unless its file says otherwise:
        a dead letter has the original, its bytes in base64, and a traceback.
        """
        wanted = 2 * int(other.spec.configs.get(LARGEST, LARGEST_BYTES))
        if self.spec.file is None or LARGEST not in self.spec.configs:
            configs = dict(self.spec.configs)
            configs[LARGEST] = str(max(wanted, int(configs.get(LARGEST, 0))))
            self.spec = replace(self.spec, configs=configs)

    @property
    def full_name(self) -> str:
        """The event's full name, `<manager>.<component>.<event>`, whatever its topic is called."""
        return f"{self.component}.{self.event}"

    @property
    def begins_at_end(self) -> bool:
        """Whether a flow that has read nothing of a partition yet begins at its end."""
        return self.foreign is not None and self.foreign.begin == "latest"

    def __repr__(self) -> str:
        return f"<Topic {self.name} partitions={self.partitions}>"


def parked_name(name: str) -> str:
    """Return what the topic of the waiting events of a topic is called."""
    return f"{name}.parked"


def is_legal(name: str) -> bool:
    """Say whether the broker takes a name for a topic."""
    return _LEGAL.fullmatch(name) is not None


def topic_name(component: str, event: str) -> str:
    """Return the topic of `event` of `component`, a full name.

    Raises:
        GraphError: the broker would refuse the name.
    """
    name = f"{component}.{event}"
    if not isinstance(event, str) or not event or not is_legal(name):
        raise GraphError(
            f"event {event!r} of {component!r} cannot be a topic: "
            "use letters, digits, '.', '_' and '-', 249 characters at most with the component"
        )
    return name
