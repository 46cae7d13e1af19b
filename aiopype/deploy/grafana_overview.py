"""The row Overview."""

from __future__ import annotations

from aiopype.deploy.grafana_panels import Look, Panel, PanelRow, Panels
from aiopype.deploy.grafana_queries import Queries
from aiopype.metrics.definitions import Row

__all__ = ["overview"]

_GREEN, _YELLOW, _RED = "green", "yellow", "red"
_q = Queries()
_p = Panels(_q)


def overview() -> PanelRow:
    """Whether all is well, at a glance."""
    return PanelRow(Row.OVERVIEW, (*_health(), *_work(), *_states()))


def _health() -> tuple[Panel, ...]:
    quarantined = " + ".join(
        f"({_q.value(name, state='quarantined').expr} or vector(0))"
        for name in ("aiopype_manager_state", "aiopype_source_state")
    )
    return (
        _p.number(
            "Workers ready",
            _q.value("aiopype_worker_ready", legend="ready"),
            limits=((None, _RED), (1, _GREEN)),
            alerts=("AiopypeNoReadyWorker", "AiopypeWorkersGone", "AiopypeWorkerDown"),
        ),
        _p.number(
            "Latest start",
            _q.ago("aiopype_worker_start_timestamp_seconds", how="max", legend="ago"),
            unit="s",
            alerts=("AiopypeWorkerDown",),
        ),
        _p.number(
            "In quarantine",
            _q.value("aiopype_manager_state")._replace(
                expr=quarantined,
                legend="managers and sources",
                metrics=("aiopype_manager_state", "aiopype_source_state"),
            ),
            limits=((1, _RED),),
            alerts=("AiopypeManagerQuarantined", "AiopypeSourceQuarantined"),
        ),
    )


def _work() -> tuple[Panel, ...]:
    return (
        _p.number(
            "Events handled",
            _q.rate("aiopype_events_total", legend="handled", outcome="handled"),
            unit="eps",
        ),
        _p.number(
            "Lag",
            _q.value("aiopype_lag_records", legend="records"),
            limits=((1_000, _YELLOW), (100_000, _RED)),
            alerts=("AiopypeLagGrowing",),
        ),
        _p.number(
            "Longest wait",
            _q.value("aiopype_lag_seconds", how="max", legend="wait"),
            unit="s",
            limits=((60, _YELLOW), (300, _RED)),
            alerts=("AiopypeLagSeconds",),
        ),
        _p.number(
            "Tries that fail",
            _q.share("aiopype_subscription_events_total", "outcome", "failed", "ok|failed"),
            unit="percentunit",
            limits=((0.01, _YELLOW), (0.05, _RED)),
            alerts=("AiopypeErrors",),
        ),
        _p.number(
            "Dead letters",
            _q.increase(
                "aiopype_events_total",
                legend="in this time",
                during="$__range",
                outcome="dead_letter",
            ),
            limits=((1, _YELLOW),),
            alerts=("AiopypeDeadLetters",),
        ),
    )


def _states() -> tuple[Panel, ...]:
    versions = ("flow", "instance", "worker", "version", "python", "faust", "aiokafka")
    return (
        Panel(
            "Managers",
            (_q.state("aiopype_manager_state", "flow", "manager", legend="{{flow}}: {{manager}}"),),
            look=Look.STATES,
            width=12,
            alerts=("AiopypeManagerQuarantined",),
        ),
        Panel(
            "Events by what became of them",
            (_q.rate("aiopype_events_total", "outcome"),),
            "eps",
            width=12,
            alerts=("AiopypeDeadLetters",),
        ),
        _p.gauges(
            "Failing checks of health, on so many workers",
            "aiopype_worker_problem",
            "check",
            alerts=("AiopypeNoReadyWorker",),
        )._replace(width=6),
        _p.growth(
            "Restarts of managers",
            "aiopype_manager_restarts_total",
            "manager",
            alerts=("AiopypeManagerQuarantined",),
        )._replace(width=6),
        _p.gauges(
            "Workers under one command",
            "aiopype_workers",
            "instance",
            "state",
            alerts=("AiopypeWorkerDown",),
        )._replace(look=Look.STACKED, width=6),
        Panel(
            "Workers",
            (_q.value("aiopype_build_info", *versions, how="max"),),
            look=Look.TABLE,
            width=6,
        ),
    )
