import logging

import msgspec
import pytest

from aiopype import Flow, Processor, SyncProtocol
from aiopype.dead_letters import DeadLetter
from aiopype.errors import CodecError, ConfigurationError, EmitError, GraphError
from aiopype.protocol.kafka import AsyncProtocol
from aiopype.sources import TopicSource


class Step(Processor):
    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.got = []

    def take(self, value):
        self.got.append(value)
        self.emit("done", value)

    async def take_later(self, value):
        self.take(value)


class Order(msgspec.Struct):
    id: int


class Typed(Processor):
    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.got = []

    def take(self, order: Order | None):
        self.got.append(order)


@pytest.fixture
def protocol():
    return SyncProtocol()


@pytest.fixture
def source(protocol):
    """Makes a source of the topic `orders`."""
    return lambda options=None, topic="orders": TopicSource("m.feed", protocol, topic, options)


@pytest.fixture
def step(protocol):
    return Step("m.step", protocol)


def test_its_topic_is_that_of_others(source, protocol):
    source({"content": "text", "begin": "latest", "wait": True})

    topic = protocol.topic("m.feed", "message")

    assert (topic.name, topic.full_name) == ("orders", "m.feed.message")
    assert (topic.foreign.content, topic.foreign.begin, topic.foreign.wait) == (
        "text", "latest", True
    )  # fmt: skip


async def test_what_it_is_fed_is_handled_as_a_record_of_the_topic(source, step):
    one = source()
    one.on("message", step.take)

    for value in ({"a": 1}, [1, 2], 3, "text", None, {"$args": [1]}):
        await one.feed(value)

    assert step.got == [{"a": 1}, [1, 2], 3, "text", None, {"$args": [1]}]


async def test_a_coroutine_handler_is_fed_too(source, step):
    one = source()
    one.on("message", step.take_later)

    await one.feed(1)

    assert step.got == [1]


async def test_bytes_are_the_value_as_it_is_in_the_topic(source, step, protocol):
    one = source()
    one.on("message", step.take)
    letters = []

    class Alarm(Processor):
        def tell(self, letter: DeadLetter):
            letters.append(letter)

    step.on("error", Alarm("m.alarm", protocol).tell)

    await one.feed(b'{"a":1}')
    await one.feed(b"{broken", key="k")

    assert step.got == [{"a": 1}]
    (letter,) = letters
    assert (letter.topic, letter.key, letter.value) == ("orders", b"k", b"{broken")
    assert letter.subscription == "m.feed.message -> m.step.take"


@pytest.mark.parametrize(("content", "argument"), [("text", "é"), ("bytes", "é".encode())])
async def test_the_content_says_what_the_argument_is(source, step, content, argument):
    one = source({"content": content})
    one.on("message", step.take)

    await one.feed("é".encode())

    assert step.got == [argument]


async def test_a_value_without_a_form_is_refused(source):
    with pytest.raises(CodecError):
        await source().feed(object())


async def test_it_emits_no_message_itself(source):
    one = source()

    with pytest.raises(EmitError, match="never writes it"):
        one.emit("message", 1)
    with pytest.raises(EmitError, match="never writes it"):
        await one.emit_async("message", 1)


async def test_its_errors_may_be_emitted(recorder):
    one = TopicSource("m.feed", recorder, "orders")

    await one.emit_async("error", "text")
    one.emit("error", "text")

    assert [topic for _, topic, *_ in recorder.sent] == ["m.feed.error"] * 2


async def test_on_kafka_it_cannot_be_fed():
    one = TopicSource("m.feed", AsyncProtocol(), "orders")

    with pytest.raises(EmitError, match="no source that runs on this worker"):
        await one.feed(1)


def test_a_flow_in_process_does_not_start_it_and_does_not_end_because_of_it(
    declare, numbers, collector, caplog
):
    class Stop(collector):
        def stop(self, number):
            self.take(number)
            flow.stop()

    def wire(manager):
        name, handler = manager.build_processor_name, manager.handler
        manager.feed = TopicSource(name("feed"), handler, "orders")
        manager.source = numbers(name("source"), handler, 1)
        manager.end = Stop(name("end"), handler)
        manager.feed.on("message", manager.end.take)
        manager.source.on("number", manager.end.stop)

    cls = declare(wire)
    flow = Flow(type("Config", (), {"FLOWS": [cls.name]}), "fed")
    caplog.set_level(logging.INFO)

    flow.start()

    assert f"{cls.name}.feed gets nothing in process but what it is fed" in caplog.text
    assert f"source {cls.name}.feed starts" not in caplog.text
    assert f"source {cls.name}.source has ended" in caplog.text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"content": "avro"}, "content='avro'"),
        ({"begin": "middle"}, "begin='middle'"),
        ({"wait": 3}, "wait=3"),
        ({"contents": "json"}, "did you mean 'content'"),
    ],
)
def test_options_that_make_no_sense_are_refused(source, options, reason):
    with pytest.raises(ConfigurationError, match=reason):
        source(options)


@pytest.mark.parametrize("topic", ["", "a b", "..", "x" * 250, None])
def test_a_name_that_no_topic_has_is_refused(source, topic):
    with pytest.raises(GraphError, match="cannot exist"):
        source(topic=topic)


async def test_an_annotation_says_what_the_argument_becomes(source, protocol):
    one, typed = source(), Typed("m.typed", protocol)
    one.on("message", typed.take)

    await one.feed({"id": 1})
    await one.feed(None)

    assert typed.got == [Order(1), None]
