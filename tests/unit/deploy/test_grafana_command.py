"""`aiopype deploy grafana` and `aiopype deploy prometheus` write files and say which."""

import json

import pytest
import yaml
from click.testing import CliRunner

from aiopype import cli
from aiopype.commands import deploy as command

DEMO = "aiopype.demo.flow:dataflow"


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(cli.main, ["deploy", *map(str, arguments)])


def test_grafana_gets_a_board_for_every_flow_and_one_for_this(run, tmp_path):
    result = run("grafana", DEMO, "--out", tmp_path / "new")

    files = [tmp_path / "new/aiopype.json", tmp_path / "new/aiopype-demo.json"]
    assert result.exit_code == 0, result.output
    assert result.output.split() == [str(file) for file in files]
    assert [json.loads(file.read_text())["uid"] for file in files] == ["aiopype", "aiopype-demo"]


def test_prometheus_gets_rules_for_every_flow_and_for_this(run, tmp_path):
    result = run("prometheus", DEMO, "--out", tmp_path, "--runbook", "https://example.org/r")

    files = [tmp_path / "rules.yml", tmp_path / "rules-demo.yml"]
    assert result.exit_code == 0, result.output
    assert result.output.split() == [str(file) for file in files]
    for file in files:
        (rule, *_) = yaml.safe_load(file.read_text())["groups"][0]["rules"]
        assert rule["annotations"]["runbook_url"] == "https://example.org/r#aiopypeworkersgone"


@pytest.mark.parametrize("command", ["grafana", "prometheus"])
def test_a_flow_in_process_has_nothing_to_show(run, tmp_path, command):
    file = tmp_path / "inside.py"
    file.write_text("from aiopype import Flow\nclass Config: FLOWS = ()\nflow = Flow(Config())\n")
    result = run(command, file, "--out", tmp_path / "new")

    assert result.exit_code == 1
    assert "is a Flow, which runs in process and has no metrics" in result.output
    assert not (tmp_path / "new").exists()


def test_without_the_extra_it_says_how_to_install_it(run, tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("no", name="grafana_foundation_sdk")

    monkeypatch.setattr(command.importlib, "import_module", missing)
    result = run("grafana", DEMO, "--out", tmp_path)

    assert result.exit_code == 1
    assert "grafana_foundation_sdk is not installed" in result.output
    assert "pip install 'aiopype[deploy]'" in result.output


def test_a_module_of_our_own_that_is_missing_is_no_missing_extra(run, tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("no", name=name)

    monkeypatch.setattr(command.importlib, "import_module", missing)

    assert isinstance(run("grafana", DEMO, "--out", tmp_path).exception, ModuleNotFoundError)
