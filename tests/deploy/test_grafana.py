"""A day of a flow under a real Prometheus: what happens is seen, and every panel has data.

A broker, two workers that become three, a load; handlers that fail, a source that falls silent, a
manager in quarantine, a broker that restarts, workers that are killed and frozen, the drain.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiopype.deploy import grafana
from aiopype.metrics.definitions import METRICS
from aiopype.target import load_flow

from .prometheus_server import Prometheus, free_ports

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.kafka,
    pytest.mark.timeout(420),
]

PROGRAM = Path(__file__).with_name("day_program.py").read_text()

#: Four of each event that somebody handles, the requests to run dead letters again included.
PARTITIONS = 4 * (4 + 3)

#: Until something is seen: on a machine with much else to do.
SEEN_SECONDS = 60.0


class Day:
    """The flow, its workers and what Prometheus sees of them.

    Attributes:
        began: when, in seconds since 1970.
        workers: those that run, by name.
    """

    def __init__(self, folder: Path, start: Any, wait_until: Any, prometheus: Prometheus) -> None:
        self.folder = folder
        self.prometheus = prometheus
        self.workers: dict[str, Any] = {}
        self.began = time.time()
        self._start = start
        self._wait_until = wait_until
        self.broker_port, *ports = free_ports(5)
        self.ports = dict(zip(("one", "two", "three"), ports, strict=False))

    def start_broker(self) -> Any:
        command = ("-m", "aiopype", "broker", "--port", str(self.broker_port), "--data", "kafka")
        broker = self._start(PROGRAM, command=command)
        self._wait_until(lambda: f"127.0.0.1:{self.broker_port}" in broker.text, 60, broker)
        return broker

    def work(self, name: str, *options: str) -> None:
        """Start a worker and scrape it."""
        command = ("-m", "aiopype", "run", "program.py", "--plain")
        web = ("--web-port", str(self.ports[name]), "--broker", f"127.0.0.1:{self.broker_port}")
        self.workers[name] = self._start(PROGRAM, command=(*command, *web, *options))
        self.prometheus.scrape({each: self.ports[each] for each in self.workers})

    def move(self, source: str, name: str) -> None:
        """Have a worker run a source, as an operator does."""
        worker = f"{socket.gethostname()}:{self.workers[name].pid}"
        options = ("--broker", f"127.0.0.1:{self.broker_port}", "--wait", "60")
        command = ("-m", "aiopype", "sources", "move", "program.py", source, worker, *options)
        moving = self._start(PROGRAM, command=command)
        assert moving.wait(70) == 0, moving.text

    def set(self, **switches: bool) -> None:
        """Make files that say what goes wrong, or remove them; `_` is a `.` in their names."""
        for name, is_on in switches.items():
            file = self.folder / name.replace("_", ".")
            file.touch() if is_on else file.unlink(missing_ok=True)

    def sees(self, *queries: str) -> None:
        """Wait until each query gives at least one series: until what it says is so."""
        for query in queries:
            self._wait_until(
                lambda q=query: self.prometheus.series(q), SEEN_SECONDS, _Seen(self, query)
            )

    def saw(self, *queries: str) -> None:
        """As `sees`, for what lasts a few seconds only."""
        self.sees(*(f"max_over_time(({query})[1m:1s])" for query in queries))

    def grows(self, *counters: str) -> None:
        """Wait until each counter is more than it was, in one of its series."""
        before = {counter: self._total(counter) for counter in counters}
        for counter, total in before.items():
            self._wait_until(
                lambda c=counter, t=total: self._total(c) > t, SEEN_SECONDS, _Seen(self, counter)
            )

    def _total(self, counter: str) -> float:
        return self.prometheus.value(f"sum({counter})") or 0.0


class _Seen:
    """What is said when something is not seen."""

    def __init__(self, day: Day, query: str) -> None:
        self._day, self._query = day, query

    @property
    def text(self) -> str:
        metrics = set(re.findall(r"aiopype_\w+|up", self._query))
        now = {metric: self._day.prometheus.series(metric)[:20] for metric in metrics}
        logs = {name: worker.text[-1500:] for name, worker in self._day.workers.items()}
        return f"{self._query}\n{now}\n{logs}"


@pytest.fixture
def day(
    prometheus_programs: dict[str, Path],
    repository: Path,
    tmp_path: Path,
    start: Any,
    wait_until: Any,
) -> Iterator[Day]:
    (port,) = free_ports(1)
    rules = repository / "deploy/prometheus/rules.yml"
    prometheus = Prometheus(prometheus_programs["prometheus"], tmp_path / "prometheus", port, rules)
    try:
        wait_until(prometheus.is_up, 30, "Prometheus is up")
        yield Day(tmp_path, start, wait_until, prometheus)
    finally:
        prometheus.stop()


def test_a_day_is_seen_and_every_panel_shows_it(
    day: Day, prometheus_programs: dict[str, Path]
) -> None:
    broker = day.start_broker()
    starts(day)
    works(day)
    the_text_is_as_prometheus_wants_it(day, prometheus_programs["promtool"])
    is_slow(day)
    fails(day)
    falls_silent(day)
    is_quarantined(day)
    broker = loses_its_broker(day, broker)
    gets_a_third_and_loses_one(day)
    is_frozen(day)
    drains(day)
    broker.send(signal.SIGTERM)
    assert every_metric(day) == set(METRICS)
    assert panels_without_data(day) == []
    a_panel_that_is_broken_would_be_noticed(day)


def starts(day: Day) -> None:
    day.work("one")
    day.sees("sum(aiopype_worker_ready) == 1")
    day.work("two")
    day.sees(
        "sum(aiopype_worker_ready) == 2",
        "count(aiopype_build_info) == 2",
        f"sum(aiopype_assigned_partitions) == {PARTITIONS}",
        'count(aiopype_manager_state{state="running"} == 1) == 6',
        'count(aiopype_source_state{state="running"} == 1) == 3',
        "min(aiopype_source_epoch) >= 1",
        "sum(aiopype_worker_problem) == 0",
        "time() - min(aiopype_worker_start_timestamp_seconds) < 120",
        "time() - min(aiopype_process_start_time_seconds) < 120",
        "min(aiopype_process_open_fds / aiopype_process_max_fds) > 0",
        "min(aiopype_process_resident_memory_bytes) > 1e7",
        "min(aiopype_process_virtual_memory_bytes) > 1e7",
        'min(aiopype_rebalances_total{group="events"}) >= 1',
        'min(aiopype_rebalances_total{group="sources"}) >= 1',
    )


def works(day: Day) -> None:
    day.set(load=True)
    day.sees(
        'sum(rate(aiopype_events_total{event="order",outcome="handled"}[5s])) > 200',
        'sum(rate(aiopype_events_total{event="checked",outcome="emitted"}[5s])) > 200',
        "max(time() - aiopype_source_last_event_timestamp_seconds) < 10",
        "max(time() - aiopype_source_last_heard_timestamp_seconds) < 10",
        "max(aiopype_source_silence_limit_seconds) == 3",
        "count(aiopype_source_outbox_events) == 3",
    )
    day.grows(
        'aiopype_subscription_events_total{component="check",outcome="ok"}',
        'aiopype_handling_seconds_count{component="check"}',
        'aiopype_event_age_seconds_count{event="checked"}',
        'aiopype_batch_events_count{event="order"}',
        'aiopype_batch_seconds_count{event="order"}',
        'aiopype_delivery_seconds_count{of="events"}',
        'aiopype_delivery_seconds_count{of="source"}',
        'aiopype_transactions_total{of="events",outcome="committed"}',
        'aiopype_transactions_total{of="source",outcome="committed"}',
        'aiopype_commits_total{outcome="ok"}',
        'aiopype_source_attempts_total{component="source",outcome="ok"}',
        "aiopype_event_loop_delay_seconds_count",
        "aiopype_process_cpu_seconds_total",
    )


def the_text_is_as_prometheus_wants_it(day: Day, promtool: Path) -> None:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{day.ports['one']}/metrics", timeout=10
    ) as answer:
        text = answer.read()
    checked = subprocess.run(
        [promtool, "check", "metrics"], check=False, input=text, capture_output=True, timeout=60
    )
    assert checked.returncode == 0, checked.stdout.decode() + checked.stderr.decode()


def is_slow(day: Day) -> None:
    day.set(slow=True)
    day.sees(
        'sum(aiopype_lag_records{component="source"}) > 200',
        "max(aiopype_lag_seconds) > 1",
        'max(aiopype_batch_age_seconds{component="source"}) > 0.2',
    )
    day.set(slow=False)
    day.sees('sum(aiopype_lag_records{component="source"}) < 200')


def fails(day: Day) -> None:
    day.set(failing=True)
    day.sees(
        'sum(aiopype_errors_total{component="check",error="ValueError"}) > 0',
        'sum(aiopype_errors_total{component="store",error="OSError"}) > 0',
        'count(sum by (manager) (aiopype_errors_total{component="log"}) > 0) == 2',
    )
    day.grows(
        'aiopype_subscription_events_total{component="check",outcome="failed"}',
        'aiopype_subscription_events_total{component="check",outcome="dead_letter"}',
        'aiopype_events_total{component="check",outcome="dead_letter"}',
        'aiopype_retries_total{component="check"}',
    )
    day.sees(
        'max(aiopype_dead_letters_stored{component="check"}) > 0',
        'ALERTS{alertname="AiopypeDeadLetters",alertstate="firing",component="check"}',
    )
    day.set(failing=False, waiting=True)
    day.sees('sum(aiopype_parked_events{component="check"}) > 0')
    day.grows('aiopype_subscription_events_total{component="check",outcome="parked"}')
    day.set(waiting=False)
    day.sees('sum(aiopype_parked_events{component="check"}) == 0')


def falls_silent(day: Day) -> None:
    day.set(quiet_feed_silent=True)
    source = '{manager="quiet",component="feed"}'
    day.sees(
        f"time() - max(aiopype_source_last_heard_timestamp_seconds{source}) > 4",
        'sum(aiopype_worker_problem{check="source quiet.feed"}) == 1',
        'ALERTS{alertname="AiopypeSourceSilent",manager="quiet"}',
    )
    day.grows(
        f"aiopype_source_restarts_total{source}",
        f"aiopype_source_reconnects_total{source}",
        'aiopype_errors_total{manager="quiet",error="SourceSilent"}',
    )
    day.set(quiet_feed_silent=False)
    day.sees(
        f"time() - max(aiopype_source_last_heard_timestamp_seconds{source}) < 3",
        "sum(aiopype_worker_ready) == 2",
    )


def is_quarantined(day: Day) -> None:
    day.set(frail_fails=True)
    day.saw(
        'aiopype_manager_state{manager="frail",state="quarantined"} == 1',
        'aiopype_worker_problem{check="manager frail"} == 1',
        'ALERTS{alertname="AiopypeManagerQuarantined",manager="frail"}',
    )
    day.sees(
        'max(aiopype_manager_state{manager="frail",state="quarantined"}) == 0',
        'sum(aiopype_manager_restarts_total{manager="frail"}) == 1',
    )


def loses_its_broker(day: Day, broker: Any) -> Any:
    broker.send(signal.SIGTERM)
    broker.wait(30)
    day.sees(
        'sum(aiopype_worker_problem{check="broker"}) == 2',
        'ALERTS{alertname="AiopypeNoReadyWorker"}',
    )
    broker = day.start_broker()
    day.sees("sum(aiopype_worker_ready) == 2")
    day.grows('aiopype_events_total{event="checked",outcome="handled"}')
    return broker


def gets_a_third_and_loses_one(day: Day) -> None:
    """The third is two processes under one command."""
    before = day.prometheus.value("sum(aiopype_source_epoch)")
    day.work("three", "--workers", "2")
    day.sees(
        'max(aiopype_workers{instance="three",state="up"}) == 2',
        'sum(aiopype_assigned_partitions{instance="three"}) > 0',
        f"sum(aiopype_assigned_partitions) == {PARTITIONS}",
        "sum(aiopype_worker_ready) == 4",
    )
    day.workers["one"].kill()
    day.sees('up{instance="one"} == 0', 'ALERTS{alertname="AiopypeWorkerDown",instance="one"}')
    day.sees(
        f"sum(aiopype_assigned_partitions) == {PARTITIONS}",
        'count(aiopype_source_state{state="running"} == 1) == 3',
        f"sum(aiopype_source_epoch) > {before}",
        'absent(aiopype_lag_records{instance="one"})',
    )


def is_frozen(day: Day) -> None:
    """Who wakes up past its session finds another in its place."""
    day.move("orders.source", "two")
    day.sees('aiopype_source_state{instance="two",manager="orders",state="running"} == 1')
    day.workers["two"].send(signal.SIGSTOP)
    day.sees(
        'up{instance="two"} == 0',
        'count(aiopype_source_state{instance!="two",state="running"} == 1) == 3',
    )
    day.workers["two"].send(signal.SIGCONT)
    day.sees('sum(aiopype_transactions_total{outcome="fenced"}) > 0', "sum(up) == 2")


def drains(day: Day) -> None:
    day.set(load=False)
    day.sees("sum(aiopype_lag_records) < 50")
    for name, worker in day.workers.items():
        if name != "one":
            worker.send(signal.SIGTERM)
            assert worker.wait(30) == 0, worker.text[-3000:]
    day.sees("sum(up) == 0", "absent(aiopype_worker_ready)")


def every_metric(day: Day) -> set[str]:
    """Return the metrics that the day has given at least one series of."""
    seconds = int(time.time() - day.began) + 1
    found = day.prometheus.series(
        f'count by (__name__) (last_over_time({{__name__=~"aiopype_.*"}}[{seconds}s]))'
    )
    names = {labels["__name__"] for labels, _ in found}
    return {re.sub("_(bucket|sum|count)$", "", n) if n not in METRICS else n for n in names}


def a_panel_that_is_broken_would_be_noticed(day: Day) -> None:
    misspelt = "sum(rate(aiopype_event_total[5s]))"
    assert not day.prometheus.range(misspelt, day.began, time.time(), 2)
    with pytest.raises(AssertionError, match="unclosed left parenthesis"):
        day.prometheus.range("sum(rate(aiopype_events_total[5s])", day.began, time.time(), 2)


def panels_without_data(day: Day) -> list[str]:
    """Return the panels of both boards that show nothing of the day."""
    end = time.time()
    flow = load_flow(str(day.folder / "program.py")).build()
    empty = []
    for row in (*grafana.general_rows(), *grafana.flow_rows(flow)):
        for panel in row.panels:
            for query in panel.queries:
                expr = filled(query.expr, int(end - day.began))
                if not day.prometheus.range(expr, day.began, end, 2):
                    empty.append(f"{row.title}: {panel.title}: {expr}")
    return empty


def filled(expr: str, seconds: int) -> str:
    """Return a query as Grafana sends it when everything is chosen."""
    expr = expr.replace("$__rate_interval", "5s").replace("$__range", f"{seconds}s")
    return re.sub(r"\$(flow|manager|component|instance)\b", ".*", expr)
