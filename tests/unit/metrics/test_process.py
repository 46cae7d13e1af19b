import os
import platform

import pytest

from aiopype.health import Health, Problem
from aiopype.metrics import ProcessFigures, WorkerCollector, process


@pytest.fixture
def health():
    return Health("flow")


@pytest.fixture
def scrape(health, progress, scraped):
    """Scrapes what is known of a worker that started 7 s after 1970."""
    collector = WorkerCollector("flow", health, progress, clock=lambda: 7.0)
    return lambda: scraped(collector)


def test_a_worker_without_a_problem_is_ready(health, scrape):
    health.add("group", lambda: None)

    assert scrape()("worker_ready", flow="flow") == [1]
    assert scrape()("worker_problem", check="group") == [0]


def test_a_worker_with_a_problem_is_not_and_each_check_says_whether_it_has_one(health, scrape):
    health.add("group", lambda: Problem("it is out of its group"))
    health.add("broker", lambda: None)

    assert scrape()("worker_ready") == [0]
    assert scrape()("worker_problem", check="group") == [1]
    assert scrape()("worker_problem", check="broker") == [0]


def test_it_is_told_when_the_worker_started(scrape):
    assert scrape()("worker_start_timestamp_seconds") == [7]


def test_delays_of_the_event_loop_are_told(progress, scrape):
    progress.loop_delay.add(0.2)

    assert scrape()("event_loop_delay_seconds_bucket", le="0.1") == [0]
    assert scrape()("event_loop_delay_seconds_bucket", le="0.25") == [1]


def test_versions_are_labels(scrape, monkeypatch):
    python = platform.python_version()

    assert scrape()("build_info", flow="flow", python=python) == [1]
    assert scrape()("build_info", version="") == scrape()("build_info", faust="") == []


def test_the_process_is_told_of_in_the_words_of_the_definitions(scraped):
    found = scraped(ProcessFigures())

    assert found("process_resident_memory_bytes")[0] > 1_000_000
    assert found("process_open_fds")[0] >= 3
    assert found("process_cpu_seconds_total")[0] > 0
    (family,) = [
        family
        for family in ProcessFigures().collect()
        if family.name == "aiopype_process_resident_memory_bytes"
    ]
    assert family.documentation == "Resident memory."


def test_where_there_is_no_proc_nothing_is_told_of_the_process(scraped, monkeypatch, tmp_path):
    figures = ProcessFigures()
    monkeypatch.setattr(figures._figures, "_proc", os.fspath(tmp_path))

    assert list(figures.collect()) == []


def test_what_prometheus_client_tells_beyond_the_definitions_is_left_out(monkeypatch):
    monkeypatch.setattr(process, "METRICS", {})

    assert list(ProcessFigures().collect()) == []
