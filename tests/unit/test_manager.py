import sys
import types

import pytest

from aiopype import DescriptiveManager, Manager, Processor
from aiopype.errors import GraphError
from aiopype.manager import find_managers

FILE = """
from aiopype import Manager

class Prices(Manager):
    name = "imported_twice"
"""


@pytest.fixture
def imported(monkeypatch):
    """Imports the same text as a module of this name that comes from this file."""

    def run(name, file):
        module = types.ModuleType(name)
        module.__file__ = file
        monkeypatch.setitem(sys.modules, name, module)
        exec(FILE, vars(module))
        return module.Prices

    return run


@pytest.fixture
def pipeline(declare, numbers, collector):
    """A manager class: a source, a sink, one subscription."""

    def wire(manager):
        manager.source = numbers(manager.build_processor_name("source"), manager.handler)
        manager.sink = collector(manager.build_processor_name("sink"), manager.handler)
        manager.source.on("number", manager.sink.take)

    return declare(wire)


# --- a manager


def test_a_component_is_named_after_its_manager(declare, recorder):
    manager = declare(name="prices")(recorder)

    assert manager.build_processor_name("parse") == "prices.parse"


def test_a_manager_knows_its_components_and_sources(pipeline, recorder, collector):
    collector("other.sink", recorder)

    manager = pipeline(recorder)

    assert manager.components == [manager.source, manager.sink]
    assert manager.sources == [manager.source]


def test_a_manager_does_not_take_components_of_one_whose_name_begins_alike(
    declare, recorder, collector
):
    manager = declare(name="prices")(recorder)
    collector("prices_of_yesterday.sink", recorder)

    assert manager.components == []


def test_a_manager_is_done_when_all_its_sources_have_ended(declare, recorder, numbers):
    def wire(manager):
        for name in ("a", "b"):
            numbers(manager.build_processor_name(name), manager.handler)

    manager = declare(wire)(recorder)
    assert not manager.done

    recorder.end(manager.build_processor_name("a"))
    assert not manager.done

    recorder.end(manager.build_processor_name("b"))
    assert manager.done


@pytest.mark.parametrize("always", [True, False])
def test_a_manager_that_always_runs_is_restarted(declare, recorder, always):
    assert declare(run_always=always)(recorder).should_restart() is always


def test_a_manager_is_not_restarted_unless_it_says_so(declare, recorder):
    assert declare()(recorder).should_restart() is False


def test_a_manager_can_remove_all_its_listeners(pipeline, recorder, numbers, collector):
    manager = pipeline(recorder)
    other, sink = numbers("other.source", recorder), collector("other.sink", recorder)
    other.on("number", sink.take)

    manager.remove_all_listeners()

    assert manager.source.listeners("number") == []
    assert other.listeners("number") == [sink.take]


# --- a manager declared as data


@pytest.fixture
def description(numbers, collector):
    return {
        "processors": {
            "sink": {"cls": collector},
            "source": {"cls": numbers, "args": [5]},
            "other": {"cls": numbers, "kwargs": {"count": 7}},
        },
        "flows": [
            {"origin": "source", "event": "number", "target": "sink", "function": "take"},
            {"origin": "other", "event": "number", "target": "sink", "function": "take_async"},
        ],
    }


def test_a_description_builds_and_wires_the_components(declare, recorder, description):
    manager = declare(base=DescriptiveManager, **description)(recorder)

    sink, source, other = (manager.built[name] for name in ("sink", "source", "other"))
    assert source.name == manager.build_processor_name("source")
    assert (source.count, other.count) == (5, 7)
    assert source.listeners("number") == [sink.take]
    assert other.listeners("number") == [sink.take_async]
    assert manager.components == [sink, source, other]


def test_the_first_source_of_a_description_is_the_managers(declare, recorder, description):
    manager = declare(base=DescriptiveManager, **description)(recorder)

    assert manager.source is manager.built["source"]


def test_a_description_without_a_source_has_none(declare, recorder, collector):
    processors = {"sink": {"cls": collector}}
    manager = declare(base=DescriptiveManager, processors=processors)(recorder)

    assert manager.source is None


@pytest.mark.parametrize("end", ["origin", "target"])
def test_a_processor_that_is_not_described_is_refused_with_the_nearest(
    declare, recorder, description, end
):
    description["flows"][0][end] = "sourse"

    with pytest.raises(GraphError, match=r"no processor 'sourse' \(did you mean 'source'\?\)"):
        declare(base=DescriptiveManager, **description)(recorder)


def test_a_function_that_the_target_has_not_is_refused(declare, recorder, description):
    description["flows"][0]["function"] = "takes"

    with pytest.raises(GraphError, match=r"<Collector manager.*sink> has no method 'takes'"):
        declare(base=DescriptiveManager, **description)(recorder)


# --- finding managers by their names


def test_managers_are_found_in_the_order_they_are_named(declare):
    first, second, third = declare(), declare(), declare()

    assert find_managers([third.name, first.name]) == [third, first]
    assert find_managers([second.name]) == [second]


def test_managers_of_managers_are_found(declare):
    parent = declare()
    child = declare(base=parent)

    assert find_managers([child.name, parent.name]) == [child, parent]


def test_no_names_find_no_managers():
    assert find_managers([]) == []


def test_a_name_that_no_manager_has_is_refused_with_the_nearest(declare):
    known = declare(name="yahoo_apple")

    with pytest.raises(GraphError, match=r"'yahoo_aple' \(did you mean 'yahoo_apple'\?\)"):
        find_managers([known.name, "yahoo_aple"])


def test_a_name_far_from_all_is_refused_with_all_there_are(declare):
    known = declare(name="yahoo_apple")

    with pytest.raises(GraphError, match=r"'zzz' \(there are \[.*'yahoo_apple'.*\]\)") as refusal:
        find_managers(["zzz"])
    assert known.name in str(refusal.value)


def test_a_manager_without_a_name_cannot_be_named(declare):
    unnamed = declare(name=None)

    with pytest.raises(GraphError, match="does not exist"):
        find_managers(["None"])
    assert unnamed.name is None


def test_a_name_given_twice_is_refused(declare):
    name = declare().name

    with pytest.raises(GraphError, match=f"FLOWS names manager '{name}' twice"):
        find_managers([name, name])


def test_two_managers_of_one_name_are_refused_with_their_places(declare):
    class One(Manager):
        name = "of_two_classes"

    class Two(Manager):
        name = "of_two_classes"

    with pytest.raises(GraphError, match="two managers have the name 'of_two_classes'") as refusal:
        find_managers(["of_two_classes"])
    assert "One in " in str(refusal.value)
    assert "Two in " in str(refusal.value)
    assert One is not Two


def test_a_file_that_was_imported_twice_counts_once(imported):
    once, again = imported("as_main", "/f/prices.py"), imported("as_module", "/f/prices.py")

    (found,) = find_managers(["imported_twice"])

    assert found in {once, again}


def test_the_same_class_name_in_two_files_counts_twice(imported):
    classes = imported("one_module", "/f/one.py"), imported("two_module", "/f/two.py")

    with pytest.raises(GraphError, match=r"Prices in /f/one.py and Prices in /f/two.py"):
        find_managers(["imported_twice"])
    assert len(classes) == 2


@pytest.mark.parametrize("missing", ["origin", "event", "target", "function"])
def test_a_declared_flow_must_be_complete(recorder, missing):
    flow = {"origin": "a", "event": "e", "target": "a", "function": "done"}
    flow.pop(missing)

    class Incomplete(DescriptiveManager):
        name = f"incomplete{missing}"
        processors = {"a": {"cls": Processor}}  # noqa: RUF012
        flows = [flow]  # noqa: RUF012

    with pytest.raises(GraphError, match=f"has no '{missing}'"):
        Incomplete(recorder)
