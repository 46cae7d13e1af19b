import sys

import pytest

from aiopype import AsyncFlow, Flow
from aiopype.errors import TargetError
from aiopype.target import load_flow

FLOW = """
from aiopype import AsyncFlow

class Config:
    FLOWS = ["prices"]

dataflow = AsyncFlow(Config())
if __name__ == "__main__":
    raise SystemExit("this is not run")
"""
TWO_FLOWS = FLOW + "another = AsyncFlow(Config())\n"


@pytest.fixture(autouse=True)
def imports(monkeypatch, tmp_path):
    """Modules come from an empty folder, the current one, and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture
def write(tmp_path):
    """Writes a file below the current folder."""

    def run(path, text=FLOW):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return run


# --- a file


def test_a_file_leads_to_its_flow(write):
    write("ticks_file.py")

    flow = load_flow("ticks_file.py")

    assert isinstance(flow, AsyncFlow)
    assert flow.name == "ticks_file"


def test_a_file_elsewhere_leads_to_its_flow(write):
    file = write("deep/down/ticks_deep.py")

    assert load_flow(str(file)).name == "ticks_deep"


def test_a_file_can_import_what_lies_beside_it(write):
    write("project/beside_ticks.py", "NAME = 'from beside'")
    write(
        "project/ticks_importing.py", FLOW + "from beside_ticks import NAME\ndataflow.name = NAME"
    )

    assert load_flow("project/ticks_importing.py").name == "from beside"


def test_one_flow_with_two_names_is_one(write):
    write("ticks_alias.py", FLOW + "app = dataflow\n")

    assert load_flow("ticks_alias.py").name == "ticks_alias"


def test_a_file_without_a_flow_is_refused_with_what_it_needs(write):
    write("no_flow.py", "x = 1")

    with pytest.raises(TargetError, match=r"no_flow.py makes no flow; it needs `dataflow = "):
        load_flow("no_flow.py")


def test_a_file_with_two_flows_is_refused_with_their_names(write):
    write("two_flows.py", TWO_FLOWS)

    with pytest.raises(TargetError, match=r"several flows, name one: \['another', 'dataflow'\]"):
        load_flow("two_flows.py")


@pytest.mark.parametrize("target", ["missing.py", "missing/ticks.py"])
def test_a_file_that_is_missing_is_refused(target):
    with pytest.raises(TargetError, match=f"there is no file '{target}'"):
        load_flow(target)


def test_a_file_that_is_not_python_is_refused(write):
    write("notes.txt", "no Python")

    with pytest.raises(TargetError, match=r"notes.txt' is not a Python file"):
        load_flow("notes.txt")


@pytest.mark.parametrize(
    ("text", "error"),
    [("def", SyntaxError), ("1 / 0", ZeroDivisionError), ("import nix", ImportError)],
)
def test_what_a_file_raises_is_raised(write, text, error):
    write("raising_file.py", text)

    with pytest.raises(error):
        load_flow("raising_file.py")


def test_a_file_that_raised_is_not_imported(write):
    write("raising_half.py", "1 / 0")

    with pytest.raises(ZeroDivisionError):
        load_flow("raising_half.py")
    assert "raising_half" not in sys.modules


def test_a_file_named_like_a_module_in_use_does_not_replace_it(write):
    # `python logging.py` would not either: what is imported stays imported.
    import logging  # noqa: PLC0415 - the module that must not be replaced

    write("logging.py")

    assert load_flow("logging.py").name == "logging"
    assert sys.modules["logging"] is logging


# --- a module


def test_a_module_and_attribute_lead_to_the_flow(write):
    write("ticks_module.py", TWO_FLOWS)

    assert load_flow("ticks_module:another") is sys.modules["ticks_module"].another


def test_a_module_of_a_package_leads_to_the_flow(write):
    write("ticks_package/__init__.py", "")
    write("ticks_package/main.py", FLOW)

    assert load_flow("ticks_package.main:dataflow").name == "main"


def test_a_module_with_one_flow_needs_no_attribute(write):
    write("ticks_only.py")

    assert isinstance(load_flow("ticks_only"), Flow)


def test_a_module_with_two_flows_needs_an_attribute(write):
    write("ticks_two.py", TWO_FLOWS)

    with pytest.raises(TargetError, match="several flows"):
        load_flow("ticks_two")


@pytest.mark.parametrize("target", ["no_such_module", "no_such_module:flow", "no_such.module:flow"])
def test_a_module_that_is_missing_is_refused_with_what_to_give(target):
    with pytest.raises(TargetError, match=r"there is no module .*; give the path of a file"):
        load_flow(target)


def test_a_module_that_misses_another_raises_that(write):
    write("ticks_missing.py", "import no_such_library")

    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        load_flow("ticks_missing:dataflow")


@pytest.mark.parametrize("attribute", ["missing", "Config", "dataflow.name"])
def test_an_attribute_that_is_no_flow_is_refused(write, attribute):
    write("ticks_attribute.py")

    with pytest.raises(TargetError, match=f"'{attribute}' of ticks_attribute is .*, not a flow"):
        load_flow(f"ticks_attribute:{attribute}")


@pytest.mark.parametrize("target", ["", ":", ":flow", ".", ".relative", ".relative:flow", ".."])
def test_a_target_without_a_name_is_refused(target):
    with pytest.raises(TargetError):
        load_flow(target)
