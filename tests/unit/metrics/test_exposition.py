import threading

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from aiopype.metrics import Metrics

OPEN = "application/openmetrics-text; version=1.0.0"


class Noting(Collector):
    """Gives one metric; notes in which threads it is asked, and how often."""

    def __init__(self):
        self.threads = []

    def collect(self):
        self.threads.append(threading.current_thread())
        yield GaugeMetricFamily("aiopype_wait_seconds", "How long.", value=len(self.threads))


@pytest.fixture
def collector():
    return Noting()


@pytest.fixture
def metrics(collector):
    made = Metrics(collector)
    collector.threads.clear()  # it is asked for its names when it is added
    return made


@pytest.mark.parametrize("accept", ["", "text/plain", OPEN])
async def test_a_scrape_says_what_the_text_says(metrics, collector, accept):
    body, content_type = await metrics.scrape(accept)
    collector.threads.clear()

    assert (body, content_type) == metrics.text(accept)
    assert b"aiopype_wait_seconds 1.0" in body


async def test_what_is_known_is_read_on_the_event_loop_and_once(metrics, collector):
    await metrics.scrape()

    assert collector.threads == [threading.current_thread()]
