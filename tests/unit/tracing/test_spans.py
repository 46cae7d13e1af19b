import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from aiopype.event import Stamp, headers_of
from aiopype.execution import Failure
from aiopype.graph import Graph
from aiopype.topics import Topic
from aiopype.tracing.spans import FAILURES, LINKS
from aiopype.transport.parking import ParkedRecord

TOPIC = Topic("m.source", "data")


def parent(number, *, sampled=True):
    """The header of an event of the trace with this number."""
    return ("traceparent", b"00-%032x-%016x-%02x" % (number, 7, sampled))


def record(*headers, offset=0):
    return ParkedRecord(offset, 1_000, b"k", b"[]", headers)


# --- sources


def test_what_a_source_writes_together_begins_a_trace(spans):
    with spans.tracing.of_source("m.source", 3) as trace:
        (name, value), *others = trace.headers

    span = spans.one("send m.source")
    assert span.parent is None
    assert span.kind is SpanKind.PRODUCER
    assert span.attributes["messaging.batch.message_count"] == 3
    assert (name, others) == ("traceparent", [])
    version, trace_id, span_id, flags = value.decode().split("-")
    assert (version, int(trace_id, 16), int(span_id, 16)) == (
        "00",
        span.context.trace_id,
        span.context.span_id,
    )
    assert int(flags, 16) & 1


def test_the_events_of_a_source_get_its_context_and_keep_all_else(spans):
    trace = spans.tracing.of_source("m.source", 1)
    event = (TOPIC, b"k", b"[1]", 5, False)

    (stamped,) = trace.stamp([event])

    assert stamped == event
    assert headers_of(stamped[3]) == trace.headers
    assert headers_of(event[3]) == []


def test_two_of_them_are_two_traces(spans):
    first, second = (spans.tracing.of_source("m.source", 1) for _ in range(2))

    assert first.headers != second.headers


# --- batches


def test_a_batch_goes_on_with_the_trace_of_its_event(spans):
    trace, (traced,) = spans.tracing.of_batch(TOPIC, 3, [record(parent(5), offset=17)])
    trace.end()

    span = spans.one("process m.source.data")
    assert (span.context.trace_id, span.parent.span_id) == (5, 7)
    assert span.kind is SpanKind.CONSUMER
    assert span.attributes["messaging.destination.partition.id"] == "3"
    assert span.attributes["messaging.kafka.offset"] == 17
    assert span.attributes["messaging.consumer.group.name"] == "flow"
    assert headers_of(traced.timestamp) == trace.headers
    assert traced.headers == (parent(5),)
    assert (traced.offset, traced.timestamp, traced.key, traced.value) == (17, 1_000, b"k", b"[]")


def test_a_batch_of_several_traces_is_in_the_first_and_has_links_to_the_others(spans):
    records = [record(parent(n)) for n in (5, 6, 5, 7, 6)]

    trace, _ = spans.tracing.of_batch(TOPIC, 3, records)
    trace.end()

    (span,) = spans.all
    assert span.context.trace_id == 5
    assert [link.context.trace_id for link in span.links] == [6, 7]


def test_links_are_bounded(spans):
    trace, _ = spans.tracing.of_batch(TOPIC, 3, [record(parent(n)) for n in range(1, 4_000)])
    trace.end()

    assert len(spans.all[0].links) == LINKS


def test_only_what_comes_of_traced_events_is_traced(spans):
    plain, other = record(), record(parent(6, sampled=False))

    _, records = spans.tracing.of_batch(TOPIC, 3, [plain, record(parent(5)), other])

    assert records[0] is plain
    assert type(records[1].timestamp) is Stamp
    assert records[2] is other


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("source", b"web"),),
        (parent(5, sampled=False),),
        (("traceparent", b"nonsense"),),
        (("traceparent", b"\xff\xfe"),),
        (("traceparent", None),),
        (("tracestate", b"a=b"),),
        (parent(0),),
    ],
)
def test_a_batch_without_a_trace_has_no_span(spans, headers):
    assert spans.tracing.of_batch(TOPIC, 3, [record(*headers)]) is None


def test_the_state_of_a_trace_goes_along(spans):
    trace, _ = spans.tracing.of_batch(
        TOPIC, 3, [record(parent(5), ("tracestate", b"vendor=1"), ("other", b"x"))]
    )

    assert ("tracestate", b"vendor=1") in trace.headers
    assert len(trace.headers) == 2


def test_a_batch_of_a_foreign_topic_without_a_trace_begins_one_for_all_of_it(spans):
    topic = Topic("m.source", "data")
    topic.foreign = object()

    trace, records = spans.tracing.of_batch(topic, 3, [record(), record()])
    trace.end()

    assert spans.all[0].parent is None
    assert all(headers_of(each.timestamp) == trace.headers for each in records)


def test_a_replay_begins_a_trace_with_a_link_to_the_original(spans):
    request = record(("aiopype-replay-of", parent(5)[1]))

    trace, (traced,) = spans.tracing.of_batch(TOPIC, 3, [request])
    trace.end()

    (span,) = spans.all
    assert span.parent is None
    assert span.context.trace_id != 5
    assert [link.context.trace_id for link in span.links] == [5]
    assert headers_of(traced.timestamp) == trace.headers


def test_a_record_that_was_traced_before_is_of_the_new_span(spans):
    _, (first,) = spans.tracing.of_batch(TOPIC, 3, [record(parent(5))])

    again, (second,) = spans.tracing.of_batch(TOPIC, 3, [first])

    assert headers_of(second.timestamp) == again.headers


# --- sampling


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(TraceIdRatioBased(0))])
def test_what_is_not_sampled_has_no_headers(spans_of, sampler):
    spans = spans_of(sampler)

    assert spans.tracing.of_source("m.source", 1) is None
    assert spans.all == ()


def test_the_sampler_of_the_source_decides_for_all_that_follows(spans_of):
    spans = spans_of(ParentBased(ALWAYS_OFF))

    assert spans.tracing.of_source("m.source", 1) is None
    assert spans.tracing.of_batch(TOPIC, 3, [record(parent(5))]) is not None


# --- ends


def test_a_span_that_ends_by_an_error_says_so(spans):
    trace = spans.tracing.of_source("m.source", 1)

    with pytest.raises(LookupError), trace:
        raise LookupError("gone")
    trace.end()

    (span,) = spans.all
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "LookupError"


def test_failures_are_told_by_class_and_the_first_of_them_only(spans, recorder, collector):
    worker = collector("m.worker", recorder)
    recorder.on("m.worker", "in", worker.take)
    assert isinstance(recorder.graph, Graph)
    ((_, (subscription,)),) = recorder.graph.subscribed()
    failures = [Failure(subscription, record(offset=n), ValueError("payload")) for n in range(100)]
    trace = spans.tracing.of_source("m.source", 1)

    trace.fail([Failure(subscription, record(), None), *failures])
    trace.end()

    events = spans.all[0].events
    assert len(events) == FAILURES - 1
    assert events[0].attributes == {
        "aiopype.subscription": subscription.name,
        "error.type": "ValueError",
        "messaging.kafka.offset": 0,
    }


async def test_spans_of_a_handler_belong_to_that_of_its_batch(spans):
    tracer = spans.provider.get_tracer("user")
    trace, _ = spans.tracing.of_batch(TOPIC, 3, [record(parent(5))])

    async def work():
        with tracer.start_as_current_span("query"):
            pass

    await trace.around(work())
    trace.end()

    assert spans.one("query").parent.span_id == spans.one("process m.source.data").context.span_id
