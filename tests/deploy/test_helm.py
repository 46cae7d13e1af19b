"""The chart makes of a flow's values what Kubernetes, KEDA and the Prometheus operator take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiopype.settings import Settings
from aiopype.settings.table import Settings as Table
from aiopype.worker import STOP_SECONDS

from . import charts, crds, flows
from .charts import ALL_OFF, ALL_ON, CHART, VERSIONS, container, merged, one, ref, render, workload

pytestmark = pytest.mark.deploy

FLOWS = ("demo", "own")
CHOICES = {"as it is": {}, "all on": ALL_ON, "all off": ALL_OFF}


@pytest.fixture(params=FLOWS)
def values(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """What `aiopype deploy kubernetes` writes: of the demo, and of a flow of a user's own."""
    if request.param == "demo":
        return charts.demo_values()
    return charts.values_of(flows.make(tmp_path), "shop.py")


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Any]:
    return charts.values_of(flows.make(tmp_path), "shop.py")


@pytest.fixture(params=CHOICES)
def chosen(request: pytest.FixtureRequest, values: dict[str, Any]) -> dict[str, Any]:
    return merged(values, CHOICES[request.param])


def test_it_lints(chosen: dict[str, Any]) -> None:
    assert charts.lint(chosen) == []


def test_a_template_that_is_broken_is_seen_by_lint(own: dict[str, Any], tmp_path: Path) -> None:
    broken = _copy(tmp_path)
    template = broken / "templates/service.yaml"
    template.write_text(template.read_text() + "{{ .Values.nothing.here }}")

    assert charts.lint(own, broken)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_manifest(chosen: dict[str, Any], version: str) -> None:
    found = [d for d in render(chosen) if d["kind"] not in charts.CUSTOM]

    assert found
    assert [e for document in found for e in charts.schema_errors(document, version)] == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("where", "value"), [("serviceLinks", True), ("terminationGracePeriodSeconds", "30 s")]
)
def test_a_manifest_that_kubernetes_would_not_take_is_seen(
    own: dict[str, Any], version: str, where: str, value: Any
) -> None:
    document = workload(render(own))
    document["spec"]["template"]["spec"][where] = value

    assert charts.schema_errors(document, version)


def test_the_operators_take_their_own(own: dict[str, Any]) -> None:
    plain = merged(own, {"autoscaling": {"enabled": True}, "podMonitor": {"enabled": True}})
    token = {"mechanism": "OAUTHBEARER", "token": {"url": "https://idp/t", "scope": "a b"}}
    all_on = merged(own, ALL_ON)
    documents = [
        *render(all_on),
        *render(plain),
        *render(merged(all_on, {"kafka": {"sasl": token}})),
        *render(merged(charts.demo_values(), ALL_ON)),
    ]
    found = [document for document in documents if document["kind"] in charts.CUSTOM]

    assert {document["kind"] for document in found} == set(charts.CUSTOM)
    assert crds.errors(found) == []


def _custom(values: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return the operators' manifests, and what is in each by its kind."""
    found = [d for d in render(merged(values, ALL_ON)) if d["kind"] in charts.CUSTOM]
    return found, {document["kind"]: document["spec"] for document in found}


def test_values_that_an_operator_would_not_take_are_seen(own: dict[str, Any]) -> None:
    found, specs = _custom(own)
    specs["ScaledObject"]["triggers"][0]["metadata"]["lagThreshold"] = 1000
    specs["PodMonitor"]["podMetricsEndpoints"][0]["interval"] = "15 seconds"
    specs["PrometheusRule"]["groups"][0]["rules"] = "none"
    del specs["TriggerAuthentication"]["secretTargetRef"][0]["parameter"]

    wrong = "\n".join(crds.errors(found))
    assert "ScaledObject: data/spec/triggers/0/metadata/lagThreshold must be string" in wrong
    assert "PodMonitor: data/spec/podMetricsEndpoints/0/interval must match" in wrong
    assert "PrometheusRule: data/spec/groups/0/rules must be array" in wrong
    assert "TriggerAuthentication: data/spec/secretTargetRef/0 must have required" in wrong


def test_names_that_an_operator_would_drop_are_seen(own: dict[str, Any]) -> None:
    found, specs = _custom(own)
    specs["ScaledObject"]["maxReplicas"] = 3
    specs["PodMonitor"]["podMetricsEndpoints"][0]["every"] = "15s"
    specs["PrometheusRule"]["groups"][0]["rules"][0]["when"] = "always"
    specs["TriggerAuthentication"]["secretRef"] = []

    wrong = crds.errors(found)
    for name in ("maxReplicas", "every", "when", "secretRef"):
        assert any(f"'\"{name}\"' does not exist" in line for line in wrong), name


def test_there_is_no_more_than_was_asked_for(own: dict[str, Any]) -> None:
    kinds = {document["kind"] for document in render(own)}
    fewest = {document["kind"] for document in render(merged(own, ALL_OFF))}

    assert kinds == {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "ServiceAccount"}
    assert fewest == {"Deployment"}


def test_names_and_labels_are_such_as_kubernetes_has(own: dict[str, Any]) -> None:
    long = {"fullnameOverride": "a" * 70}
    for document in render(merged(own, ALL_ON, long)):
        metadata = document["metadata"]
        assert len(metadata["name"]) <= 63 or document["kind"] == "ConfigMap"
        assert all(len(str(label)) <= 63 for label in metadata["labels"].values())
        assert "namespace" not in metadata


def test_the_flow_is_run_as_it_was_described(own: dict[str, Any]) -> None:
    worker = container(render(own))
    env = {each["name"]: each["value"] for each in worker["env"]}

    assert [*worker["command"], *worker["args"]] == [
        "aiopype", "run", "$(AIOPYPE_FLOW)", "--broker=$(AIOPYPE_BROKER)", "--web-port=6066",
        "--log-level=INFO", "--plain",
    ]  # fmt: skip
    assert env["AIOPYPE_FLOW"] == "shop.py"
    assert env["AIOPYPE_BROKER"] == flows.Config.BROKER
    assert env["AIOPYPE_NAMESPACE"] == "eu"
    assert env["AIOPYPE_WEB_HOST"] == "0.0.0.0"
    assert env["AIOPYPE_LOG_FORMAT"] == "json"


def test_every_variable_is_a_setting(own: dict[str, Any]) -> None:
    oauth = {"mechanism": "OAUTHBEARER", "extensions": "a=b"}
    ways = [{"url": "https://idp/t", "scope": "s"}, {"provider": "a:b"}, {"file": "/token"}]
    off = {"enabled": False}
    found = set()
    for way in ways:
        sasl = {**oauth, "token": way}
        worker = container(
            render(merged(own, ALL_ON, {"kafka": {"sasl": sasl}, "autoscaling": off}))
        )
        found |= {each["name"] for each in worker["env"]}

    known = {f"AIOPYPE_{name.upper()}" for name in Settings.table()}
    assert {name for name in found if name.startswith("AIOPYPE_")} <= known
    assert {n for n in known if n.startswith(("AIOPYPE_SASL_", "AIOPYPE_SSL_"))} <= found


def test_there_is_time_for_the_drain_and_the_watchdog_speaks_first(own: dict[str, Any]) -> None:
    spec = workload(render(own))["spec"]["template"]["spec"]
    liveness = container(render(own))["livenessProbe"]

    assert spec["terminationGracePeriodSeconds"] >= STOP_SECONDS + 10
    patience = liveness["periodSeconds"] * liveness["failureThreshold"]
    assert patience > Table.watchdog_loop_seconds


def test_probes_ask_for_what_they_are_for(own: dict[str, Any]) -> None:
    worker = container(render(own))
    paths = {n: worker[f"{n}Probe"]["httpGet"] for n in ("startup", "liveness", "readiness")}

    live, ready = "/health/live", "/health/ready"
    assert {n: get["path"] for n, get in paths.items()} == {
        "startup": live, "liveness": live, "readiness": ready,
    }  # fmt: skip
    assert {get["port"] for get in paths.values()} == {"web"}
    assert worker["ports"] == [{"name": "web", "containerPort": 6066, "protocol": "TCP"}]


def test_workers_are_replaced_one_by_one_and_none_too_many(own: dict[str, Any]) -> None:
    spec = one(render(own), "Deployment")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert (spec["replicas"], spec["minReadySeconds"]) == (2, 10)

    budget = one(render(own), "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert (
        budget["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    )


def test_pods_of_a_set_keep_their_names_and_may_keep_their_files(own: dict[str, Any]) -> None:
    claim = {"kind": "StatefulSet", "dataDir": {"claim": {"enabled": True}}}
    documents = render(merged(own, claim))
    spec = one(documents, "StatefulSet")["spec"]

    assert spec["serviceName"] == one(documents, "Service")["metadata"]["name"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert [each["metadata"]["name"] for each in spec["volumeClaimTemplates"]] == ["data"]
    assert "data" not in {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    assert (
        "volumeClaimTemplates"
        not in one(render({**own, "kind": "StatefulSet"}), "StatefulSet")["spec"]
    )


def test_a_small_flow_comes_from_its_files(own: dict[str, Any]) -> None:
    files = {"shop.py": "flow = 1  \n\ttab\n", "topics/orders.toml": "[defaults]\n"}
    documents = render(merged(own, {"flow": {"files": files}}))
    pod, kept = workload(documents)["spec"]["template"], one(documents, "ConfigMap")
    (volume,) = (v["configMap"] for v in pod["spec"]["volumes"] if v["name"] == "flow")

    assert volume["name"] == kept["metadata"]["name"]
    assert {item["path"]: kept["data"][item["key"]] for item in volume["items"]} == files
    assert container(documents)["workingDir"] == "/flow"

    changed = render(merged(own, {"flow": {"files": {**files, "shop.py": "flow = 2\n"}}}))
    annotation = "checksum/flow"
    after = workload(changed)["spec"]["template"]["metadata"]["annotations"][annotation]
    assert after != pod["metadata"]["annotations"][annotation]  # so that pods are replaced


def test_a_policy_lets_through_dns_the_brokers_and_what_is_listed(own: dict[str, Any]) -> None:
    spec = one(render(own), "NetworkPolicy")["spec"]
    assert spec["ingress"] == [{"ports": [{"port": "web", "protocol": "TCP"}]}]
    assert [[p["port"] for p in rule["ports"]] for rule in spec["egress"]] == [
        [53, 53], [9092, 9093], [443],
    ]  # fmt: skip

    spec = one(render(merged(own, ALL_ON)), "NetworkPolicy")["spec"]
    assert spec["ingress"][0]["from"] == ALL_ON["networkPolicy"]["metricsFrom"]
    assert [p["port"] for p in spec["egress"][1]["ports"]] == [9092, 9093, 9094]
    assert spec["egress"][1]["to"] == ALL_ON["networkPolicy"]["kafka"]["to"]
    assert spec["egress"][-1:] == ALL_ON["networkPolicy"]["egress"]

    closed = one(render(merged(own, {"networkPolicy": {"sourcePorts": []}})), "NetworkPolicy")
    assert len(closed["spec"]["egress"]) == 2


def test_prometheus_finds_the_pods_and_has_the_token_where_there_is_one(
    own: dict[str, Any],
) -> None:
    documents = render(merged(own, {"podMonitor": {"enabled": True}}))
    spec = one(documents, "PodMonitor")["spec"]
    labels = workload(documents)["spec"]["template"]["metadata"]["labels"]
    (endpoint,) = spec["podMetricsEndpoints"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert (endpoint["port"], endpoint["path"]) == ("web", "/metrics")
    assert "authorization" not in endpoint

    (endpoint,) = one(render(merged(own, ALL_ON)), "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"] == {"type": "Bearer", "credentials": ref("web", "token")}


def test_rules_and_boards_are_the_charts_and_those_given(own: dict[str, Any]) -> None:
    rules = yaml.safe_load((CHART / "files/rules.yml").read_text())["groups"]
    board = (CHART / "files/dashboards/aiopype.json").read_text()
    more = {
        "prometheusRule": {"files": {"shop": "groups: [{name: shop, rules: []}]"}},
        "dashboards": {"files": {"shop": '{"uid": "shop"}'}},
    }
    documents = render(merged(own, ALL_ON, more))

    groups = one(documents, "PrometheusRule")["spec"]["groups"]
    assert groups == [*rules, {"name": "shop", "rules": []}]
    maps = {d["metadata"]["name"]: d for d in documents if d["kind"] == "ConfigMap"}
    found = {name: each["data"] for name, each in maps.items()}
    texts = {
        "aiopype": json.loads(found["prices-aiopype-dashboard-aiopype"]["aiopype.json"]),
        "shop": json.loads(found["prices-aiopype-dashboard-shop"]["shop.json"]),
    }
    assert texts == {"aiopype": json.loads(board), "shop": {"uid": "shop"}}
    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in maps.values())


def test_notes_say_what_runs_and_where_to_look(own: dict[str, Any]) -> None:
    text = charts.notes(merged(own, {"autoscaling": {"enabled": True}}))

    assert "consumer group eu.shop" in text
    assert "managers: shop_orders, shop_stock" in text
    assert "workers: 2 to 12, by lag" in text
    assert "exec deployment/prices-aiopype -- aiopype errors list" in text
    assert "workers: 2\n" in charts.notes(own)


def _copy(folder: Path) -> Path:
    import shutil  # noqa: PLC0415

    return Path(shutil.copytree(CHART, folder / "aiopype"))
