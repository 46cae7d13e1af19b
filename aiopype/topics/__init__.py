"""The topics of events: what each is called, and what the files of a project say of them.

Here belongs what is known without a broker. What the broker has, and how a topic is made there, is
in `transport.admin`.
"""

from aiopype.topics.files import read_plan
from aiopype.topics.plan import TopicPlan
from aiopype.topics.topic import (
    DEFAULT_PARTITIONS,
    ERROR,
    LARGEST_BYTES,
    RECORD_BYTES,
    Foreign,
    Topic,
    TopicSpec,
    is_legal,
    parked_name,
    topic_name,
)

__all__ = [
    "DEFAULT_PARTITIONS",
    "ERROR",
    "LARGEST_BYTES",
    "RECORD_BYTES",
    "Foreign",
    "Topic",
    "TopicPlan",
    "TopicSpec",
    "is_legal",
    "parked_name",
    "read_plan",
    "topic_name",
]
