"""The flow as data: components, the topics of their events, and who is subscribed to them."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from aiopype import foreign
from aiopype.codec import Invoke, bind
from aiopype.dead_letters import unless_deep
from aiopype.errors import GraphError
from aiopype.letter_log import LetterLog
from aiopype.topics import ERROR, Topic, TopicPlan, is_legal, parked_name

__all__ = ["Graph", "Handler", "Subscription", "manager_of"]

Handler = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Subscription:
    """One `on`: an event and the handler that gets it.

    Attributes:
        topic: the event's topic.
        component: full name of the component whose method the handler is.
        handler: the bound method, a function or a coroutine function.
        errors: the topic of the component's `error` event, where its dead letters go.
        once: stop after the first event.
        invoke: decodes a value and calls the handler.
        is_awaited: whether running it takes an event loop: a coroutine function, or in threads.
        letter_log: tells of its dead letters.
    """

    topic: Topic
    component: str
    handler: Handler
    errors: Topic
    once: bool = False
    invoke: Invoke = field(init=False, repr=False)
    is_coroutine: bool = field(init=False)
    is_awaited: bool = field(init=False)
    letter_log: LetterLog = field(init=False, repr=False)

    def __post_init__(self) -> None:
        is_coroutine = inspect.iscoroutinefunction(self.handler)
        if self.topic.foreign is None:
            invoke = bind(self.handler, self.name)
        else:
            invoke = foreign.bind(self.handler, self.name, self.topic.foreign.content)
        if self.topic.event == ERROR:
            invoke = unless_deep(invoke, is_coroutine=is_coroutine)
        object.__setattr__(self, "invoke", invoke)
        object.__setattr__(self, "is_coroutine", is_coroutine)
        object.__setattr__(self, "is_awaited", is_coroutine or self.processor.blocking)
        object.__setattr__(self, "letter_log", LetterLog(self.name))

    @property
    def processor(self) -> Any:
        """The component whose method the handler is; it says how its handlers are run."""
        return getattr(self.handler, "__self__")  # noqa: B009 - not every callable has one

    @property
    def name(self) -> str:
        """`<event> -> <manager>.<component>.<method>`, full names, as logs and errors write it."""
        return f"{self.topic.full_name} -> {self.component}.{self.handler.__name__}"


def manager_of(name: str) -> str:
    """Return the manager's part of the full name of a component or event; a topic may be called
    otherwise.
    """
    return name.split(".", maxsplit=1)[0]


class Graph:
    """Components and subscriptions of one flow; frozen when the flow starts.

    Attributes:
        plan: makes the topics; set it before there are any.
        unresolved: topics whose number of partitions is not known yet. Whoever writes to Kafka
            looks here first: a topic can become known as late as at the first emit.
    """

    def __init__(self) -> None:
        self.plan = TopicPlan()
        self.unresolved: set[Topic] = set()
        self._topics: dict[str, dict[str, Topic]] = {}
        self._subscriptions: dict[Topic, list[Subscription]] = {}
        self._names: dict[str, Topic] = {}
        self._frozen = False
        self._making = threading.Lock()  # handlers in threads emit events not seen before

    @property
    def components(self) -> list[str]:
        """Full names, in the order they were built."""
        return list(self._topics)

    def add(self, component: str) -> dict[str, Topic]:
        """Add a component; return its topics by event, which the graph goes on filling.

        Raises:
            GraphError: the name is taken, or the flow has started.
        """
        if self._frozen:
            raise GraphError(f"component {component!r} is built after the start of its flow")
        if component in self._topics:
            raise GraphError(f"two components have the name {component!r}; give each its own")
        topics = self._topics[component] = {}
        return topics

    def topic(self, component: str, event: str) -> Topic:
        """Return the topic of `event` of `component`, made at the first call."""
        topics = self._topics[component]
        with self._making:
            if event in topics:
                return topics[event]
            topic = self.plan.topic(component, event)
            # Kafka takes '.' and '_' for the same in the names of its metrics, and refuses the
            # second of two topics that differ in nothing else.
            other = self._names.setdefault(topic.name.replace(".", "_"), topic)
            if other is not topic:
                raise GraphError(
                    f"event {event!r} of {component!r} has the topic {topic.name!r}, which is the "
                    f"same to Kafka as {other.name!r}; rename the component or the event"
                )
            topics[event] = topic
            self.unresolved.add(topic)
            return topic

    def find(self, component: str, event: str) -> Topic | None:
        """Return the topic of `event` of `component` if it is known."""
        return self._topics[component].get(event)

    def subscribe(
        self, component: str, event: str, handler: Handler, *, once: bool = False
    ) -> None:
        """Add a subscription; those of one topic run in the order they were added.

        Raises:
            GraphError: the flow has started, the handler is not a method of a component, or it
                cannot be run as its component says.
        """
        if self._frozen:
            raise GraphError(
                f"on({event!r}, ...) of {component!r} after the start of its flow; "
                "subscribe in the manager's __init__"
            )
        owner = getattr(getattr(handler, "__self__", None), "name", None)
        if not inspect.ismethod(handler) or owner not in self._topics:
            raise GraphError(
                f"handler {handler!r} of event {event!r} of {component!r} is not a method of a "
                "component of this flow; make it a method of a Processor"
            )
        if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
            raise GraphError(
                f"handler {owner}.{handler.__name__} of event {event!r} is a generator, whose body "
                "would never run; emit instead of yielding"
            )
        if manager_of(owner) != manager_of(component):
            raise GraphError(
                f"handler {owner}.{handler.__name__} of event {event!r} of {component!r} belongs "
                f"to another manager, {manager_of(owner)!r}; a manager wires its own components"
            )
        _refuse_conditions(handler, f"{owner}.{handler.__name__} of event {event!r}")
        topic = self.topic(component, event)
        if not is_legal(parked_name(topic.own_name)):
            raise GraphError(
                f"topic {topic.own_name!r} is too long to be handled: its waiting events have the "
                f"topic {parked_name(topic.own_name)!r}, and 249 characters are the most; "
                "rename the component or the event"
            )
        self._subscriptions.setdefault(topic, []).append(
            Subscription(topic, owner, handler, self.topic(owner, ERROR), once=once)
        )

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove one subscription."""
        self._subscriptions[subscription.topic].remove(subscription)

    def remove_all(self, component: str, event: str | None) -> None:
        """Remove the subscriptions to `event`, or to all events, of `component`.

        Raises:
            GraphError: the flow has started.
        """
        if self._frozen:
            raise GraphError(f"subscriptions of {component!r} are removed after the start")
        for topic in self._topics[component].values():
            if event is None or topic.event == event:
                self._subscriptions.pop(topic, None)

    def subscriptions(self, topic: Topic) -> list[Subscription]:
        """Return the subscriptions to `topic` in order of declaration."""
        return self._subscriptions.get(topic, [])

    def subscribed(self) -> Iterator[tuple[Topic, list[Subscription]]]:
        """Yield every topic that has subscriptions, with them."""
        yield from ((topic, found) for topic, found in self._subscriptions.items() if found)

    def topics_of(self, component: str) -> list[Topic]:
        """Return the topics of a component that are known so far."""
        return list(self._topics[component].values())

    def topics(self) -> list[Topic]:
        """Return every topic known so far: subscribed, declared or emitted."""
        return [topic for topics in self._topics.values() for topic in topics.values()]

    def freeze(self) -> None:
        """Refuse components and subscriptions from now on: the flow starts.

        Raises:
            GraphError: events would go round in a circle of components for ever, or a foreign topic
                is not only one source's.
        """
        for topic in self.topics():
            if topic.foreign is not None:
                self._claim(topic)
        circle = self._circle()
        if circle:
            raise GraphError(
                f"the subscriptions make a circle: {' -> '.join(circle)}; "
                "an event would go round it for ever, so give one step a component of its own"
            )
        for topic, subscriptions in self.subscribed():
            for subscription in subscriptions:
                subscription.errors.hold_letters_about(topic)
        self._frozen = True

    def _claim(self, topic: Topic) -> None:
        """Keep a foreign topic for its source: the worker knows a topic's events by its name."""
        other = self._names.setdefault(topic.name.replace(".", "_"), topic)
        if other is not topic:
            raise GraphError(
                f"{topic.component!r} reads the topic {topic.name!r}, which is that of "
                f"{other.full_name!r} already; subscribe to that one, as often as you like"
            )
        spec = self.plan.specs.get(topic.full_name)
        if spec is not None:
            raise GraphError(
                f"{spec.file} has the topic of {topic.full_name!r}, which is {topic.name!r} and "
                "not made by aiopype; take it out there"
            )

    def _circle(self) -> list[str]:
        """Return the components of a circle, the first one again at the end; or nothing.

        A component may handle an event of its own: what its handlers emit is not known before
        they run, and a step of its own back to itself is seen at a glance.
        """
        followers: dict[str, list[str]] = {component: [] for component in self._topics}
        for component, topics in self._topics.items():
            for topic in topics.values():
                handled_by = [s.component for s in self.subscriptions(topic)]
                followers[component] += [name for name in handled_by if name != component]
        try:
            TopologicalSorter(followers).prepare()
        except CycleError as error:
            # graphlib goes from what comes after to what comes before.
            found: list[str] = error.args[1]
            return found[::-1]
        return []


def _refuse_conditions(handler: Handler, what: str) -> None:
    """Raise GraphError when a handler cannot be run as its component says."""
    component = getattr(handler, "__self__")  # noqa: B009 - not every callable has one
    concurrency, is_coroutine = component.concurrency, inspect.iscoroutinefunction(handler)
    if not isinstance(concurrency, int) or concurrency < 1:
        raise GraphError(
            f"handler {what}: concurrency = {concurrency!r}; "
            "it is how many events are worked on at once, 1 or more"
        )
    if is_coroutine and not component.timeout_seconds > 0:
        raise GraphError(
            f"handler {what}: timeout_seconds = {component.timeout_seconds!r}; "
            "give more than 0, or float('inf') for no limit"
        )
    if component.blocking and is_coroutine:
        raise GraphError(
            f"handler {what} is a coroutine function, and its component is declared `blocking`, "
            "which is for functions; declare it with `def`, or take `blocking` away and await"
        )
    if concurrency > 1 and not component.blocking and not is_coroutine:
        raise GraphError(
            f"handler {what}: concurrency = {concurrency} does nothing for a function; "
            "declare it with `async def`, or its component `blocking = True`"
        )
