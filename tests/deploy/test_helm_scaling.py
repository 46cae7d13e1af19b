"""KEDA scales a flow by its own lag, never below one worker, never beyond its partitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from . import charts, flows
from .charts import merged, one, ref, refused, render, workload

pytestmark = pytest.mark.deploy

ON = {"autoscaling": {"enabled": True}}


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Any]:
    return charts.values_of(flows.make(tmp_path), "shop.py")


def scaled(values: dict[str, Any]) -> dict[str, Any]:
    return one(render(merged(values, ON)), "ScaledObject")["spec"]


def test_there_is_a_trigger_for_each_topic_that_the_group_reads(own: dict[str, Any]) -> None:
    triggers = scaled(own)["triggers"]

    assert {trigger["type"] for trigger in triggers} == {"kafka"}
    assert {t["metadata"]["consumerGroup"] for t in triggers} == {"eu.shop"}
    assert {t["metadata"]["bootstrapServers"] for t in triggers} == {flows.Config.BROKER}
    assert {t["metadata"]["topic"]: t["metadata"]["offsetResetPolicy"] for t in triggers} == {
        "eu.shop_orders.shop.order": "earliest",
        "eu.shop_orders.till.paid": "earliest",
        "warehouse.deliveries": "latest",
    }


@pytest.mark.parametrize("partitions", [1, 3, 12])
def test_the_most_workers_follow_the_topics_file(tmp_path: Path, partitions: int) -> None:
    values = charts.values_of(flows.make(tmp_path, partitions), "shop.py")
    spec = scaled(values)

    most = max(partitions, 2)  # `till.paid` has 2
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, most)
    assert scaled(merged(values, {"autoscaling": {"maxReplicas": 0}}))["maxReplicaCount"] == most


def test_the_most_workers_follow_a_topic_of_others_when_its_partitions_are_said(
    tmp_path: Path,
) -> None:
    flow = flows.make(tmp_path)
    values = charts.values_of(flow, "shop.py", partitions={"warehouse.deliveries": 30})

    assert scaled(values)["maxReplicaCount"] == 30


def test_the_demo_has_the_bounds_of_its_topics() -> None:
    spec = scaled(charts.demo_values())

    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 4)
    assert len(spec["triggers"]) == 8


def test_another_namespace_moves_the_group_and_the_flows_own_topics(own: dict[str, Any]) -> None:
    triggers = scaled(merged(own, {"flow": {"namespace": "us"}}))["triggers"]

    assert {t["metadata"]["consumerGroup"] for t in triggers} == {"us.shop"}
    assert [t["metadata"]["topic"] for t in triggers] == [
        "us.shop_orders.shop.order", "us.shop_orders.till.paid", "warehouse.deliveries",
    ]  # fmt: skip


def test_more_workers_than_partitions_are_refused(own: dict[str, Any]) -> None:
    text = refused(merged(own, {"autoscaling": {"enabled": True, "maxReplicas": 13}}))

    assert "maxReplicas is 13" in text
    assert "no topic in flow.topics has more than 12 partitions" in text


@pytest.mark.parametrize("fewest", [0, -1])
def test_fewer_than_one_worker_are_refused(own: dict[str, Any], fewest: int) -> None:
    text = refused(merged(own, {"autoscaling": {"enabled": True, "minReplicas": fewest}}))

    assert "minReplicas" in text


def test_more_at_least_than_at_most_are_refused(own: dict[str, Any]) -> None:
    bounds = {"enabled": True, "minReplicas": 5, "maxReplicas": 4}

    assert "minReplicas is 5, and the most is 4" in refused(merged(own, {"autoscaling": bounds}))


def test_scaling_by_lag_without_topics_is_refused(own: dict[str, Any]) -> None:
    values = merged(own, ON, {"flow": {"topics": []}})

    assert "goes by the lag of flow.topics, and there are none" in refused(values)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_how_many_workers_there_are_is_said_by_keda_alone(own: dict[str, Any], kind: str) -> None:
    documents = render(merged(own, ON, {"kind": kind}))
    target = one(documents, "ScaledObject")["spec"]["scaleTargetRef"]

    assert "replicas" not in workload(documents)["spec"]
    assert target == {
        "apiVersion": "apps/v1", "kind": kind, "name": workload(documents)["metadata"]["name"],
    }  # fmt: skip


def test_it_goes_down_slowly_and_one_by_one(own: dict[str, Any]) -> None:
    behaviour = scaled(own)["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]

    assert behaviour["scaleDown"] == {
        "stabilizationWindowSeconds": 600,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}],
    }
    assert behaviour["scaleUp"]["stabilizationWindowSeconds"] == 30


@pytest.mark.parametrize(
    ("mechanism", "word"),
    [
        ("PLAIN", "plaintext"),
        ("SCRAM-SHA-256", "scram_sha256"),
        ("SCRAM-SHA-512", "scram_sha512"),
        ("OAUTHBEARER", "oauthbearer"),
    ],
)
def test_keda_logs_in_as_the_workers_do(own: dict[str, Any], mechanism: str, word: str) -> None:
    sasl: dict[str, Any] = {
        "mechanism": mechanism, "username": ref("login", "u"), "password": ref("login", "p"),
    }  # fmt: skip
    if mechanism == "OAUTHBEARER":
        sasl |= {"token": {"url": "https://idp/token", "scope": "a b"}, "extensions": "x=y"}
    documents = render(merged(own, ON, {"kafka": {"sasl": sasl, "tls": {"enabled": True}}}))
    spec = one(documents, "TriggerAuthentication")["spec"]
    for trigger in one(documents, "ScaledObject")["spec"]["triggers"]:
        assert (trigger["metadata"]["sasl"], trigger["metadata"]["tls"]) == (word, "enable")
        assert trigger["authenticationRef"] == {"name": "prices-aiopype"}

    assert {each.pop("parameter"): each for each in spec["secretTargetRef"]} == {
        "username": ref("login", "u"),
        "password": ref("login", "p"),
    }
    open_ones = {each["parameter"] for each in spec.get("configMapTargetRef", ())}
    wanted = {"oauthTokenEndpointUri", "scopes", "oauthExtensions"}
    assert open_ones == (wanted if mechanism == "OAUTHBEARER" else set())
    if open_ones:
        assert one(documents, "ConfigMap")["data"]["scopes"] == "a,b"


def test_keda_has_the_certificates_of_the_workers(own: dict[str, Any]) -> None:
    tls = {"enabled": True, "ca": ref("c", "ca.crt"), "cert": ref("u", "c"), "key": ref("u", "k")}
    documents = render(merged(own, ON, {"kafka": {"tls": tls}}))

    found = one(documents, "TriggerAuthentication")["spec"]["secretTargetRef"]
    assert {each.pop("parameter"): each for each in found} == {
        n: tls[n] for n in ("ca", "cert", "key")
    }


def test_an_open_cluster_needs_no_authentication(own: dict[str, Any]) -> None:
    documents = render(merged(own, ON))

    assert "TriggerAuthentication" not in {document["kind"] for document in documents}
    assert not any(
        "authenticationRef" in t for t in one(documents, "ScaledObject")["spec"]["triggers"]
    )


@pytest.mark.parametrize("way", ["provider", "file"])
def test_a_token_that_keda_cannot_get_is_refused(own: dict[str, Any], way: str) -> None:
    sasl = {"mechanism": "OAUTHBEARER", "token": {way: "/token"}}
    values = merged(own, {"kafka": {"sasl": sasl}})

    render(values)
    assert "KEDA can ask for a token at" in refused(merged(values, ON))
