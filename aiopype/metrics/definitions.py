"""Every metric of a worker: its name, kind, labels and meaning.

What collects them, the dashboards and the alerts read them from here. Base units, seconds and
bytes; labels come from the graph only, never from keys or events.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = ["METRICS", "Kind", "Metric", "Row"]


class Kind(StrEnum):
    """What a metric's values are; the word of Prometheus' text form."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


class Row(StrEnum):
    """Where a metric belongs on a dashboard."""

    OVERVIEW = "Overview"
    PIPELINE = "Pipeline"
    SOURCES = "Sources"
    KAFKA = "Kafka"
    PROCESS = "Process"


class Metric(NamedTuple):
    """One metric.

    Attributes:
        name: as Prometheus has it, with `_total` behind a counter.
        kind: what its values are.
        help: what it says, in a sentence.
        row: where it belongs.
        labels: their names; `flow` is the first of all.
    """

    name: str
    kind: Kind
    help: str
    row: Row
    labels: tuple[str, ...] = ()


_FLOW = ("flow",)
_MANAGER = ("flow", "manager")
_COMPONENT = ("flow", "manager", "component")
_EVENT = ("flow", "manager", "component", "event")
_PARTITION = ("flow", "manager", "component", "event", "partition")
#: `component` is the handler's; `subscription` as logs and errors write it.
_SUBSCRIPTION = ("flow", "manager", "component", "subscription")

_ALL = (
    # --- the worker as a whole
    Metric(
        "aiopype_build_info",
        Kind.INFO,
        "Versions of this worker; the value is 1.",
        Row.OVERVIEW,
        ("flow", "version", "python", "faust", "aiokafka"),
    ),
    Metric(
        "aiopype_worker_ready", Kind.GAUGE, "1 while `/health/ready` says yes.", Row.OVERVIEW, _FLOW
    ),
    Metric(
        "aiopype_worker_problem",
        Kind.GAUGE,
        "1 while a check of the worker's health fails, else 0.",
        Row.OVERVIEW,
        ("flow", "check"),
    ),
    Metric(
        "aiopype_worker_start_timestamp_seconds",
        Kind.GAUGE,
        "When the worker started.",
        Row.OVERVIEW,
        _FLOW,
    ),
    Metric(
        "aiopype_workers",
        Kind.GAUGE,
        "Workers under one command, `--workers N`, by whether they answered this scrape: up or "
        "down. Their own metrics have the label `worker`.",
        Row.OVERVIEW,
        (*_FLOW, "state"),
    ),
    # --- events
    Metric(
        "aiopype_events_total",
        Kind.COUNTER,
        "Events by what became of them: emitted and written; handled by all subscriptions, again "
        "after a crash; written as a dead letter of the component; or skipped, being deleted "
        "before they were handled.",
        Row.PIPELINE,
        (*_EVENT, "outcome"),
    ),
    Metric(
        "aiopype_subscription_events_total",
        Kind.COUNTER,
        "Results of a handler: ok; failed, one for each try that raised; parked, to be tried again "
        "later; or dead_letter.",
        Row.PIPELINE,
        (*_SUBSCRIPTION, "outcome"),
    ),
    Metric(
        "aiopype_retries_total",
        Kind.COUNTER,
        "Tries of an event after its first.",
        Row.PIPELINE,
        _SUBSCRIPTION,
    ),
    Metric(
        "aiopype_errors_total",
        Kind.COUNTER,
        "Errors of a component by class: what its handlers raised, each try, and why its source "
        "failed. Beyond 50 classes of a component it is `other`.",
        Row.PIPELINE,
        (*_COMPONENT, "error"),
    ),
    Metric(
        "aiopype_dead_letters_stored",
        Kind.GAUGE,
        "Offsets in a component's `error` topic, the markers of transactions included: 0 when "
        "there are no dead letters.",
        Row.PIPELINE,
        _COMPONENT,
    ),
    Metric(
        "aiopype_parked_events",
        Kind.GAUGE,
        "Events of partitions owned here that wait to be tried again, those behind them included.",
        Row.PIPELINE,
        _SUBSCRIPTION,
    ),
    Metric(
        "aiopype_handling_seconds",
        Kind.HISTOGRAM,
        "How long a handler takes for an event.",
        Row.PIPELINE,
        _SUBSCRIPTION,
    ),
    Metric(
        "aiopype_event_age_seconds",
        Kind.HISTOGRAM,
        "From when a source saw an event's data until the event is handled and durable.",
        Row.PIPELINE,
        _EVENT,
    ),
    Metric("aiopype_batch_events", Kind.HISTOGRAM, "Events in a batch.", Row.PIPELINE, _EVENT),
    Metric(
        "aiopype_batch_seconds",
        Kind.HISTOGRAM,
        "From when a batch begins until it is durable.",
        Row.PIPELINE,
        _EVENT,
    ),
    Metric(
        "aiopype_batch_age_seconds",
        Kind.GAUGE,
        "How long the oldest batch in work has been; 0 without one.",
        Row.PIPELINE,
        _EVENT,
    ),
    # --- partitions
    Metric(
        "aiopype_lag_records",
        Kind.GAUGE,
        "Offsets between what is handled and the end of the log, of a partition owned here.",
        Row.KAFKA,
        _PARTITION,
    ),
    Metric(
        "aiopype_lag_seconds",
        Kind.GAUGE,
        "How long the oldest event that is not handled has been waiting, of a partition owned "
        "here; 0 when there is none.",
        Row.KAFKA,
        _PARTITION,
    ),
    Metric("aiopype_assigned_partitions", Kind.GAUGE, "Partitions owned here.", Row.KAFKA, _EVENT),
    Metric(
        "aiopype_transactions_total",
        Kind.COUNTER,
        "Transactions of batches and of sources: committed, aborted, or fenced by a successor.",
        Row.KAFKA,
        ("flow", "of", "outcome"),
    ),
    Metric(
        "aiopype_commits_total",
        Kind.COUNTER,
        "Commits of offsets outside transactions: ok or failed.",
        Row.KAFKA,
        (*_FLOW, "outcome"),
    ),
    Metric(
        "aiopype_delivery_seconds",
        Kind.HISTOGRAM,
        "How long it takes to make a batch durable, or the events of a source.",
        Row.KAFKA,
        ("flow", "of"),
    ),
    Metric(
        "aiopype_rebalances_total",
        Kind.COUNTER,
        "Rebalances of the group of events and of that of sources.",
        Row.KAFKA,
        (*_FLOW, "group"),
    ),
    # --- managers and sources
    Metric(
        "aiopype_manager_state",
        Kind.GAUGE,
        "1 for the state that a manager is in, 0 for the others.",
        Row.OVERVIEW,
        (*_MANAGER, "state"),
    ),
    Metric(
        "aiopype_manager_restarts_total",
        Kind.COUNTER,
        "How often a manager was started again after a failure.",
        Row.OVERVIEW,
        _MANAGER,
    ),
    Metric(
        "aiopype_source_state",
        Kind.GAUGE,
        "1 for the state that a source of this worker is in, 0 for the others.",
        Row.SOURCES,
        (*_COMPONENT, "state"),
    ),
    Metric(
        "aiopype_source_restarts_total",
        Kind.COUNTER,
        "How often a source was started again after a failure.",
        Row.SOURCES,
        _COMPONENT,
    ),
    Metric(
        "aiopype_source_last_event_timestamp_seconds",
        Kind.GAUGE,
        "When a source of this worker last had something written.",
        Row.SOURCES,
        _COMPONENT,
    ),
    Metric(
        "aiopype_source_last_heard_timestamp_seconds",
        Kind.GAUGE,
        "When the upstream of a source of this worker was last heard of.",
        Row.SOURCES,
        _COMPONENT,
    ),
    Metric(
        "aiopype_source_silence_limit_seconds",
        Kind.GAUGE,
        "How long a source may hear nothing; none where it may for ever.",
        Row.SOURCES,
        _COMPONENT,
    ),
    Metric(
        "aiopype_source_reconnects_total",
        Kind.COUNTER,
        "Connections of a source after its first.",
        Row.SOURCES,
        _COMPONENT,
    ),
    Metric(
        "aiopype_source_attempts_total",
        Kind.COUNTER,
        "Requests, polls and connections of a source: ok or failed.",
        Row.SOURCES,
        (*_COMPONENT, "outcome"),
    ),
    Metric(
        "aiopype_source_epoch",
        Kind.GAUGE,
        "How many owners a source of this worker has had: the highest is the one that writes.",
        Row.SOURCES,
        _COMPONENT,
    ),
    Metric(
        "aiopype_source_outbox_events",
        Kind.GAUGE,
        "Events of a source of this worker that are not written yet.",
        Row.SOURCES,
        _COMPONENT,
    ),
    # --- the process
    Metric(
        "aiopype_event_loop_delay_seconds",
        Kind.HISTOGRAM,
        "By how much the event loop is late for what is due.",
        Row.PROCESS,
        _FLOW,
    ),
    Metric("aiopype_process_cpu_seconds_total", Kind.COUNTER, "Processor time used.", Row.PROCESS),
    Metric("aiopype_process_resident_memory_bytes", Kind.GAUGE, "Resident memory.", Row.PROCESS),
    Metric("aiopype_process_virtual_memory_bytes", Kind.GAUGE, "Virtual memory.", Row.PROCESS),
    Metric("aiopype_process_open_fds", Kind.GAUGE, "Open file descriptors.", Row.PROCESS),
    Metric(
        "aiopype_process_max_fds", Kind.GAUGE, "File descriptors that may be open.", Row.PROCESS
    ),
    Metric(
        "aiopype_process_start_time_seconds", Kind.GAUGE, "When the process started.", Row.PROCESS
    ),
)

#: All of them, by name.
METRICS = {metric.name: metric for metric in _ALL}
