"""The rows Pipeline, Sources, Kafka and Process."""

from __future__ import annotations

from aiopype.deploy.grafana_panels import Look, Panel, PanelRow, Panels
from aiopype.deploy.grafana_queries import Queries
from aiopype.metrics.definitions import Row

__all__ = ["kafka", "pipeline", "process", "sources"]

_COMPONENT = ("manager", "component")
_EVENT = ("manager", "component", "event")
_WORKER = ("instance", "worker")
_SILENT = ("AiopypeSourceSilent",)
_q = Queries()
_p = Panels(_q)


def pipeline() -> PanelRow:
    """What handlers do with the events."""
    errors, letters = ("AiopypeErrors",), ("AiopypeDeadLetters",)
    old, events = ("AiopypeLagSeconds",), "aiopype_events_total"
    return PanelRow(
        Row.PIPELINE,
        (
            _p.rates("Events handled", events, *_EVENT, outcome="handled"),
            _p.rates("Events emitted", events, *_EVENT, outcome="emitted"),
            _p.rates("Results of handlers", "aiopype_subscription_events_total", "outcome"),
            _p.rates(
                "Errors by class", "aiopype_errors_total", *_COMPONENT, "error", alerts=errors
            ),
            _p.rates("Tries after the first", "aiopype_retries_total", *_COMPONENT, alerts=errors),
            _p.gauges(
                "Events that wait for another try",
                "aiopype_parked_events",
                *_COMPONENT,
                alerts=errors,
            ),
            _p.rates(
                "Dead letters, and events skipped",
                events,
                *_COMPONENT,
                "outcome",
                alerts=letters,
                outcome="dead_letter|skipped",
            ),
            _p.gauges(
                "Offsets in error topics",
                "aiopype_dead_letters_stored",
                *_COMPONENT,
                how="max",
                alerts=letters,
            ),
            _p.gauges(
                "Age of the oldest batch in work",
                "aiopype_batch_age_seconds",
                *_EVENT,
                how="max",
                unit="s",
                alerts=old,
            ),
            _p.quantiles("Handling an event", "aiopype_handling_seconds"),
            _p.quantiles("From a source to the end of a step", "aiopype_event_age_seconds"),
            _p.quantiles("A batch, until it is durable", "aiopype_batch_seconds"),
            Panel(
                "Handling an event, by component",
                (_q.quantile(0.95, "aiopype_handling_seconds", *_COMPONENT),),
                "s",
            ),
            Panel(
                "From a source to the end of a step, by event",
                (_q.quantile(0.95, "aiopype_event_age_seconds", *_EVENT),),
                "s",
                alerts=old,
            ),
            Panel("Events in a batch", (_q.mean("aiopype_batch_events", *_EVENT),)),
        ),
    )


def sources() -> PanelRow:
    """What sources hear and write."""
    limit = _q.value(
        "aiopype_source_silence_limit_seconds",
        *_COMPONENT,
        how="max",
        legend="{{manager}}.{{component}} may be",
    )
    heard = _q.ago("aiopype_source_last_heard_timestamp_seconds", *_COMPONENT)
    return PanelRow(
        Row.SOURCES,
        (
            Panel(
                "Sources",
                (_q.state("aiopype_source_state", *_COMPONENT),),
                look=Look.STATES,
                width=16,
                alerts=("AiopypeSourceQuarantined", "AiopypeSourceUnowned"),
            ),
            _p.growth(
                "Restarts of sources",
                "aiopype_source_restarts_total",
                *_COMPONENT,
                alerts=("AiopypeSourceQuarantined", *_SILENT),
            ),
            Panel("Since the upstream was heard of", (heard, limit), "s", alerts=_SILENT),
            _p.ages(
                "Since something was written",
                "aiopype_source_last_event_timestamp_seconds",
                *_COMPONENT,
                alerts=_SILENT,
            ),
            _p.gauges(
                "Events that are not written yet", "aiopype_source_outbox_events", *_COMPONENT
            ),
            _p.rates(
                "Requests, polls and connections",
                "aiopype_source_attempts_total",
                *_COMPONENT,
                "outcome",
                unit="ops",
                alerts=_SILENT,
            ),
            _p.growth(
                "Connections after the first",
                "aiopype_source_reconnects_total",
                *_COMPONENT,
                alerts=_SILENT,
            ),
            _p.gauges(
                "Owners so far",
                "aiopype_source_epoch",
                *_COMPONENT,
                how="max",
                alerts=("AiopypeSourceUnowned", "AiopypeFencing"),
            ),
        ),
    )


def kafka() -> PanelRow:
    """How far the flow is behind, and what Kafka takes."""
    growing, storm = ("AiopypeLagGrowing",), ("AiopypeRebalanceStorm",)
    fencing = ("AiopypeFencing",)
    return PanelRow(
        Row.KAFKA,
        (
            _p.gauges("Lag by event", "aiopype_lag_records", *_EVENT, alerts=growing),
            _p.gauges(
                "Longest wait by event",
                "aiopype_lag_seconds",
                *_EVENT,
                how="max",
                unit="s",
                alerts=("AiopypeLagSeconds",),
            )._replace(limits=((300, "red"),)),
            _p.gauges(
                "Lag by partition",
                "aiopype_lag_records",
                *_EVENT,
                "partition",
                how="max",
                alerts=growing,
            ),
            _p.gauges(
                "Partitions by worker",
                "aiopype_assigned_partitions",
                *_WORKER,
                alerts=storm,
            )._replace(look=Look.STACKED),
            _p.growth("Rebalances", "aiopype_rebalances_total", "group", *_WORKER, alerts=storm),
            _p.rates(
                "Transactions",
                "aiopype_transactions_total",
                "of",
                "outcome",
                unit="ops",
                alerts=fencing,
            ),
            _p.rates(
                "Commits outside transactions", "aiopype_commits_total", "outcome", unit="ops"
            ),
            _p.quantiles("Making it durable", "aiopype_delivery_seconds", "of"),
        ),
    )


def process() -> PanelRow:
    """The workers as processes."""
    of = "aiopype_process_"
    files = _q.value(f"{of}open_fds", *_WORKER, how="max")
    most = _q.value(f"{of}max_fds", *_WORKER, how="max")
    share = files._replace(
        expr=f"{files.expr} / {most.expr}", metrics=(*files.metrics, *most.metrics)
    )
    delays = (
        _q.quantile(share, "aiopype_event_loop_delay_seconds", *_WORKER) for share in (0.5, 0.99)
    )
    return PanelRow(
        Row.PROCESS,
        (
            Panel(
                "Delay of the event loop",
                tuple(delays),
                "s",
                limits=((0.5, "red"),),
                alerts=("AiopypeEventLoopBlocked",),
            ),
            _p.rates("Processors in use", f"{of}cpu_seconds_total", *_WORKER, unit="short"),
            _p.gauges(
                "Resident memory", f"{of}resident_memory_bytes", *_WORKER, how="max", unit="bytes"
            ),
            _p.gauges(
                "Virtual memory", f"{of}virtual_memory_bytes", *_WORKER, how="max", unit="bytes"
            ),
            Panel("File descriptors in use", (share,), "percentunit"),
            _p.ages(
                "Since the process started",
                f"{of}start_time_seconds",
                *_WORKER,
                alerts=("AiopypeWorkerDown",),
            ),
        ),
    )
