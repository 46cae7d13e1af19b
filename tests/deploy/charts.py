"""The Helm chart in tests: its values for some flows, what it makes of them, and who checks that.

The tools are imported where they are used: the gate collects these files without them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from aiopype.demo import flow as demo
from aiopype.deploy.kubernetes import facts_of
from aiopype.deploy.kubernetes_values import as_values
from aiopype.flow import AsyncFlow

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm/aiopype"

#: The oldest that the chart is promised for and is looked at with, and the newest that the
#: validator knows.
VERSIONS = ("1.29", "1.37")

#: Those of other operators, which Kubernetes' own schemas do not have.
CUSTOM = ("PodMonitor", "PrometheusRule", "ScaledObject", "TriggerAuthentication")


def ref(name: str, key: str) -> dict[str, str]:
    return {"name": name, "key": key}


#: Everything that is off by default, and more of what takes a list or a map.
ALL_ON: dict[str, Any] = {
    "kind": "StatefulSet",
    "image": {"digest": f"sha256:{'0' * 64}", "pullSecrets": [{"name": "registry"}]},
    "settings": {"guarantee": "at_least_once"},
    "kafka": {
        "tls": {
            "enabled": True,
            "ca": ref("cluster", "ca.crt"),
            "cert": ref("user", "user.crt"),
            "key": ref("user", "user.key"),
        },
        "sasl": {
            "mechanism": "SCRAM-SHA-512",
            "username": ref("login", "username"),
            "password": ref("login", "password"),
        },
    },
    "web": {"token": ref("web", "token")},
    "sentry": {"dsn": ref("sentry", "dsn")},
    "dataDir": {"claim": {"enabled": True, "storageClassName": "fast"}},
    "networkPolicy": {
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "kafka": {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [9094]},
        "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}],
    },
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboards": {"enabled": True, "annotations": {"folder": "Flows"}},
    "autoscaling": {"enabled": True},
    "serviceAccount": {"annotations": {"who": "cares"}},
    "podLabels": {"team": "prices"},
    "podAnnotations": {"note": "x"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "extraEnv": [
        {"name": "A", "value": "b"},
        {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": ref("api", "token")}},
    ],
    "extraVolumes": [{"name": "cache", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "cache", "mountPath": "/cache"}],
}

ALL_OFF: dict[str, Any] = {
    "serviceAccount": {"create": False},
    "podDisruptionBudget": {"enabled": False},
    "topologySpread": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "securityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None},
}


def merged(values: Mapping[str, Any], *others: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with others over them, as `-f A -f B` does."""
    result = copy.deepcopy(dict(values))
    for other in others:
        for key, value in other.items():
            old = result.get(key)
            both = isinstance(old, dict) and isinstance(value, dict)
            result[key] = merged(old, value) if both else copy.deepcopy(value)
    return result


def values_of(flow: AsyncFlow, target: str, **options: Any) -> dict[str, Any]:
    """Return what `aiopype deploy kubernetes` writes of a flow."""
    return yaml.safe_load(as_values(facts_of(flow, **options), target))


def demo_values() -> dict[str, Any]:
    return values_of(demo.dataflow, "aiopype.demo.flow:dataflow")


def lint(values: Mapping[str, Any], chart: Path = CHART) -> list[str]:
    """Return what `helm lint --strict` has to say but that an icon would be nice."""
    import helm_python  # noqa: PLC0415

    report = helm_python.lint(chart, dict(values), strict=True)
    return [m["error"] for m in report["messages"] if m["severity"] > 1] + report["errors"]


def render(values: Mapping[str, Any], chart: Path = CHART) -> list[dict[str, Any]]:
    """Return the manifests that `helm install prices` would apply.

    Raises:
        HelmError: the values are refused, or do not fit together.
    """
    return [document for _, document in _rendered(values, chart)]


def notes(values: Mapping[str, Any]) -> str:
    import helm_python  # noqa: PLC0415

    with helm_python.Chart.load(CHART) as loaded:
        return loaded.render(dict(values), name="prices")["aiopype/templates/NOTES.txt"]


def _rendered(values: Mapping[str, Any], chart: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import helm_python  # noqa: PLC0415

    with helm_python.Chart.load(chart) as loaded:
        loaded.validate_schema(loaded.merge_values(dict(values)))
        found = loaded.render(dict(values), name="prices", namespace="apps")
    for path, text in found.items():
        if path.endswith(".yaml"):
            yield from ((path, each) for each in yaml.safe_load_all(text) if each)


def refused(values: Mapping[str, Any]) -> str:
    """Return why the chart refuses values.

    Raises:
        AssertionError: it takes them.
    """
    import helm_python  # noqa: PLC0415

    try:
        render(values)
    except helm_python.HelmError as error:
        return str(error)
    raise AssertionError("the chart takes these values")


def schema_errors(document: Mapping[str, Any], version: str) -> list[str]:
    """Return what a version of Kubernetes would refuse in a manifest, unknown keys too."""
    import kubernetes_validate  # noqa: PLC0415

    try:
        kubernetes_validate.validate(dict(document), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{document['kind']}: {'.'.join(map(str, error.path))}: {error.message}"]
    return []


def one(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the only manifest of a kind."""
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


def workload(documents: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = (each for each in documents if each["kind"] in {"Deployment", "StatefulSet"})
    return found


def container(documents: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = workload(documents)["spec"]["template"]["spec"]["containers"]
    return found
