"""What a deployment has to know of a flow: from its graph, its settings and its `topics/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from aiopype.errors import ConfigurationError
from aiopype.flow import AsyncFlow
from aiopype.graph import Graph, Subscription
from aiopype.replays import is_replays
from aiopype.settings import Found, Settings
from aiopype.settings.files import nearest
from aiopype.topics import DEFAULT_PARTITIONS, Topic, TopicPlan

__all__ = ["Facts", "ReadTopic", "facts_of", "target_in_image"]

#: The most that a flow's files may have: a ConfigMap holds 1 MiB with its own names.
FILES_BYTES = 1_000_000

#: What the chart says through the environment, and what comes before that when the code says it.
_FIXED = ("data_dir", "web_host")


class ReadTopic(NamedTuple):
    """A topic that the flow's group reads.

    Attributes:
        name: as the brokers have it, but without the flow's namespace.
        partitions: how many; of a topic of others 1 where nobody has said it.
        handlers: `<manager>.<component>.<method>` of each that gets its events.
        is_foreign: others make it; no namespace goes in front.
        begins_at_end: whether a flow that has read nothing of it begins at its end.
        is_unknown: nobody has said how many partitions it has.
    """

    name: str
    partitions: int
    handlers: tuple[str, ...]
    is_foreign: bool = False
    begins_at_end: bool = False
    is_unknown: bool = False


@dataclass(frozen=True)
class Facts:
    """A flow, as a deployment sees it.

    Attributes:
        settings: all of them.
        found: where each came from.
        managers: their names.
        sources: full names of those that run on one worker each.
        topics: what the group reads, in the order of the subscriptions.
        files: the flow's own, by their paths from its folder, where they shall be sent along.
    """

    settings: Settings
    found: Mapping[str, Found]
    managers: tuple[str, ...]
    sources: tuple[str, ...]
    topics: tuple[ReadTopic, ...]
    files: Mapping[str, str]

    @property
    def most_partitions(self) -> int:
        """Of one of its topics: a worker beyond them gets none. 0 without topics."""
        return max((topic.partitions for topic in self.topics), default=0)

    @property
    def fixed(self) -> dict[str, str]:
        """What the code says that the chart would, by setting: `Config.WEB_HOST in flow.py`."""
        origins = {name: self.found[name].origin for name in _FIXED if not self.is_outside(name)}
        return {name: origin for name, origin in origins.items() if origin != "default"}

    def is_outside(self, setting: str) -> bool:
        """Say whether a setting is from the environment or pyproject.toml: an image has neither."""
        return self.found[setting].origin.startswith(("environment ", "[tool.aiopype] "))


def facts_of(
    flow: AsyncFlow,
    *,
    partitions: Mapping[str, int] | None = None,
    broker: str | None = None,
    embed: bool = False,
) -> Facts:
    """Return what a deployment has to know of a flow; no broker is asked.

    The components' constructors run.

    Arguments:
        flow: it runs on Kafka.
        partitions: of topics, by name; before what `topics/` and the default say.
        broker: `host:port,...`; before the configuration's.
        embed: whether its file and those of its topics are sent along.

    Raises:
        ConfigurationError: something is wrong with the flow, it reads no topic of such a name, or
            its files cannot be sent along.
    """
    settings = flow.settings(broker=broker)
    pipelines = flow.build_for_kafka(settings)
    graph = pipelines.protocol.graph
    topics = tuple(_read_topics(graph, settings.namespace))
    return Facts(
        settings,
        Settings.look_up(flow.config, flow.name, broker=broker),
        settings.flows,
        tuple(pipelines.sources),
        _counted(topics, partitions or {}),
        _files(flow, graph.plan) if embed else {},
    )


def target_in_image(target: str, folder: Path, *, embed: bool = False) -> str:
    """Return a target as it is called in a container.

    Arguments:
        target: as it is called here.
        folder: the current one, as it is in the image.
        embed: whether the flow's file is sent along, and so lies in the current folder itself.

    Raises:
        ConfigurationError: it is a module, which is not sent along.
    """
    path = Path(target)
    is_file = path.suffix == ".py"
    if embed and not is_file:
        raise ConfigurationError(
            f"{target} is a module, and files alone are sent along; put it into an image"
        )
    if embed:
        return path.name
    if is_file and path.is_absolute() and path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    return target


def _read_topics(graph: Graph, namespace: str | None) -> Iterator[ReadTopic]:
    for topic, subscriptions in graph.subscribed():
        if not is_replays(topic.component):  # operators write to it: no load
            yield _read_topic(topic, subscriptions, namespace)


def _read_topic(
    topic: Topic, subscriptions: list[Subscription], namespace: str | None
) -> ReadTopic:
    handlers = tuple(f"{s.component}.{s.handler.__name__}" for s in subscriptions)
    if topic.foreign is not None:
        return ReadTopic(topic.name, 1, handlers, True, topic.begins_at_end, is_unknown=True)
    name = topic.name.removeprefix(f"{namespace}.") if namespace else topic.name
    return ReadTopic(name, topic.spec.partitions or DEFAULT_PARTITIONS, handlers)


def _counted(topics: tuple[ReadTopic, ...], given: Mapping[str, int]) -> tuple[ReadTopic, ...]:
    """Return the topics with as many partitions as are given."""
    known = {topic.name: topic for topic in topics}
    for name, partitions in given.items():
        if name not in known:
            raise ConfigurationError(f"the flow reads no topic {name!r}; {nearest(name, known)}")
        known[name] = known[name]._replace(partitions=partitions, is_unknown=False)
    return tuple(known.values())


def _files(flow: AsyncFlow, plan: TopicPlan) -> dict[str, str]:
    if flow.file is None:
        raise ConfigurationError("the flow is made in no file that could be sent along")
    files = {flow.file.name: flow.file}
    for spec in (*plan.defaults.values(), *plan.specs.values()):
        if spec.file is not None:
            files[f"topics/{spec.file.name}"] = spec.file
    texts = {path: file.read_text("utf-8") for path, file in files.items()}
    size = sum(len(text.encode()) for text in texts.values())
    if size > FILES_BYTES:
        raise ConfigurationError(
            f"{', '.join(texts)}: {size:,} bytes are more than the {FILES_BYTES:,} that Kubernetes "
            "keeps of such files; put the flow into an image"
        )
    return texts
