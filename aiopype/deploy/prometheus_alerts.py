"""The alerts as data: what is watched, for how long, and what an operator is told.

Each has a paragraph in `docs/runbook.md`, under its name, and a unit test in
`deploy/prometheus/tests`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

__all__ = ["ALERTS", "RUNBOOK", "Alert", "Severity", "runbook_url", "sources_gone", "workers_gone"]

#: Where the runbook is, from the top of the repository.
RUNBOOK = "docs/runbook.md"


class Severity(StrEnum):
    """How soon somebody must look."""

    CRITICAL = "critical"
    WARNING = "warning"


class Alert(NamedTuple):
    """One alert.

    Attributes:
        name: in the words of Prometheus, in one.
        expr: PromQL; there is something wrong for each series that it gives.
        wait: for how long it has to be so.
        severity: how soon somebody must look.
        summary: what is wrong, in a line.
        description: what that means and what `$value` is.
        labels: those of the series, which the texts may name.
    """

    name: str
    expr: str
    wait: str
    severity: Severity
    summary: str
    description: str
    labels: tuple[str, ...]


def runbook_url(name: str, runbook: str = RUNBOOK) -> str:
    """Return where an alert's paragraph is: the anchor of a heading is its text in lower case."""
    return f"{runbook}#{name.lower()}"


_MANAGER = ("flow", "manager")
_COMPONENT = ("flow", "manager", "component")
_EVENT = ("flow", "manager", "component", "event")

#: For so long a worker or a source that is gone is missed. Longer than a night's outage, and short
#: enough to forget by itself what was taken out of the program.
_MISSED = "6h"

_LAG = (
    "sum by (flow, manager, component, event) ("
    "max by (flow, manager, component, event, partition) (aiopype_lag_records))"
)
_TRIES = (
    "sum by (flow, manager, component) "
    '(rate(aiopype_subscription_events_total{{outcome=~"{outcome}"}}[5m]))'
)
_HEARD = "max by (flow, manager, component) (aiopype_source_last_heard_timestamp_seconds)"
_LIMIT = "max by (flow, manager, component) (aiopype_source_silence_limit_seconds)"
_WORKERS = (
    Alert(
        "AiopypeWorkersGone",
        f"group by (flow) (present_over_time(aiopype_worker_ready[{_MISSED}])) "
        "unless group by (flow) (aiopype_worker_ready)",
        "2m",
        Severity.CRITICAL,
        "No worker of {{ $labels.flow }} is to be seen.",
        "Nothing is handled and no source runs. The events wait in Kafka.",
        ("flow",),
    ),
    Alert(
        "AiopypeNoReadyWorker",
        "max by (flow) (aiopype_worker_ready) == 0",
        "2m",
        Severity.CRITICAL,
        "No worker of {{ $labels.flow }} is ready.",
        "There are workers, and each has something that is not as it should be.",
        ("flow",),
    ),
    Alert(
        "AiopypeWorkerDown",
        f"up == 0 and on (job, instance) present_over_time(aiopype_worker_ready[{_MISSED}]) "
        'or max by (job, instance) (aiopype_workers{state="down"}) > 0',
        "1m",
        Severity.WARNING,
        "A worker at {{ $labels.instance }} does not answer.",
        "It ended, or its event loop is blocked. Others have its partitions and sources by now.",
        ("job", "instance"),
    ),
    Alert(
        "AiopypeEventLoopBlocked",
        "histogram_quantile(0.99, sum by (le, flow, instance, worker) "
        "(rate(aiopype_event_loop_delay_seconds_bucket[5m]))) > 0.5",
        "5m",
        Severity.WARNING,
        "The event loop of {{ $labels.instance }} {{ $labels.worker }} is blocked again and again.",
        "In 1 of 100 looks it is late by {{ $value | humanizeDuration }} or more.",
        ("flow", "instance", "worker"),
    ),
)
_EVENTS = (
    Alert(
        "AiopypeLagGrowing",
        # A day's peak grows too: it must be large, and larger than it was, all the time.
        f"({_LAG} > 1000) and deriv({_LAG}[15m:1m]) > 0",
        "15m",
        Severity.WARNING,
        "{{ $labels.manager }}.{{ $labels.component }}.{{ $labels.event }} falls behind.",
        "{{ $value | humanize }} events wait, and the longer the more.",
        _EVENT,
    ),
    Alert(
        "AiopypeLagSeconds",
        "max by (flow, manager, component, event) (aiopype_lag_seconds) > 300",
        "5m",
        Severity.WARNING,
        "{{ $labels.manager }}.{{ $labels.component }}.{{ $labels.event }} is late.",
        "Its oldest event has been waiting for {{ $value | humanizeDuration }}.",
        _EVENT,
    ),
    Alert(
        "AiopypeErrors",
        f"{_TRIES.format(outcome='failed')} / {_TRIES.format(outcome='ok|failed')} > 0.05",
        "10m",
        Severity.WARNING,
        "Handlers of {{ $labels.manager }}.{{ $labels.component }} fail.",
        "{{ $value | humanizePercentage }} of the tries of the last minutes raised.",
        _COMPONENT,
    ),
    Alert(
        "AiopypeDeadLetters",
        "sum by (flow, manager, component) "
        '(increase(aiopype_events_total{outcome="dead_letter"}[10m])) > 0',
        "0m",
        Severity.WARNING,
        "{{ $labels.manager }}.{{ $labels.component }} has dead letters.",
        "About {{ $value | humanize }} events failed for good in 10 minutes; the others go on.",
        _COMPONENT,
    ),
    Alert(
        "AiopypeManagerQuarantined",
        'max by (flow, manager) (aiopype_manager_state{state="quarantined"}) == 1',
        "1m",
        Severity.CRITICAL,
        "The manager {{ $labels.manager }} is in quarantine.",
        "It failed again and again. Its events wait, the other managers run on.",
        _MANAGER,
    ),
)
_SOURCES = (
    Alert(
        "AiopypeSourceQuarantined",
        'max by (flow, manager, component) (aiopype_source_state{state="quarantined"}) == 1',
        "1m",
        Severity.CRITICAL,
        "The source {{ $labels.manager }}.{{ $labels.component }} is in quarantine.",
        "It failed again and again and is not asked for a while. Nothing comes from it.",
        _COMPONENT,
    ),
    Alert(
        "AiopypeSourceSilent",
        # Of one that never heard anything there is no such time: it has been restarted for it.
        f"(time() - {_HEARD} > {_LIMIT}) or (({_LIMIT} unless {_HEARD}) and "
        "(sum by (flow, manager, component) (aiopype_source_restarts_total) > 0))",
        "1m",
        Severity.WARNING,
        "Nothing is heard from {{ $labels.manager }}.{{ $labels.component }}.",
        "For {{ $value | humanizeDuration }} or more; its `expect_every` is not longer than that. "
        "It is connected anew again and again.",
        _COMPONENT,
    ),
    Alert(
        "AiopypeSourceUnowned",
        f"(group by (flow, manager, component) (present_over_time(aiopype_source_state[{_MISSED}]))"
        " unless group by (flow, manager, component) (aiopype_source_state))"
        " and on (flow) (max by (flow) (aiopype_worker_ready) == 1)",
        "5m",
        Severity.WARNING,
        "No worker runs the source {{ $labels.manager }}.{{ $labels.component }}.",
        "There are workers, and one did run it. Unless it was paused, nothing comes from it.",
        _COMPONENT,
    ),
)
_KAFKA = (
    Alert(
        "AiopypeRebalanceStorm",
        "max by (flow, group) (increase(aiopype_rebalances_total[15m])) > 5",
        "5m",
        Severity.WARNING,
        "The group {{ $labels.group }} of {{ $labels.flow }} does not come to rest.",
        "{{ $value | humanize }} rebalances in 15 minutes; in each all its workers stop.",
        ("flow", "group"),
    ),
    Alert(
        "AiopypeFencing",
        'sum by (flow, of) (increase(aiopype_transactions_total{outcome="fenced"}[15m])) > 3',
        "0m",
        Severity.WARNING,
        "Workers of {{ $labels.flow }} write what is no longer theirs to write.",
        "{{ $value | humanize }} transactions ({{ $labels.of }}) were refused in 15 minutes. "
        "Nothing is lost or doubled by it.",
        ("flow", "of"),
    ),
)

#: All of them, by the name of their group.
ALERTS = {
    "aiopype workers": _WORKERS,
    "aiopype events": _EVENTS,
    "aiopype sources": _SOURCES,
    "aiopype kafka": _KAFKA,
}


def workers_gone(flow: str) -> Alert:
    """Return the alert that there is no worker of one flow, whether there ever was one or not."""
    (alert,) = (alert for alert in _WORKERS if alert.name == "AiopypeWorkersGone")
    return alert._replace(expr=f'absent(aiopype_worker_ready{{flow="{flow}"}})')


def sources_gone(flow: str, sources: Iterable[tuple[str, str]]) -> Alert:
    """Return the alert that no worker runs a source of one flow, whether one ever did or not.

    Arguments:
        flow: its name.
        sources: manager and component of each, at least one.
    """
    (alert,) = (alert for alert in _SOURCES if alert.name == "AiopypeSourceUnowned")
    each = " or ".join(
        f'absent(aiopype_source_state{{flow="{flow}",manager="{manager}",component="{name}"}})'
        for manager, name in sources
    )
    ready = f'max by (flow) (aiopype_worker_ready{{flow="{flow}"}}) == 1'
    return alert._replace(expr=f"({each}) and on (flow) ({ready})")
