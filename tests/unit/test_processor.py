import time

import msgspec
import pytest

from aiopype import DeadLetter, Processor
from aiopype.emitter import Outbox, current_outbox
from aiopype.errors import CodecError, EmitError, GraphError


class Declaring(Processor):
    events = ("price", "error")


@pytest.fixture
def processor(recorder):
    return Processor("m.parse", recorder)


@pytest.fixture
def outbox():
    """What is emitted in the test is emitted by a handler."""
    box = Outbox([], b"AAPL", 1_234)
    token = current_outbox.set(box)
    yield box
    current_outbox.reset(token)


def test_a_processor_makes_itself_known_to_its_protocol(processor, recorder):
    assert recorder.components == [processor]
    assert recorder.graph.components == ["m.parse"]


def test_two_processors_of_one_name_are_refused(processor, recorder):
    with pytest.raises(GraphError, match=r"two components have the name 'm.parse'"):
        Processor("m.parse", recorder)


def test_declared_events_have_topics_from_the_start(recorder):
    Declaring("m.parse", recorder)

    assert [topic.name for topic in recorder.graph.topics()] == ["m.parse.price", "m.parse.error"]


def test_a_processor_logs_under_its_name(processor):
    assert processor.logger.name == "aiopype.m.parse"


def test_a_processor_shows_its_class_and_name(recorder):
    assert repr(Declaring("m.parse", recorder)) == "<Declaring m.parse>"


def test_on_subscribes_to_an_event_of_the_component(processor, recorder, collector):
    sink = collector("m.sink", recorder)

    processor.on("price", sink.take)
    processor.on("price", sink.take_async)

    assert processor.listeners("price") == [sink.take, sink.take_async]
    assert processor.listeners("other") == []


def test_once_subscribes_to_the_first_event_only(processor, recorder, collector):
    sink = collector("m.sink", recorder)

    processor.once("price", sink.take)
    processor.on("price", sink.take)

    subscriptions = recorder.graph.subscriptions(recorder.topic("m.parse", "price"))
    assert [subscription.once for subscription in subscriptions] == [True, False]


def test_asking_for_listeners_makes_no_topic(processor, recorder):
    assert processor.listeners("misspelt") == []

    assert recorder.graph.topics() == []


def test_on_after_the_start_raises(processor, recorder, collector):
    sink = collector("m.sink", recorder)
    recorder.freeze()

    with pytest.raises(GraphError, match="after the start"):
        processor.on("price", sink.take)


def test_listeners_of_one_event_or_of_all_can_be_removed(processor, recorder, collector):
    sink = collector("m.sink", recorder)
    for event in ("price", "volume", "name"):
        processor.on(event, sink.take)

    processor.remove_all_listeners("price")
    assert [bool(processor.listeners(e)) for e in ("price", "volume", "name")] == [0, 1, 1]

    processor.remove_all_listeners()
    assert [bool(processor.listeners(e)) for e in ("price", "volume", "name")] == [0, 0, 0]


def test_removing_listeners_after_the_start_raises(processor, recorder, collector):
    processor.on("price", collector("m.sink", recorder).take)
    recorder.freeze()

    with pytest.raises(GraphError):
        processor.remove_all_listeners()


# --- emit in a source


def test_emit_gives_topic_key_and_value_to_the_protocol(processor, recorder):
    processor.emit("price", "AAPL", 1.5)
    processor.emit("price", {"a": 1}, key="AAPL")
    processor.emit("price", 1, unit="EUR")
    processor.emit("price")

    assert recorder.sent == [
        ("emit", "m.parse.price", None, b'["AAPL",1.5]'),
        ("emit", "m.parse.price", "AAPL", b'{"a":1}'),
        ("emit", "m.parse.price", None, b'{"$args":[1],"$kwargs":{"unit":"EUR"}}'),
        ("emit", "m.parse.price", None, b"[]"),
    ]


async def test_emit_async_gives_topic_key_and_value_to_the_protocol(processor, recorder):
    await processor.emit_async("price", 1.5, key=7)

    assert recorder.sent == [("emit_async", "m.parse.price", 7, b"[1.5]")]


async def test_what_has_no_json_form_is_refused_where_it_is_emitted(processor, recorder):
    with pytest.raises(CodecError):
        processor.emit("price", object())
    with pytest.raises(CodecError):
        await processor.emit_async("price", object())

    assert recorder.sent == []


def test_an_event_that_cannot_be_a_topic_is_refused_where_it_is_emitted(processor):
    with pytest.raises(GraphError, match=r"'a price' of 'm.parse' cannot be a topic"):
        processor.emit("a price", 1)


def test_a_keyword_argument_may_be_named_as_the_envelope_is(processor, recorder):
    processor.emit("price", **{"$args": 1, "args": 2})

    (sent,) = recorder.sent
    assert sent[-1] == b'{"$args":[],"$kwargs":{"$args":1,"args":2}}'


# --- emit in a handler


async def test_emits_in_a_handler_are_added_to_the_outbox_of_its_event(processor, recorder, outbox):
    processor.emit("price", 1)
    await processor.emit_async("price", 2, key="MSFT")

    price = recorder.topic("m.parse", "price")
    assert outbox.emitted == [
        (price, b"AAPL", b"[1]", 1_234, True),
        (price, b"MSFT", b"[2]", 1_234, False),
    ]
    assert recorder.sent == []


def test_the_arguments_are_encoded_when_they_are_emitted(processor, outbox):
    prices = [1]

    processor.emit("price", prices)
    prices.append(2)

    assert [value for _, _, value, *_ in outbox.emitted] == [b"[[1]]"]


def test_a_handler_that_emits_with_a_wrong_key_is_told_so(processor, outbox):
    with pytest.raises(EmitError, match="a key is a str, bytes or int"):
        processor.emit("price", 1, key=1.5)


# --- errors


async def test_an_emitted_error_is_a_dead_letter(processor, recorder, outbox):
    processor.emit("error", OSError("no route"), 7, key="MSFT")
    await processor.emit_async("error", "text", object())

    letters = [msgspec.json.decode(value, type=DeadLetter) for _, _, value, *_ in outbox.emitted]
    assert [(x.component, x.error, x.message) for x in letters] == [
        ("m.parse", "OSError", "no route"),
        ("m.parse", "", "text"),
    ]
    assert [(topic.full_name, key) for topic, key, *_ in outbox.emitted] == [
        ("m.parse.error", b"MSFT"),
        ("m.parse.error", b"AAPL"),
    ]


async def test_an_emitted_error_has_a_time_of_its_own(processor, outbox):
    # Else retention would take it with what is as old as the event that was handled.
    began = int(time.time() * 1000)

    processor.emit("price", 1)
    processor.emit("error", "one")
    await processor.emit_async("error", "two")

    times = [timestamp for _, _, _, timestamp, _ in outbox.emitted]
    assert times[0] == 1_234
    assert all(began <= timestamp <= began + 60_000 for timestamp in times[1:])


async def test_a_source_may_emit_errors_too(processor, recorder):
    processor.emit("error", "one")
    await processor.emit_async("error", "two")

    assert [(how, name) for how, name, *_ in recorder.sent] == [
        ("emit", "m.parse.error"),
        ("emit_async", "m.parse.error"),
    ]
    assert b'"message":"two"' in recorder.sent[1][-1]


# --- how handlers are run


@pytest.mark.parametrize(
    ("conditions", "method", "why"),
    [
        ({"concurrency": 0}, "take", "concurrency = 0; .* 1 or more"),
        ({"timeout_seconds": 0}, "take_async", "timeout_seconds = 0; give more than 0"),
        ({"concurrency": 2}, "take", "concurrency = 2 does nothing for a function"),
        (
            {"blocking": True},
            "take_async",
            "is a coroutine function, and its component is declared",
        ),
    ],
)
def test_conditions_that_do_not_fit_a_handler_are_refused(
    processor, recorder, collector, conditions, method, why
):
    sink = collector("m.sink", recorder)
    for name, value in conditions.items():
        setattr(sink, name, value)

    with pytest.raises(GraphError, match=rf"handler m.sink.{method} of event 'price'.*{why}"):
        processor.on("price", getattr(sink, method))


@pytest.mark.parametrize(
    ("conditions", "method"),
    [
        ({"concurrency": 2}, "take_async"),
        ({"concurrency": 2, "blocking": True}, "take"),
        ({"blocking": True}, "take"),
    ],
)
def test_conditions_that_fit_a_handler_are_taken(
    processor, recorder, collector, conditions, method
):
    sink = collector("m.sink", recorder)
    for name, value in conditions.items():
        setattr(sink, name, value)

    processor.on("price", getattr(sink, method))

    assert len(processor.listeners("price")) == 1


# --- the end


def test_a_component_has_ended_when_its_protocol_says_so(processor, recorder):
    assert not processor.is_done
    assert not processor.done()

    recorder.end("m.parse")

    assert processor.is_done
    assert processor.done()
