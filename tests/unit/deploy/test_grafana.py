"""The boards: every metric is on them, every query can be read, and the files are what is made."""

import json
import re
from pathlib import Path

import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from aiopype.deploy import grafana
from aiopype.deploy.grafana_queries import VARIABLES
from aiopype.deploy.prometheus_alerts import ALERTS
from aiopype.metrics.definitions import METRICS, Row
from aiopype.target import load_flow

REPOSITORY = Path(__file__).parents[3]
BOARDS = REPOSITORY / "deploy/grafana/dashboards"
NAMES = {alert.name for alerts in ALERTS.values() for alert in alerts}


@pytest.fixture(scope="module")
def demo():
    return load_flow("aiopype.demo.flow:dataflow").build()


@pytest.fixture(scope="module", params=["every flow", "the demo"])
def text(request, demo):
    return grafana.board() if request.param == "every flow" else grafana.flow_board("demo", demo)


def panels(text):
    return [panel for panel in json.loads(text)["panels"] if panel["type"] != "row"]


def queries(text):
    return [target["expr"] for panel in panels(text) for target in panel["targets"]]


def filled(expr):
    """A query as Grafana sends it: with a value for each variable."""
    expr = re.sub(r"\$__(rate_interval|range)", "1m", expr)
    return re.sub(rf"\$({'|'.join(VARIABLES)})\b", ".+", expr)


def test_every_metric_is_on_a_panel():
    shown = {
        name for row in grafana.general_rows() for panel in row.panels for name in panel.metrics
    }

    assert shown == set(METRICS)


def test_what_a_panel_says_it_reads_is_what_its_queries_read():
    for row in grafana.general_rows():
        for panel in row.panels:
            for query in panel.queries:
                found = {re.sub("_(bucket|sum|count)$", "", name) if name not in METRICS else name
                         for name in re.findall(r"aiopype_\w+", query.expr)}  # fmt: skip
                assert found == set(query.metrics), panel.title


def test_the_rows_are_those_of_the_definitions():
    assert [row.title for row in grafana.general_rows()] == list(Row)


def test_every_query_can_be_read_by_prometheus(text):
    for expr in queries(text):
        assert "$" not in filled(expr), expr
        promql_parser.parse(filled(expr))


def test_a_query_that_is_broken_is_noticed():
    with pytest.raises(ValueError, match="unclosed"):
        promql_parser.parse(filled('sum by (flow (rate(aiopype_events_total{flow=~"$flow"}[1m]))'))


def test_every_query_is_of_the_chosen_flow_or_worker(text):
    for expr in queries(text):
        for name, matchers in re.findall(r"(aiopype_\w+)\{([^}]*)\}", expr):
            assert 'instance=~"$instance"' in matchers, name
            assert name.startswith("aiopype_process_") or 'flow=~"$flow"' in matchers, name


def test_every_rate_is_over_an_interval_that_fits_the_scrapes(text):
    for expr in queries(text):
        assert set(re.findall(r"\[([^]]*)\]", expr)) <= {"$__rate_interval", "$__range"}


def test_a_board_is_in_the_form_of_grafanas_own_schema(text):
    board = Dashboard.from_json(json.loads(text))

    assert json.loads(json.dumps(board, cls=JSONEncoder)) == json.loads(text)


def test_every_panel_has_a_number_and_a_place_of_its_own(text):
    all_panels = json.loads(text)["panels"]
    taken = set()
    for panel in all_panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in all_panels]
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_panel_says_what_it_shows_and_in_which_unit(text):
    for panel in panels(text):
        assert panel["description"].startswith("`aiopype_"), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert [target["refId"] for target in panel["targets"]] == list("ABC")[
            : len(panel["targets"])
        ]


def test_panels_link_to_the_runbook_and_to_alerts_that_there_are():
    made = grafana.board("https://example.org/runbook")
    links = [link for panel in panels(made) for link in panel.get("links", ())]

    assert {link["title"].removeprefix("Runbook: ") for link in links} == NAMES
    assert {link["url"] for link in links} == {
        f"https://example.org/runbook#{name.lower()}" for name in NAMES
    }


def test_the_board_lets_choose_data_flow_manager_component_and_worker():
    variables = json.loads(grafana.board())["templating"]["list"]

    assert [v["name"] for v in variables] == ["datasource", *VARIABLES]
    assert {v["name"]: v.get("query") for v in variables}["flow"] == (
        "label_values(aiopype_worker_ready, flow)"
    )


def test_a_flows_own_board_shows_that_flow_alone(demo):
    variables = json.loads(grafana.flow_board("demo", demo))["templating"]["list"]
    (flow,) = (v for v in variables if v["name"] == "flow")

    assert (flow["current"]["value"], flow["hide"]) == ("demo", 2)


@pytest.mark.parametrize("flow", ["prices", "a" * 60, "a.b", "a-b"])
def test_a_board_has_a_name_that_grafana_takes_and_that_is_its_own(flow, demo):
    uid = json.loads(grafana.flow_board(flow, demo))["uid"]

    assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", uid)
    assert uid.startswith(f"aiopype-{flow[:8].replace('.', '-')}")
    others = {json.loads(grafana.flow_board(f, demo))["uid"] for f in ("a" * 61, "a_b", "a..b")}
    assert uid not in others


@pytest.mark.parametrize("file", ["aiopype.json", "aiopype-demo.json"])
def test_the_files_are_what_is_made(file, demo):
    """If not: `aiopype deploy grafana aiopype.demo.flow:dataflow`."""
    made = grafana.board() if file == "aiopype.json" else grafana.flow_board("demo", demo)

    assert (BOARDS / file).read_text() == made


def test_grafana_finds_its_data_and_its_boards_by_itself():
    folder = REPOSITORY / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((folder / "dashboards/aiopype.yml").read_text())["providers"]

    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    assert (provider["type"], provider["options"]["path"]) == (
        "file",
        "/var/lib/grafana/dashboards",
    )
