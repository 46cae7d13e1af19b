"""Rules for Prometheus: YAML, as it reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from aiopype.deploy.prometheus_alerts import (
    ALERTS,
    RUNBOOK,
    Alert,
    runbook_url,
    sources_gone,
    workers_gone,
)
from aiopype.graph import manager_of
from aiopype.pipelines import Pipelines

__all__ = ["flow_rules", "rules"]


def rules(runbook: str = RUNBOOK) -> str:
    """Return the alerts for every flow, as a file of rules.

    Arguments:
        runbook: where `docs/runbook.md` is read; a URL.
    """
    return _file(ALERTS, runbook)


def flow_rules(flow: str, pipelines: Pipelines, runbook: str = RUNBOOK) -> str:
    """Return what can be watched only of a flow that is known, as a file of rules.

    `rules` misses what has been there, these what should be there: the flow's workers and each of
    its sources.

    Arguments:
        flow: its name, which is the label `flow` of its metrics.
        pipelines: its managers.
        runbook: where `docs/runbook.md` is read; a URL.
    """
    managers = [(manager_of(name), name) for name in pipelines.sources]
    sources = [(manager, name.removeprefix(f"{manager}.")) for manager, name in managers]
    gone = [workers_gone(flow)]
    if sources:
        gone.append(sources_gone(flow, sources))
    return _file({f"aiopype {flow}": gone}, runbook)


def _file(groups: Mapping[str, Iterable[Alert]], runbook: str) -> str:
    content = [
        {"name": name, "rules": [_rule(alert, runbook) for alert in alerts]}
        for name, alerts in groups.items()
    ]
    return "# Made by `aiopype deploy prometheus`.\n" + _yaml({"groups": content})


def _rule(alert: Alert, runbook: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.wait,
        "labels": {"severity": str(alert.severity)},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": runbook_url(alert.name, runbook),
        },
    }


def _yaml(content: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(content, sort_keys=False, width=100, allow_unicode=True)
    return text
