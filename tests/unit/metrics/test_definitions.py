import re
from pathlib import Path

import pytest

from aiopype.metrics.definitions import METRICS, Kind, Metric, Row
from aiopype.metrics.documentation import tables

#: As `promtool check metrics` has them: words for units that are not base units, and for types.
NOT_BASE = {
    "milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "weeks", "ms", "us",
    "kilobytes", "megabytes", "gigabytes", "bits", "kb", "mb", "percent",
}  # fmt: skip
TYPES = {"counter", "gauge", "histogram", "summary", "metric"}


def complaints(metric):
    """Return what `promtool check metrics` would complain of, and a few rules of our own."""
    name, labels = metric.name, metric.labels
    words = name.split("_")
    rules = {
        "name": re.fullmatch(r"aiopype(_[a-z0-9]+)+", name),
        "_total": (words[-1] == "total") == (metric.kind is Kind.COUNTER),
        "_info": (words[-1] == "info") == (metric.kind is Kind.INFO),
        "reserved suffix": words[-1] not in {"count", "sum", "bucket", "created"},
        "unit": not NOT_BASE & set(words),
        "type in the name": not TYPES & set(words),
        "help": re.fullmatch(r"\S.*[.]", metric.help),
        "label": all(re.fullmatch(r"[a-z]+(_[a-z]+)*", label) for label in labels),
        "reserved label": not {"le", "quantile"} & set(labels),
        "label twice": len(set(labels)) == len(labels),
        "no flow": metric.row is Row.PROCESS or labels[:1] == ("flow",),
    }
    return [rule for rule, holds in rules.items() if not holds]


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_metric_is_as_prometheus_wants_it(metric):
    assert complaints(metric) == []


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"name": "aiopype_Events"}, "name"),
        ({"name": "events"}, "name"),
        ({"name": "aiopype_events_total"}, "_total"),
        ({"name": "aiopype_events", "kind": Kind.COUNTER}, "_total"),
        ({"name": "aiopype_build", "kind": Kind.INFO}, "_info"),
        ({"name": "aiopype_events_count"}, "reserved suffix"),
        ({"name": "aiopype_wait_ms"}, "unit"),
        ({"name": "aiopype_wait_minutes"}, "unit"),
        ({"name": "aiopype_wait_gauge"}, "type in the name"),
        ({"help": ""}, "help"),
        ({"help": "No full stop"}, "help"),
        ({"labels": ("flow", "le")}, "reserved label"),
        ({"labels": ("flow", "flow")}, "label twice"),
        ({"labels": ("flow", "Topic")}, "label"),
        ({"labels": ("topic",)}, "no flow"),
    ],
)
def test_one_that_is_not_is_found(wrong, complaint):
    right = Metric("aiopype_wait_seconds", Kind.GAUGE, "How long it waits.", Row.KAFKA, ("flow",))
    assert complaints(right) == []

    assert complaint in complaints(right._replace(**wrong))


def test_a_metric_is_known_by_its_name():
    assert all(name == metric.name for name, metric in METRICS.items())


def test_the_page_about_metrics_has_the_tables_of_the_definitions():
    written = Path(__file__).parents[3] / "docs" / "metrics.md"

    assert written.read_text(encoding="utf-8").endswith(f"\n\n{tables()}"), (
        "write them anew: python -m aiopype.metrics.documentation"
    )


def test_the_tables_have_each_metric_once():
    for name in METRICS:
        assert tables().count(f"| `{name}` |") == 1
