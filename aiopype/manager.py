"""Managers: each declares one pipeline, from its source to its output."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar

from aiopype.emitter import MessageHandler
from aiopype.errors import GraphError
from aiopype.graph import manager_of
from aiopype.processor import Processor
from aiopype.replays import is_replays
from aiopype.restarts import RestartPolicy
from aiopype.source import Source

__all__ = ["DescriptiveManager", "Manager", "find_managers"]


class Manager:
    """Builds the components of one pipeline and wires them with `on`, in its `__init__`.

    Attributes:
        name: the manager's name, the first part of its topics' names; a flow's `FLOWS` lists it.
        guarantee: `exactly_once` or `at_least_once` for its events on Kafka; the flow's if None.
        run_always: whether a source that has ended is started again.
        restarts: how this manager, or a source of it, is started again after a failure.
        source: the component that starts the pipeline, set by the subclass.

    Arguments:
        handler: the flow's protocol; pass it on to the components.
    """

    name: ClassVar[str | None] = None
    guarantee: ClassVar[str | None] = None
    run_always: ClassVar[bool] = False
    restarts: RestartPolicy = RestartPolicy()
    source: Processor | None = None

    def __init__(self, handler: MessageHandler) -> None:
        self.handler = handler

    def build_processor_name(self, name: str) -> str:
        """Return the full name `<manager>.<name>` of a component."""
        return f"{self.name}.{name}"

    @property
    def components(self) -> list[Processor]:
        """The components of this manager, in the order they were built."""
        return [
            component
            for component in self.handler.components
            if manager_of(component.name) == self.name and not is_replays(component.name)
        ]

    @property
    def sources(self) -> list[Source]:
        """The components that start something."""
        return [component for component in self.components if isinstance(component, Source)]

    @property
    def done(self) -> bool:
        """Whether all sources have ended."""
        return all(source.is_done for source in self.sources)

    def should_restart(self) -> bool:
        """Say whether a source of this manager that has ended is started again."""
        return self.run_always

    def remove_all_listeners(self) -> None:
        """Remove all subscriptions of this manager's components.

        Raises:
            GraphError: the flow has started.
        """
        for component in self.components:
            component.remove_all_listeners()


class DescriptiveManager(Manager):
    """A manager declared as data.

        class Prices(DescriptiveManager):
            name = "prices"
            processors = {
                "source": {"cls": Quotes, "args": ["AAPL"]},
                "writer": {"cls": Writer, "kwargs": {"filename": "prices.csv"}},
            }
            flows = [
                {"origin": "source", "event": "data", "target": "writer", "function": "write"},
            ]

    Attributes:
        processors: by short name: `cls`, and optional `args` and `kwargs` after name and handler.
        flows: the subscriptions, in order.

    Raises:
        GraphError: a subscription names a component or method that does not exist.
    """

    processors: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    flows: ClassVar[Sequence[Mapping[str, str]]] = ()

    def __init__(self, handler: MessageHandler) -> None:
        super().__init__(handler)
        self.built: dict[str, Processor] = {}
        for name, spec in self.processors.items():
            self._complete(f"processor {name!r}", spec, ("cls",))
            self.built[name] = spec["cls"](
                self.build_processor_name(name),
                handler,
                *spec.get("args", ()),
                **spec.get("kwargs", {}),
            )
        self.source = next((c for c in self.built.values() if isinstance(c, Source)), None)
        for flow in self.flows:
            self._complete(f"flow {flow!r}", flow, ("origin", "event", "target", "function"))
            origin, target = self._named(flow["origin"]), self._named(flow["target"])
            function = getattr(target, flow["function"], None)
            if function is None:
                raise GraphError(
                    f"manager {self.name!r}: {target!r} has no method {flow['function']!r}"
                )
            origin.on(flow["event"], function)

    def _complete(self, what: str, given: Mapping[str, Any], keys: Iterable[str]) -> None:
        for key in keys:
            if key not in given:
                raise GraphError(f"manager {self.name!r}: {what} has no {key!r}")

    def _named(self, name: str) -> Processor:
        if name not in self.built:
            raise GraphError(f"manager {self.name!r} has no processor {_nearest(name, self.built)}")
        return self.built[name]


def find_managers(names: Iterable[str]) -> list[type[Manager]]:
    """Return the managers of these names among the subclasses of `Manager`, in that order.

    A file that was imported twice (as `__main__` and by its name) counts once.

    Raises:
        GraphError: a name is given twice, belongs to no manager, or to several.
    """
    wanted = list(names)
    known: dict[str, dict[tuple[str, str], type[Manager]]] = {}
    for cls in _subclasses(Manager):
        if cls.name:
            known.setdefault(cls.name, {})[_origin(cls)] = cls
    for name in wanted:
        if wanted.count(name) > 1:
            raise GraphError(f"FLOWS names manager {name!r} twice")
        if name not in known:
            raise GraphError(f"FLOWS names a manager that does not exist: {_nearest(name, known)}")
        if len(known[name]) > 1:
            places = " and ".join(f"{cls} in {file}" for file, cls in sorted(known[name]))
            raise GraphError(f"two managers have the name {name!r}: {places}")
    return [next(iter(known[name].values())) for name in wanted]


def _subclasses(cls: type[Manager]) -> Iterator[type[Manager]]:
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)


def _origin(cls: type[Manager]) -> tuple[str, str]:
    # A file run as a program is the module __main__, and another one when it is imported as well.
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return file or cls.__module__, cls.__qualname__


def _nearest(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {known}" if known else "none yet"
    return f"{name!r} ({hint})"
