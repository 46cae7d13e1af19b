"""Prometheus' own checker over rules, unit tests and configuration; and over broken ones."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiopype.deploy import prometheus
from aiopype.target import load_flow

pytestmark = pytest.mark.deploy

Promtool = Callable[..., subprocess.CompletedProcess[str]]
ALERTS = sorted(
    file.stem for file in (Path(__file__).parents[2] / "deploy/prometheus/tests").glob("*.yml")
)


@pytest.fixture
def promtool(prometheus_programs: dict[str, Path]) -> Promtool:
    """Run promtool; say how it ended."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [prometheus_programs["promtool"], *map(str, arguments)]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    """A copy of deploy/prometheus that may be broken."""
    return Path(shutil.copytree(repository / "deploy/prometheus", tmp_path / "prometheus"))


def change(file: Path, edit: Callable[[Any], object]) -> None:
    content = yaml.safe_load(file.read_text())
    edit(content)
    file.write_text(yaml.safe_dump(content))


def rules_of(content: Any) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in content["groups"] for rule in group["rules"]}


def test_the_configuration_and_the_rules_that_it_loads_are_sound(
    promtool: Promtool, copy: Path
) -> None:
    checked = promtool("check", "config", copy / "prometheus.yml")

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "rule files found" in checked.stdout


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("prometheus.yml", "dns_sd_configs", "dns_sd_confgs"),
        ("prometheus.yml", "scrape_interval: 15s", "scrape_interval: 15 apples"),
        ("rules.yml", "max by (flow) (", "max by (flow ("),
        ("rules.yml", "for: 2m", "for: a while"),
        ("rules.yml", "{{ $labels.flow }}", "{{ $labels.flow"),
    ],
)
def test_a_broken_configuration_or_rule_is_noticed(
    promtool: Promtool, copy: Path, file: str, old: str, new: str
) -> None:
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new))

    assert promtool("check", "config", copy / "prometheus.yml").returncode != 0


def test_the_rules_of_a_flow_of_its_own_are_sound(promtool: Promtool, tmp_path: Path) -> None:
    pipelines = load_flow("aiopype.demo.flow:dataflow").build()
    file = tmp_path / "rules-demo.yml"
    file.write_text(prometheus.flow_rules("demo", pipelines))

    checked = promtool("check", "rules", file)

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_rules_of_a_flow_miss_what_never_was_there(promtool: Promtool, tmp_path: Path) -> None:
    pipelines = load_flow("aiopype.demo.flow:dataflow").build()
    (tmp_path / "rules.yml").write_text(prometheus.flow_rules("demo", pipelines))
    source = 'flow="demo",manager="aapl",component="source"'
    missing = {
        "labels": 'ALERTS{alertname="AiopypeSourceUnowned",alertstate="firing",'
        'severity="warning",flow="demo",manager="trades",component="feed"}',
        "value": 1,
    }
    test = {
        "interval": "1m",
        "input_series": [
            {"series": 'aiopype_worker_ready{flow="demo"}', "values": "1x30"},
            {"series": f"aiopype_source_state{{{source}}}", "values": "1x30"},
        ],
        "promql_expr_test": [
            {"expr": 'ALERTS{alertstate="firing"}', "eval_time": "20m", "exp_samples": [missing]}
        ],
    }
    (tmp_path / "test.yml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]})
    )

    tested = promtool("test", "rules", tmp_path / "test.yml")

    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires_when_it_should_and_not_else(
    promtool: Promtool, copy: Path, alert: str
) -> None:
    tested = promtool("test", "rules", copy / f"tests/{alert}.yml")

    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_its_unit_test_notices_when_it_never_fires(
    promtool: Promtool, copy: Path, alert: str
) -> None:
    change(
        copy / "rules.yml", lambda content: rules_of(content)[alert].update(expr="vector(1) > 2")
    )

    assert promtool("test", "rules", copy / f"tests/{alert}.yml").returncode != 0


@pytest.mark.parametrize("alert", ALERTS)
def test_its_unit_test_notices_when_it_fires_without_a_reason(
    promtool: Promtool, copy: Path, alert: str
) -> None:
    """What should stay quiet is asked for alone, so that what should fire does not help."""
    change(copy / "rules.yml", lambda content: rules_of(content)[alert].update(
        expr="vector(1)", **{"for": "0m"}
    ))  # fmt: skip

    def only_quiet(content: Any) -> None:
        tests = content["tests"]
        content["tests"] = [t for t in tests if not t["promql_expr_test"][0]["exp_samples"]]

    change(copy / f"tests/{alert}.yml", only_quiet)
    assert promtool("test", "rules", copy / f"tests/{alert}.yml").returncode != 0
