"""The graph for people."""

from __future__ import annotations

from typing import Any

import pytest

from aiopype import Manager, Processor, Source, SyncProtocol
from aiopype.diagram import as_mermaid, as_text
from aiopype.pipelines import Pipelines
from aiopype.sources import TopicSource


class Feed(Source):
    events = ("raw", "unheard")


class Step(Processor):
    def take(self, value: Any) -> None:
        self.emit("taken", value)

    def note(self, value: Any) -> None:
        pass


class Drawn(Manager):
    name = "drawn"

    def __init__(self, handler: Any) -> None:
        super().__init__(handler)
        self.feed = Feed(self.build_processor_name("feed"), handler)
        self.step = Step(self.build_processor_name("step"), handler)
        self.end = Step(self.build_processor_name("end"), handler)
        self.feed.on("raw", self.step.take)
        self.feed.on("raw", self.end.note)
        self.step.on("taken", self.end.take)


@pytest.fixture
def pipelines() -> Pipelines:
    return Pipelines(["drawn"], SyncProtocol())


def test_the_text_has_every_component_with_its_events_and_who_handles_them(
    pipelines: Pipelines,
) -> None:
    assert as_text(pipelines).splitlines() == [
        "manager drawn",
        "  source drawn.feed (Feed)",
        "    drawn.feed.raw -> drawn.step.take, drawn.end.note",
        "    drawn.feed.unheard",
        "  processor drawn.step (Step)",
        "    drawn.step.taken -> drawn.end.take",
        "  processor drawn.end (Step)",
    ]


def test_the_mermaid_has_an_arrow_a_subscription_and_a_topic_that_nobody_hears(
    pipelines: Pipelines,
) -> None:
    lines = [line.strip() for line in as_mermaid(pipelines).splitlines()]
    assert lines[0] == "flowchart LR"
    assert 'c0(["drawn.feed"])' in lines
    assert 'c1["drawn.step"]' in lines
    assert 'c0 -- "raw" --> c1' in lines
    assert 'c0 -- "raw" --> c2' in lines
    assert 'c1 -- "taken" --> c2' in lines
    assert 'c0 -- "unheard" --> c0_unheard[("drawn.feed.unheard")]' in lines


@pytest.fixture
def foreign() -> Pipelines:
    class Foreign(Manager):
        name = "foreign"

        def __init__(self, handler: Any) -> None:
            super().__init__(handler)
            self.feed = TopicSource(self.build_processor_name("feed"), handler, "orders")
            self.idle = TopicSource(self.build_processor_name("idle"), handler, "returns")
            self.step = Step(self.build_processor_name("step"), handler)
            self.feed.on("message", self.step.note)

    return Pipelines(["foreign"], SyncProtocol())


def test_a_topic_of_others_is_shown_by_its_name(foreign: Pipelines) -> None:
    assert as_text(foreign).splitlines() == [
        "manager foreign",
        "  source foreign.feed (TopicSource)",
        "    orders (foreign) -> foreign.step.note",
        "  source foreign.idle (TopicSource)",
        "    returns (foreign)",
        "  processor foreign.step (Step)",
    ]


def test_a_source_that_reads_a_topic_of_others_begins_with_it(foreign: Pipelines) -> None:
    lines = [line.strip() for line in as_mermaid(foreign).splitlines()]

    assert [line for line in lines if "-->" in line] == [
        'c0_message[("orders")] --> c0',
        'c0 -- "message" --> c2',
        'c1_message[("returns")] --> c1',
    ]
