"""A flow's graph for people: as text, and as a mermaid diagram."""

from __future__ import annotations

from aiopype.graph import Graph
from aiopype.pipelines import Pipelines
from aiopype.replays import is_replays
from aiopype.source import Source
from aiopype.topics import ERROR, Topic

__all__ = ["as_mermaid", "as_text"]


def as_text(pipelines: Pipelines) -> str:
    """Return the managers, their components, and under each its events with who handles them.

    Topics and handlers are written as in logs: `<manager>.<component>.<event>` and
    `<manager>.<component>.<method>`. An event that nobody handles has no arrow. A topic of others
    has its own name.
    """
    graph = pipelines.protocol.graph
    lines: list[str] = []
    for manager in pipelines.managers:
        lines.append(f"manager {manager.name}")
        for component in manager.components:
            kind = "source" if isinstance(component, Source) else "processor"
            lines.append(f"  {kind} {component.name} ({type(component).__name__})")
            for topic in _topics(graph, component.name):
                handlers = [
                    f"{s.component}.{s.handler.__name__}" for s in graph.subscriptions(topic)
                ]
                arrows = f" -> {', '.join(handlers)}" if handlers else ""
                whose = " (foreign)" if topic.foreign else ""
                lines.append(f"    {topic.name}{whose}{arrows}")
    return "\n".join(lines)


def as_mermaid(pipelines: Pipelines) -> str:
    """Return the graph as a mermaid flowchart: components, and an arrow a subscription.

    An event that nobody handles ends in its topic; a source that reads a topic of others begins
    with it.
    """
    graph = pipelines.protocol.graph
    ids = {name: f"c{number}" for number, name in enumerate(graph.components)}
    lines = ["flowchart LR"]
    for manager in pipelines.managers:
        lines.append(f"    subgraph {manager.name}")
        for component in manager.components:
            opening, closing = ("([", "])") if isinstance(component, Source) else ("[", "]")
            lines.append(f'        {ids[component.name]}{opening}"{component.name}"{closing}')
        lines.append("    end")
    for name, number in ids.items():
        if is_replays(name):
            continue  # its work is shown by `aiopype errors`
        for topic in _topics(graph, name):
            ends = [ids[s.component] for s in graph.subscriptions(topic)]
            cylinder = f'{number}_{topic.event.replace("-", "_")}[("{topic.name}")]'
            if topic.foreign:
                lines.append(f"    {cylinder} --> {number}")
            elif not ends:
                ends = [cylinder]
            lines += [f'    {number} -- "{topic.event}" --> {end}' for end in ends]
    return "\n".join(lines)


def _topics(graph: Graph, component: str) -> list[Topic]:
    # Every component with handlers has an `error` event: worth showing only when it is handled.
    topics = graph.topics_of(component)
    return [topic for topic in topics if topic.event != ERROR or graph.subscriptions(topic)]
