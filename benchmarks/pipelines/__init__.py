"""The pipelines that are compared, one file each, written as its documentation says.

`PIPELINES` says what there is without importing any of it: each file is a program that runs its
pipeline until SIGTERM.
"""

from typing import NamedTuple

__all__ = ["PIPELINES", "YARDSTICK", "Pipeline"]


class Pipeline(NamedTuple):
    """One way to do the work."""

    name: str
    """The file in this folder, and the word for `--only`."""
    title: str
    """In the table."""
    distribution: str | None
    """The package whose version is printed, and without which the pipeline is left out."""
    share: float
    """Of `--events`, so that a slow one takes no longer than a fast one."""


YARDSTICK = "confluent"

PIPELINES = (
    Pipeline("confluent", "confluent-kafka, hand-written loop", "confluent-kafka", 1),
    Pipeline("aiopype", "**aiopype**", "aiopype", 1),
    Pipeline("aiokafka", "aiokafka, hand-written batches", "aiokafka", 1),
    Pipeline("kstreams", "Kafka Streams (Java)", None, 1),
    Pipeline("bytewax", "Bytewax", "bytewax", 0.6),
    Pipeline("quix", "Quix Streams", "quixstreams", 0.4),
    Pipeline("faust", "faust-streaming", "faust-streaming", 0.025),
    Pipeline("faststream", "FastStream", "faststream", 0.15),
)
