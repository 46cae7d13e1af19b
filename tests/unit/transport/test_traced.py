"""Partitions whose batches are traced, with spans that only note what is asked of them."""

from types import SimpleNamespace

import pytest

from aiopype import Retry
from aiopype.errors import DeliveryError
from aiopype.event import Stamp, headers_of
from aiopype.transport.parking import ParkedRecord
from aiopype.transport.traced import Traced

HEADERS = [("traceparent", b"00-1-2-01")]


class FakeTrace:
    """Notes what happens to it."""

    def __init__(self):
        self.failures = []
        self.ends = []
        self.around_count = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.end(error)

    async def around(self, work):
        self.around_count += 1
        await work

    def fail(self, failures):
        self.failures += failures

    def end(self, error=None):
        self.ends.append(error)


class FakeTracing:
    """Traces every batch, and every event of it."""

    def __init__(self):
        self.traces = []
        self.asked = []

    def of_batch(self, topic, partition, records):
        self.asked.append((topic.name, partition, [record.offset for record in records]))
        self.traces.append(FakeTrace())
        stamped = [
            ParkedRecord(r.offset, Stamp(r.timestamp, HEADERS), r.key, r.value, (("h", b"1"),))
            for r in records
        ]
        return self.traces[-1], stamped


@pytest.fixture
def tracing():
    return FakeTracing()


@pytest.fixture
async def traced(opened, tracing, delivery):
    async def make(*methods):
        one = await opened(*methods)
        one.tracing = tracing
        one._delivery = Traced(delivery)
        return one

    return make


async def test_a_batch_has_one_span_over_all_its_subscriptions(traced, tracing, take, feed):
    one = await traced("double", "negate")

    take(one, 1, 2)
    await feed.work_all()

    assert tracing.asked == [("m.handlers.in", 3, [1, 2])]
    (trace,) = tracing.traces
    assert (trace.around_count, trace.ends) == (2, [None])


async def test_what_its_handlers_emit_has_its_headers(traced, take, feed, delivery):
    emitted = []
    delivery.deliver = lambda batch: _note(emitted, batch)
    one = await traced("double")

    take(one, 1)
    await feed.work_all()

    assert [headers_of(event[3]) for event in emitted] == [HEADERS]


async def _note(emitted, batch):
    emitted += batch.emitted


async def test_a_delivery_that_fails_ends_the_span_with_its_error(
    traced, tracing, take, feed, delivery
):
    one = await traced("double")
    delivery.errors.append(DeliveryError("not in time"))

    take(one, 1)
    await feed.work_all()

    ((error,),) = [trace.ends for trace in tracing.traces]
    assert isinstance(error, DeliveryError)


async def test_failures_are_told_and_their_letters_are_traced(
    traced, tracing, take, feed, handlers, delivery
):
    emitted = []
    delivery.deliver = lambda batch: _note(emitted, batch)
    handlers.failing.add(1)
    handlers.retry = SimpleNamespace(delay=lambda *_: None)
    one = await traced("fail")

    take(one, 1, 2)
    await feed.work_all()

    (trace,) = tracing.traces
    assert [str(failure.error) for failure in trace.failures] == ["number 1"]
    assert [event[0].event for event in emitted] == ["out", "error"]
    assert all(headers_of(event[3]) == HEADERS for event in emitted)


async def test_a_partition_that_is_given_up_ends_the_span_of_its_batch(traced, tracing, take):
    one = await traced("double")

    take(one, 1)
    one.close()

    (trace,) = tracing.traces
    assert len(trace.ends) == 1


async def test_the_rest_of_a_batch_is_another_one(traced, tracing, take, feed, monkeypatch):
    monkeypatch.setattr("aiopype.transport.partition.BATCH_SECONDS", 0)
    one = await traced("block")

    take(one, 1, 2)
    await feed.work_all()

    assert [offsets for _, _, offsets in tracing.asked] == [[1, 2], [2]]
    assert [trace.ends for trace in tracing.traces] == [[None], [None]]


async def test_an_event_that_waits_keeps_its_headers_and_is_traced_again(
    traced, tracing, take, feed, handlers, until
):
    handlers.failing.add(1)
    handlers.retry = Retry(first_delay_seconds=3)
    one = await traced("pass_later")

    take(one, 1)
    await feed.work_all()
    await one.parking.load()
    ((_, (attempt,)),) = [one.parking.due(float("inf"))]
    assert (attempt.record.timestamp, attempt.record.headers) == (1_000, (("h", b"1"),))
    assert type(attempt.record.timestamp) is int

    await one._run_due(0, [attempt])

    assert tracing.asked == [("m.handlers.in", 3, [1])] * 2
    assert [trace.ends[:1] for trace in tracing.traces] == [[None], [None]]


async def test_without_the_setting_nothing_is_asked(opened, take, feed, delivery):
    one = await opened("double")

    take(one, 1)
    await feed.work_all()

    assert one.tracing is None
    assert delivery.done
