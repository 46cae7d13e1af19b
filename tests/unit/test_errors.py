import inspect
import re

import pytest

from aiopype import errors

CLASSES = {name: cls for name, cls in vars(errors).items() if inspect.isclass(cls)}


def drawn_tree():
    """Return the parent of each class as the module's docstring draws it."""
    tree, above = {}, {0: "Exception"}
    for indent, name in re.findall(r"^((?: {4})+)([A-Z]\w+)", errors.__doc__, re.MULTILINE):
        depth = len(indent) // 4
        tree[name] = above[depth - 1]
        above[depth] = name
    return tree


def test_the_tree_in_the_docstring_is_that_of_the_classes():
    assert drawn_tree() == {name: cls.__base__.__name__ for name, cls in CLASSES.items()}


def test_every_error_is_exported_in_order():
    assert errors.__all__ == sorted(CLASSES)


@pytest.mark.parametrize("cls", CLASSES.values())
def test_every_error_can_be_caught_as_an_error_of_aiopype(cls):
    with pytest.raises(errors.AiopypeError, match="why"):
        raise cls("why")
