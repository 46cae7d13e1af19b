"""The pipelines that are compared, one file each, written as its documentation says.

`PIPELINES` says what there is without importing any of it: each file is a program that runs its
pipeline until SIGTERM.
"""

from typing import NamedTuple

__all__ = ["PIPELINES", "YARDSTICK", "Pipeline"]


class Pipeline(NamedTuple):
    """One way to do the work."""

    name: str
    """The word for `--only`."""
    title: str
    """In the table."""
    distribution: str | None
    """The package whose version is printed, and without which the pipeline is left out."""
    share: float
    """Of `--events`, so that a slow one takes no longer than a fast one."""
    file: str = ""
    """In this folder, where it is not called like the pipeline."""
    guarantee: str = "at_least_once"
    """Told to the pipelines that have a choice, in BENCH_GUARANTEE."""

    @property
    def module(self) -> str:
        """The file without its suffix."""
        return self.file or self.name


YARDSTICK = "confluent"

PIPELINES = (
    Pipeline("confluent", "confluent-kafka, hand-written loop", "confluent-kafka", 1),
    Pipeline("aiopype", "**aiopype**, exactly once", "aiopype", 1, guarantee="exactly_once"),
    Pipeline("aiopype_alo", "**aiopype**, at least once", "aiopype", 1, "aiopype"),
    Pipeline("aiokafka", "aiokafka, hand-written batches", "aiokafka", 1),
    Pipeline("kstreams", "Kafka Streams (Java)", None, 1, "KStreams"),
    Pipeline("kstreams_eos", "Kafka Streams, exactly once", None, 1, "KStreams", "exactly_once"),
    Pipeline("bytewax", "Bytewax", "bytewax", 0.6),
    Pipeline("quix", "Quix Streams", "quixstreams", 0.4),
    Pipeline("faust", "faust-streaming", "faust-streaming", 0.025),
    Pipeline("faststream", "FastStream", "faststream", 0.15),
)
