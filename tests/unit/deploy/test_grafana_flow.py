"""A flow's own board has a row a manager, and its components as the graph has them."""

import itertools

import pytest

from aiopype import Processor, Source
from aiopype.deploy.grafana_flow import manager_rows
from aiopype.pipelines import Pipelines
from aiopype.protocol.sync import SyncProtocol


class Feed(Source):
    async def start(self):
        pass


class Writer(Processor):
    def write(self, value):
        pass


@pytest.fixture
def pipelines(declare):
    def wire(manager):
        named = manager.build_processor_name
        manager.feed = Feed(named("feed"), manager.handler)
        manager.writer = Writer(named("writer"), manager.handler)
        manager.idle = Writer(named("idle"), manager.handler)
        manager.feed.on("tick", manager.writer.write)

    managers = [declare(wire), declare(wire)]
    return Pipelines([m.name for m in managers], SyncProtocol())


def test_there_is_a_row_for_each_manager_in_their_order(pipelines):
    titles = [row.title for row in manager_rows(pipelines)]

    assert titles == [f"Manager {manager.name}" for manager in pipelines.managers]


def test_components_stand_in_the_order_of_the_graph(pipelines):
    (row, _) = manager_rows(pipelines)

    names = [name for name, _ in itertools.groupby(p.title.split(":")[0] for p in row.panels)]
    assert names == ["feed", "writer", "idle"]


def test_a_source_shows_its_state_and_a_processor_its_handlers(pipelines):
    (row, _) = manager_rows(pipelines)
    read = {name: set() for name in ("feed", "writer", "idle")}
    for panel in row.panels:
        read[panel.title.split(":")[0]] |= set(panel.metrics)

    assert "aiopype_source_state" in read["feed"]
    assert "aiopype_handling_seconds" not in read["feed"]
    assert "aiopype_handling_seconds" in read["writer"]
    assert read["idle"] == {"aiopype_events_total"}


def test_the_queries_are_of_that_component_alone(pipelines):
    for row, manager in zip(manager_rows(pipelines), pipelines.managers, strict=True):
        for panel in row.panels:
            component = panel.title.split(":")[0]
            for query in panel.queries:
                assert f'manager="{manager.name}",component="{component}"' in query.expr
