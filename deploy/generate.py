"""Writes what in `deploy/` is made of something else: `make deploy-files`.

The chart's copies of the rules and of the dashboard for every flow (a chart has nothing outside its
folder), the values of the demo, and of both the base for kustomize. A test compares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import helm_python
import yaml

from aiopype.demo.flow import dataflow
from aiopype.deploy.kubernetes import facts_of
from aiopype.deploy.kubernetes_values import as_values

__all__ = ["copies", "main", "manifests"]

HERE = Path(__file__).parent
CHART = HERE / "helm/aiopype"

#: In the chart, and what it is a copy of.
COPIES = {
    "helm/aiopype/files/rules.yml": "prometheus/rules.yml",
    "helm/aiopype/files/dashboards/aiopype.json": "grafana/dashboards/aiopype.json",
}
VALUES = "kustomize/values.yaml"
BASE = "kustomize/base"
MONITORING = "kustomize/components/monitoring"
AUTOSCALING = "kustomize/components/autoscaling"

#: Where each kind of the chart goes; kinds of others' operators are apart, as not all have them.
FOLDERS = {
    "Deployment": BASE,
    "NetworkPolicy": BASE,
    "PodDisruptionBudget": BASE,
    "ServiceAccount": BASE,
    "ConfigMap": MONITORING,
    "PodMonitor": MONITORING,
    "PrometheusRule": MONITORING,
    "ScaledObject": AUTOSCALING,
}

ALL_ON = {name: {"enabled": True} for name in ("podMonitor", "prometheusRule", "dashboards")}
HEAD = "# Made of the chart by `make deploy-files`; what is yours goes into an overlay.\n"

#: How many workers there are is KEDA's then.
PATCH = """\
patches:
  - target:
      kind: Deployment
    patch: |-
      - op: remove
        path: /spec/replicas
"""

# Labels that say who installed what; kustomize did not.
_OF_HELM = re.compile(r"^ +(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", re.MULTILINE)


def copies() -> dict[str, str]:
    """Return what is not made of the chart, by its path below `deploy/`."""
    made = {path: (HERE / source).read_text() for path, source in COPIES.items()}
    made[VALUES] = as_values(facts_of(dataflow), "aiopype.demo.flow:dataflow")
    return made


def manifests() -> dict[str, str]:
    """Return what the chart makes of the demo, for kustomize, by its path below `deploy/`."""
    values = yaml.safe_load((HERE / VALUES).read_text())
    values["autoscaling"]["enabled"] = True
    made: dict[str, str] = {}
    for text in _rendered(values | ALL_ON):
        kind, name = yaml.safe_load(text)["kind"], yaml.safe_load(text)["metadata"]["name"]
        suffix = name.removeprefix("aiopype")
        made[f"{FOLDERS[kind]}/{kind.lower()}{suffix}.yaml"] = f"{HEAD}{text}"
    base = values | {"autoscaling": {"enabled": False}}
    (workload,) = (text for text in _rendered(base) if "kind: Deployment" in text)
    made[f"{BASE}/deployment.yaml"] = f"{HEAD}{workload}"
    for folder in (BASE, MONITORING, AUTOSCALING):
        made[f"{folder}/kustomization.yaml"] = _kustomization(folder, made)
    return made


def _rendered(values: Mapping[str, Any]) -> Iterator[str]:
    with helm_python.Chart.load(CHART) as chart:
        found = chart.render(dict(values), name="aiopype", namespace="default")
    for path, text in found.items():
        if path.endswith(".yaml"):
            documents = (part.strip() for part in re.split(r"^---$", text, flags=re.MULTILINE))
            yield from (_OF_HELM.sub("", f"{each}\n") for each in documents if each)


def _kustomization(folder: str, made: Mapping[str, str]) -> str:
    names = sorted(Path(path).name for path in made if Path(path).parent == Path(folder))
    kind, version = ("Kustomization", "v1beta1") if folder == BASE else ("Component", "v1alpha1")
    said = {
        "apiVersion": f"kustomize.config.k8s.io/{version}",
        "kind": kind,
        "resources": names,
    }
    patch = PATCH if folder == AUTOSCALING else ""
    return HEAD + yaml.safe_dump(said, sort_keys=False) + patch


def main() -> None:
    """Write all of it."""
    for make in (copies, manifests):  # the chart has to have its copies first
        for path, text in make().items():
            (HERE / path).parent.mkdir(parents=True, exist_ok=True)
            (HERE / path).write_text(text)


if __name__ == "__main__":
    main()
