"""Checks manifests of KEDA and of the Prometheus operator against models made of their code.

The models look at values, TypeScript's types at names: an unknown field, which Kubernetes would
drop without a word, is an error there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

#: What npm installs, exactly.
PACKAGES = (
    "@kubernetes-models/keda@2.0.0",
    "@kubernetes-models/prometheus-operator@6.0.0",
    "typescript@5.9.3",
)
FOLDER = Path(__file__).parents[2] / ".tools/crds"

#: Each kind's module; `I<kind>` is its type.
MODELS = {
    "ScaledObject": "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject",
    "TriggerAuthentication": "@kubernetes-models/keda/keda.sh/v1alpha1/TriggerAuthentication",
    "PodMonitor": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor",
    "PrometheusRule": (
        "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule"
    ),
}


def install() -> None:
    """Have the models in `.tools`; the second time nothing is fetched."""
    stamp = FOLDER / "ready.txt"
    wanted = " ".join(PACKAGES)
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    for tool in ("npm", "node"):
        if shutil.which(tool) is None:
            pytest.fail(f"{tool} is not installed, which the checks of custom resources need")
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "package.json").write_text('{"private": true}\n')
    _run("npm", "install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", *PACKAGES)
    stamp.write_text(wanted)


def errors(documents: Iterable[dict[str, Any]]) -> list[str]:
    """Return what is wrong with manifests of these kinds, values first, then names."""
    found = list(documents)
    install()
    values = [
        *(f'import {{ {kind} }} from "{path}";' for kind, path in MODELS.items()),
        f"const models = {{ {', '.join(MODELS)} }};",
        f"for (const each of {json.dumps(found)}) {{",
        "  try { new models[each.kind](each).validate(); }",
        "  catch (error) { console.log(`${each.kind}: ${error.message}`); }",
        "}",
    ]
    names = [
        *(f'import type {{ I{kind} }} from "{path}";' for kind, path in MODELS.items()),
        *(f"export const c{n}: I{d['kind']} = {json.dumps(d)};" for n, d in enumerate(found)),
    ]
    (FOLDER / "values.mjs").write_text("\n".join(values))
    (FOLDER / "names.mts").write_text("\n".join(names))
    tsc = str(FOLDER / "node_modules/typescript/bin/tsc")
    options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "names.mts"]
    wrong = _run("node", "values.mjs").splitlines()
    return wrong + _run("node", tsc, *options, statuses=(0, 2)).splitlines()


def _run(*command: str, statuses: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        command, cwd=FOLDER, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode in statuses, f"{command[:3]}: {done.stdout}{done.stderr}"
    return done.stdout
