"""The alerts: each can be read, is explained, has a unit test, and the file is what is made."""

import re
from pathlib import Path

import promql_parser
import pytest
import yaml

from aiopype.deploy import prometheus
from aiopype.deploy.prometheus_alerts import ALERTS, workers_gone
from aiopype.metrics.definitions import METRICS
from aiopype.pipelines import Pipelines
from aiopype.protocol.sync import SyncProtocol
from aiopype.target import load_flow

REPOSITORY = Path(__file__).parents[3]
FOLDER = REPOSITORY / "deploy/prometheus"
EACH = [alert for alerts in ALERTS.values() for alert in alerts]

each_alert = pytest.mark.parametrize("alert", EACH, ids=[alert.name for alert in EACH])


@pytest.fixture(scope="module")
def demo():
    return load_flow("aiopype.demo.flow:dataflow").build()


@each_alert
def test_its_query_can_be_read(alert):
    promql_parser.parse(alert.expr)


@each_alert
def test_it_reads_metrics_that_there_are(alert):
    found = {re.sub("_bucket$", "", name) for name in re.findall(r"aiopype_\w+", alert.expr)}

    assert found
    assert found <= set(METRICS)


@each_alert
def test_its_texts_name_only_labels_that_its_series_have(alert):
    named = set(re.findall(r"\$labels\.(\w+)", alert.summary + alert.description))

    assert named <= set(alert.labels)


@each_alert
def test_the_runbook_has_a_paragraph_of_it(alert):
    text = (REPOSITORY / "docs/runbook.md").read_text()
    _, _, paragraph = text.partition(f"\n## {alert.name}\n")
    paragraph, _, _ = paragraph.partition("\n## ")

    for part in ("**Means.**", "**Look.**", "**Do.**", "**Silence.**"):
        assert part in paragraph


@each_alert
def test_a_unit_test_shows_it_fire_and_stay_quiet(alert):
    """`make check-deploy` runs them."""
    content = yaml.safe_load((FOLDER / f"tests/{alert.name}.yml").read_text())
    checks = [check for test in content["tests"] for check in test["promql_expr_test"]]

    assert all(f'alertname="{alert.name}",alertstate="firing"' in c["expr"] for c in checks)
    assert {bool(check["exp_samples"]) for check in checks} == {True, False}


def test_the_runbook_and_the_unit_tests_are_of_alerts_that_there_are():
    names = {alert.name for alert in EACH}
    text = (REPOSITORY / "docs/runbook.md").read_text()

    assert set(re.findall(r"^## (Aiopype\w+)$", text, re.MULTILINE)) == names
    assert {file.stem for file in (FOLDER / "tests").glob("*.yml")} == names


def test_every_alert_has_a_name_of_its_own():
    assert len({alert.name for alert in EACH}) == len(EACH)


def test_the_file_is_what_is_made():
    """If not: `aiopype deploy prometheus`, and take its `rules.yml`."""
    assert (FOLDER / "rules.yml").read_text() == prometheus.rules()


def test_the_rules_lead_to_the_runbook_that_was_given():
    groups = yaml.safe_load(prometheus.rules("https://example.org/runbook"))["groups"]
    urls = {
        rule["alert"]: rule["annotations"]["runbook_url"]
        for group in groups
        for rule in group["rules"]
    }

    assert urls["AiopypeFencing"] == "https://example.org/runbook#aiopypefencing"


def test_a_flows_own_rules_miss_its_workers_and_each_of_its_sources(demo):
    (group,) = yaml.safe_load(prometheus.flow_rules("demo", demo))["groups"]
    workers, sources = group["rules"]

    assert workers["expr"] == 'absent(aiopype_worker_ready{flow="demo"})'
    for manager, component in (("aapl", "source"), ("trades", "feed")):
        of = f'{{flow="demo",manager="{manager}",component="{component}"}}'
        assert f"absent(aiopype_source_state{of})" in sources["expr"]
    promql_parser.parse(sources["expr"])


def test_a_flow_without_sources_of_its_own_misses_its_workers_alone(declare):
    (group,) = yaml.safe_load(
        prometheus.flow_rules("quiet", Pipelines([declare().name], SyncProtocol()))
    )["groups"]

    assert [rule["expr"] for rule in group["rules"]] == [workers_gone("quiet").expr]
