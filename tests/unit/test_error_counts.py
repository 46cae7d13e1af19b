import pytest

from aiopype.error_counts import CLASSES, OTHER, ErrorCounts


@pytest.fixture
def errors():
    return ErrorCounts()


def test_errors_are_counted_by_component_and_class(errors):
    for component, error in [("m.a", KeyError()), ("m.a", KeyError()), ("m.b", OSError())]:
        errors.add(component, error)

    assert errors.by_component == {"m.a": {"KeyError": 2}, "m.b": {"OSError": 1}}


def test_beyond_so_many_classes_of_a_component_further_ones_are_counted_together(errors):
    classes = [type(f"Error{n}", (Exception,), {}) for n in range(CLASSES + 10)]
    for cls in classes:
        errors.add("m.a", cls())
    errors.add("m.a", classes[0]())
    errors.add("m.b", classes[-1]())

    assert len(errors.by_component["m.a"]) == CLASSES + 1
    assert errors.by_component["m.a"][OTHER] == 10
    assert errors.by_component["m.a"]["Error0"] == 2
    assert errors.by_component["m.b"] == {classes[-1].__name__: 1}
