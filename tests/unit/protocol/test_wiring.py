import pytest

from aiopype import AsyncProtocol, SyncProtocol
from aiopype.emitter import MessageHandler
from aiopype.errors import GraphError

PROTOCOLS = pytest.mark.parametrize("protocol", [SyncProtocol, AsyncProtocol])


def required():
    """The names that a component uses of its protocol."""
    return {name for name in vars(MessageHandler) if not name.startswith("_")}


@PROTOCOLS
def test_a_protocol_has_all_that_components_use(protocol):
    assert required() <= set(dir(protocol())) | {"components"}
    assert protocol().components == []


@PROTOCOLS
def test_each_protocol_has_a_graph_of_its_own(protocol, collector):
    one, other = protocol(), protocol()

    collector("m.sink", one)

    assert other.components == []
    assert other.graph.components == []


@PROTOCOLS
def test_the_topics_of_a_component_grow_as_events_become_known(protocol):
    class Component:
        name = "m.component"

    wiring = protocol()
    topics = wiring.add(Component())

    number = wiring.topic("m.component", "number")

    assert topics == {"number": number}


@PROTOCOLS
def test_a_source_has_not_ended_before_it_is_said_to(protocol):
    wiring = protocol()
    assert not wiring.is_done("m.source")

    wiring.end("m.source")

    assert wiring.is_done("m.source")
    assert not wiring.is_done("m.other")


@PROTOCOLS
def test_a_source_that_had_ended_can_be_run_again(protocol):
    wiring = protocol()
    wiring.end("m.source")
    wiring.end("m.other")

    wiring.begin("m.source")
    wiring.begin("m.never_ended")

    assert not wiring.is_done("m.source")
    assert wiring.is_done("m.other")


@PROTOCOLS
def test_a_position_that_was_never_given_can_be_forgotten(protocol):
    protocol().forget("m.source")


@PROTOCOLS
def test_a_frozen_wiring_takes_no_component_and_no_subscription(protocol, collector):
    wiring = protocol()
    sink = collector("m.sink", wiring)
    wiring.freeze()

    with pytest.raises(GraphError, match="after the start"):
        collector("m.late", wiring)
    with pytest.raises(GraphError, match="after the start"):
        sink.on("number", sink.take)
    assert wiring.components == [sink]
