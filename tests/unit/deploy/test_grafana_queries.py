"""Queries out of the definitions of metrics: what does not fit raises, the rest is PromQL."""

import pytest

from aiopype.deploy.grafana_queries import Queries

q = Queries()
CHOSEN = 'flow=~"$flow",manager=~"$manager",component=~"$component",instance=~"$instance"'


def test_a_counter_becomes_a_rate_with_what_the_reader_chose():
    query = q.rate("aiopype_events_total", "manager", "event", outcome="handled")

    assert query.expr == (
        f'sum by (manager, event) (rate(aiopype_events_total{{{CHOSEN},outcome="handled"}}'
        "[$__rate_interval]))"
    )
    assert query.legend == "{{manager}}.{{event}}"
    assert query.metrics == ("aiopype_events_total",)


def test_a_histogram_becomes_a_quantile():
    query = q.quantile(0.95, "aiopype_handling_seconds", "component")

    assert query.expr == (
        "histogram_quantile(0.95, sum by (le, component) "
        f"(rate(aiopype_handling_seconds_bucket{{{CHOSEN}}}[$__rate_interval])))"
    )
    assert query.legend == "{{component}} p95"


def test_a_partition_counts_once_while_two_workers_tell_of_it():
    assert q.value("aiopype_lag_records").expr == (
        "sum(max by (flow, manager, component, event, partition) "
        f"(aiopype_lag_records{{{CHOSEN}}}))"
    )


def test_a_component_of_its_own_is_not_for_the_reader_to_choose():
    query = Queries(manager="aapl", component="source").value("aiopype_source_epoch", how="max")

    assert query.expr == (
        'max(aiopype_source_epoch{flow=~"$flow",manager="aapl",component="source",'
        'instance=~"$instance"})'
    )


def test_a_metric_without_labels_is_chosen_by_worker_alone():
    assert q.value("aiopype_process_open_fds").expr == (
        'sum(aiopype_process_open_fds{instance=~"$instance"})'
    )


def test_the_worst_state_is_the_one_that_is_shown():
    expr = q.state("aiopype_manager_state", "manager").expr

    assert expr.startswith("max by (manager) (")
    assert '(3 * (aiopype_manager_state{flow=~"$flow",manager=~"$manager",' in expr
    assert 'state="quarantined"} == 1))' in expr


@pytest.mark.parametrize(
    "make",
    [
        lambda: q.rate("aiopype_lag_records"),
        lambda: q.value("aiopype_events_total"),
        lambda: q.quantile(0.5, "aiopype_events_total"),
        lambda: q.mean("aiopype_worker_ready"),
        lambda: q.rate("aiopype_events_total", "partition"),
        lambda: q.rate("aiopype_retries_total", outcome="ok"),
    ],
)
def test_what_does_not_fit_the_definition_is_refused(make):
    with pytest.raises(ValueError, match="aiopype_"):
        make()


def test_a_metric_that_is_not_known_is_refused():
    with pytest.raises(KeyError, match="aiopype_event_total"):
        q.rate("aiopype_event_total")
