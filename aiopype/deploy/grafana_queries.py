"""Queries of Prometheus, made of the metrics' own definitions.

A name, a label or a kind that does not fit the definition raises here, and not on a dashboard that
stays empty.
"""

from __future__ import annotations

from typing import NamedTuple

from aiopype.metrics.definitions import METRICS, Kind, Metric
from aiopype.states import State

__all__ = ["STATES", "VARIABLES", "Queries", "Query"]

#: What a dashboard lets its reader choose, as far as a metric has the label.
VARIABLES = ("flow", "manager", "component", "instance")

#: States as numbers, the worst is the highest: of two workers' it is the one that is shown.
STATES = {State.ENDED: 0, State.RUNNING: 1, State.RESTARTING: 2, State.QUARANTINED: 3}

_NAMES = ("manager", "component", "event")

#: Prometheus adds the first, and the command that runs several workers the second.
_OF_SCRAPES = ("instance", "worker")


class Query(NamedTuple):
    """One query of a panel.

    Attributes:
        expr: PromQL, with Grafana's variables.
        legend: what a series is called.
        metrics: those it reads.
    """

    expr: str
    legend: str
    metrics: tuple[str, ...]


class Queries:
    """Makes queries.

    Arguments:
        fixed: labels that have one value, whatever the reader chooses: those of a component.
    """

    def __init__(self, **fixed: str) -> None:
        self._fixed = fixed

    def rate(self, name: str, *by: str, legend: str | None = None, **only: str) -> Query:
        """How much a counter grows a second, added up.

        Arguments:
            by: labels that stay.
            legend: what a series is called; its labels if not given.
            only: values of further labels.
        """
        _is_kind(METRICS[name], Kind.COUNTER)
        inner = f"rate({self.select(name, **only)}[$__rate_interval])"
        return _query(_over("sum", inner, name, by), by, legend, name)

    def increase(
        self, name: str, *by: str, legend: str | None = None, during: str = "$__rate_interval",
        **only: str,
    ) -> Query:  # fmt: skip
        """By how much a counter grew in a time; the arguments are those of `rate`."""
        _is_kind(METRICS[name], Kind.COUNTER)
        inner = f"increase({self.select(name, **only)}[{during}])"
        return _query(_over("sum", inner, name, by), by, legend, name)

    def share(self, name: str, label: str, part: str, whole: str, *by: str) -> Query:
        """How large a part of a counter's growth one value of a label has, from 0 to 1.

        Arguments:
            part: the value.
            whole: a pattern of the values that are all.
            by: labels that stay.
        """
        one = self.rate(name, *by, **{label: part}).expr
        all_ = self.rate(name, *by, **{label: whole}).expr
        return _query(f"{one} / {all_}", by, None if by else "share", name)

    def value(
        self, name: str, *by: str, legend: str | None = None, how: str = "sum", **only: str
    ) -> Query:
        """A gauge, of several workers and partitions added up or as `how` says."""
        metric = METRICS[name]
        _is_kind(metric, Kind.GAUGE, Kind.INFO)
        inner = self.select(name, **only)
        if "partition" in metric.labels and how == "sum" and "instance" not in by:
            # While a partition moves two workers may tell of it.
            inner = _over("max", inner, name, metric.labels)
        return _query(_over(how, inner, name, by), by, legend, name)

    def ago(self, name: str, *by: str, how: str = "max", legend: str | None = None) -> Query:
        """How many seconds ago a point of time was."""
        assert name.endswith(("_timestamp_seconds", "_time_seconds")), name
        return _query(f"time() - {self.value(name, *by, how=how).expr}", by, legend, name)

    def quantile(self, share: float, name: str, *by: str) -> Query:
        """A quantile of a histogram."""
        _is_kind(METRICS[name], Kind.HISTOGRAM)
        inner = f"rate({self.select(name, suffix='_bucket')}[$__rate_interval])"
        whole = _over("sum", inner, name, ("le", *by))
        legend = " ".join(part for part in (_legend(by), f"p{share * 100:g}") if part)
        return Query(f"histogram_quantile({share:g}, {whole})", legend, (name,))

    def mean(self, name: str, *by: str, legend: str | None = None) -> Query:
        """The mean of a histogram."""
        _is_kind(METRICS[name], Kind.HISTOGRAM)
        total, count = (
            _over("sum", f"rate({self.select(name, suffix=end)}[$__rate_interval])", name, by)
            for end in ("_sum", "_count")
        )
        return _query(f"{total} / {count}", by, legend or (None if by else "mean"), name)

    def state(self, name: str, *by: str, legend: str | None = None) -> Query:
        """The state of managers or sources as a number of `STATES`, the worst of all workers."""
        each = (
            f"({number} * ({self.select(name, state=state)} == 1))"
            for state, number in STATES.items()
        )
        return _query(_over("max", " or ".join(each), name, by), by, legend, name)

    def select(self, name: str, *, suffix: str = "", **only: str) -> str:
        """Return the metric with its matchers: what is fixed, what is chosen, and `only`.

        Arguments:
            suffix: of a histogram's series.
            only: values of labels; one with `|` in it is a pattern.
        """
        metric = METRICS[name]
        matchers = []
        for label in VARIABLES:
            if label == "instance" or label in metric.labels:
                fixed = self._fixed.get(label)
                matchers.append(f'{label}=~"${label}"' if fixed is None else f'{label}="{fixed}"')
        for label, value in only.items():
            _has(metric, label)
            matchers.append(f'{label}{"=~" if "|" in value else "="}"{value}"')
        return f"{name}{suffix}{{{','.join(matchers)}}}"


def _over(how: str, inner: str, name: str, by: tuple[str, ...]) -> str:
    """Return an aggregation that keeps labels which the metric has."""
    for label in by:
        _has(METRICS[name], label)
    return f"{how} by ({', '.join(by)}) ({inner})" if by else f"{how}({inner})"


def _query(expr: str, by: tuple[str, ...], legend: str | None, *metrics: str) -> Query:
    return Query(expr, _legend(by) if legend is None else legend, metrics)


def _legend(by: tuple[str, ...]) -> str:
    name = ".".join(f"{{{{{label}}}}}" for label in _NAMES if label in by)
    rest = [f"{{{{{label}}}}}" for label in by if label not in _NAMES]
    return " ".join([name, *rest] if name else rest)


def _has(metric: Metric, label: str) -> None:
    if label not in {*metric.labels, *_OF_SCRAPES, "le"}:
        raise ValueError(f"{metric.name} has no label {label!r}; it has {metric.labels}")


def _is_kind(metric: Metric, *kinds: Kind) -> None:
    if metric.kind not in kinds:
        raise ValueError(f"{metric.name} is a {metric.kind}, not a {' or '.join(kinds)}")
