"""What is wanted of a flow's topics: their names and settings, decided in one place."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from aiopype.errors import ConfigurationError
from aiopype.settings.files import nearest
from aiopype.topics.topic import ERROR, Topic, TopicSpec

__all__ = ["TopicPlan"]

#: How alike two names are, from 0 to 1, of which one is taken for the other mistyped.
MISTYPED = 0.8


@dataclass(frozen=True)
class TopicPlan:
    """Makes the topics of a flow.

    Attributes:
        namespace: goes in front of every topic's name.
        specs: of the events that a file names, by their full names.
        defaults: of a manager's other events, by manager.
    """

    namespace: str | None = None
    specs: Mapping[str, TopicSpec] = field(default_factory=dict)
    defaults: Mapping[str, TopicSpec] = field(default_factory=dict)

    def topic(self, component: str, event: str) -> Topic:
        """Return a new topic for `event` of `component`, a full name.

        Raises:
            GraphError: the broker would refuse its name.
        """
        manager = component.partition(".")[0]
        spec = self.specs.get(f"{component}.{event}") or self.defaults.get(manager)
        if spec is not None and event == ERROR:
            # Compaction would keep the last letter of each key only.
            spec = spec.without("cleanup.policy")
        return Topic(component, event, spec, self.namespace)

    def declared(self, known: Mapping[str, Collection[str]]) -> list[tuple[str, str]]:
        """Return component and event of what files name and the flow does not know: its topics
        shall exist as well.

        Arguments:
            known: the events of each component, which are subscribed or declared by its class.

        Raises:
            ConfigurationError: there is no such component, or the event is a known one mistyped.
        """
        declared = []
        for full_name, spec in self.specs.items():
            component, event = _split(full_name, spec, known)
            if event in known[component]:
                continue
            if get_close_matches(event, known[component], 1, MISTYPED):
                raise ConfigurationError(
                    f"{spec.file}: {_key(full_name)}: event {event!r} is not known; "
                    f"{nearest(event, known[component])} "
                    f"If not, add it to `events` of the class of {component!r}"
                )
            declared.append((component, event))
        return declared


def _split(full_name: str, spec: TopicSpec, components: Collection[str]) -> tuple[str, str]:
    # Names of components may have dots, so the longest that fits is meant.
    owners = [component for component in components if full_name.startswith(f"{component}.")]
    if not owners:
        manager, _, key = full_name.partition(".")
        names = [c.partition(".")[2] for c in components if c.startswith(f"{manager}.")]
        raise ConfigurationError(
            f"{spec.file}: {_key(full_name)}: manager {manager!r} has no such component; "
            f"{nearest(key.rpartition('.')[0], names)}"
        )
    owner = max(owners, key=len)
    return owner, full_name.removeprefix(f"{owner}.")


def _key(full_name: str) -> str:
    return f'["{full_name.partition(".")[2]}"]'
