"""How an existing topic differs from what is wanted of it, and how a person changes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aiopype.topics import Topic

__all__ = ["differences"]


def differences(
    topic: Topic, brokers: str, partitions: int, copies: int, configs: Mapping[str, str | None]
) -> Iterator[str]:
    """Yield a sentence for each thing that is said of a topic and is otherwise on the broker.

    Arguments:
        topic: with its `spec`.
        brokers: `host:port,...`, for the commands.
        partitions: how many it has.
        copies: on how many brokers each of them is.
        configs: its settings, those at least that `spec` names.
    """
    spec = topic.spec
    at = f"--bootstrap-server {brokers}"
    if spec.partitions is not None and spec.partitions != partitions:
        yield f"it has {partitions} partitions, not {spec.partitions} (" + (
            f"kafka-topics.sh {at} --alter --topic {topic.name} --partitions {spec.partitions})"
            if spec.partitions > partitions
            else "Kafka takes none away: correct the file, or give the event another topic)"
        )
    if spec.replication is not None and spec.replication != copies:
        yield (
            f"it has {copies} copies, not {spec.replication} "
            f"(kafka-reassign-partitions.sh {at} --execute --reassignment-json-file FILE)"
        )
    for key, wanted in spec.configs.items():
        if _comparable(configs.get(key)) != _comparable(wanted):
            value = f"[{wanted}]" if "," in wanted else wanted
            yield (
                f"{key} is {configs.get(key)}, not {wanted} (kafka-configs.sh {at} --alter "
                f"--entity-type topics --entity-name {topic.name} --add-config '{key}={value}')"
            )


def _comparable(value: str | None) -> float | list[str]:
    # 0.5 is 0.50, and compact,delete is delete,compact.
    try:
        return float(value or "")
    except ValueError:
        return sorted(part.strip() for part in (value or "").split(","))
