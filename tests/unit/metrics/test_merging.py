"""The merged metrics, read by the parsers of Prometheus' own library."""

import pytest
from prometheus_client import Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import CollectorRegistry

from aiopype.metrics import Metrics
from aiopype.metrics.merging import WorkerCounts, merge

OPEN = "application/openmetrics-text; version=1.0.0"
FORMS = pytest.mark.parametrize(
    ("accept", "parse"), [("", parse_text), (OPEN, parse_open)], ids=["text", "OpenMetrics"]
)


@pytest.fixture
def worker():
    """Makes the metrics of a worker, of each kind and with what is hard to write."""

    def make(factor):
        registry = CollectorRegistry()
        labels = ["flow", "component"]
        counter = Counter("aiopype_events", "Events.\nOf two \\ lines.", labels, registry=registry)
        counter.labels("f", "a").inc(factor / 3, exemplar={"trace": "{1} 2"})
        counter.labels("f", 'quoted "{x="y"}", \\ and\nbroken').inc(1e300)
        histogram = Histogram("aiopype_handling_seconds", "Time.", ["flow"], registry=registry)
        for n in range(9):
            histogram.labels("f").observe(factor * n / 7)
        Info("aiopype_build", "Build.", ["flow"], registry=registry).labels("f").info(
            {"version": f"1.{factor}"}
        )
        Gauge("aiopype_open_fds", "No labels.", registry=registry).set(-factor / 7)
        Gauge("aiopype_limit", "Special.", ["kind"], registry=registry).labels("inf").set("inf")
        Summary("aiopype_size_bytes", "Sum.", registry=registry).observe(factor)
        Enum("aiopype_state", "One of.", states=["on", "off"], registry=registry).state("off")
        Gauge("aiopype_none", "No samples.", ["flow"], registry=registry)
        metrics = Metrics()
        metrics._registry = registry
        return metrics

    return make


def families(text, parse):
    """Return type, help and samples by name; no two families may have one name."""
    found = list(parse(text))
    assert len({family.name for family in found}) == len(found)
    return {family.name: family for family in found}


def as_text(metrics, accept):
    return metrics.text(accept)[0].decode()


@FORMS
def test_each_sample_of_each_worker_is_there_as_it_was_but_for_the_label(worker, accept, parse):
    texts = {str(number): as_text(worker(number), accept) for number in (1, 2, 3)}

    merged = families(merge(texts), parse)

    for number, text in texts.items():
        own = families(text, parse)
        assert merged.keys() == own.keys()
        for name, family in own.items():
            found = merged[name]
            assert (found.type, found.documentation) == (family.type, family.documentation)
            of_worker = [s for s in found.samples if s.labels["worker"] == number]
            expected = [s._replace(labels={**s.labels, "worker": number}) for s in family.samples]
            assert of_worker == expected
    samples = sum(len(family.samples) for family in families(texts["1"], parse).values())
    assert sum(len(family.samples) for family in merged.values()) == 3 * samples > 60


@FORMS
def test_the_parents_own_metrics_stand_beside_them_without_the_label(worker, accept, parse):
    own = as_text(Metrics(WorkerCounts("f", up=2, down=1)), accept)

    merged = families(merge({"1": as_text(worker(1), accept)}, own), parse)

    assert [(s.labels, s.value) for s in merged["aiopype_workers"].samples] == [
        ({"flow": "f", "state": "up"}, 2),
        ({"flow": "f", "state": "down"}, 1),
    ]
    assert len(merged["aiopype_handling_seconds"].samples) > 10


@FORMS
def test_a_metric_that_one_worker_has_alone_is_there_once(worker, accept, parse):
    other = as_text(Metrics(WorkerCounts("f", up=1, down=0)), accept)

    merged = families(merge({"1": as_text(worker(1), accept), "2": other}), parse)

    assert {s.labels["worker"] for s in merged["aiopype_workers"].samples} == {"2"}
    assert {s.labels["worker"] for s in merged["aiopype_open_fds"].samples} == {"1"}


def test_what_a_metric_is_comes_from_the_first_that_says_it():
    texts = {"1": "# HELP a One.\n# TYPE a gauge\na 1\n", "2": "# HELP a Two.\na{} 2\n"}

    assert merge(texts) == (
        '# HELP a One.\n# TYPE a gauge\na{worker="1"} 1\na{worker="2"} 2\n'
    )  # fmt: skip


@pytest.mark.parametrize(("accept", "end"), [("", ""), (OPEN, "# EOF\n")])
def test_without_an_answer_there_is_what_the_parent_knows(accept, end):
    own = as_text(Metrics(WorkerCounts("f", up=0, down=2)), accept)

    assert merge({}, own) == own
    assert own.endswith(end)
