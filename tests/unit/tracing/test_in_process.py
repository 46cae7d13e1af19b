"""The way of a trace through a pipeline in process."""

import pytest

from aiopype import DeadLetter, Processor, Retry, Source, SyncProtocol


class Steps(Processor):
    retry = Retry(tries=2, first_delay_seconds=0)

    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.letters = []

    def double(self, n):
        self.emit("double", 2 * n)

    async def double_later(self, n):
        self.emit("double", 2 * n)

    def show(self, n):
        pass

    def fail(self, n):
        raise LookupError("no")

    def keep(self, letter: DeadLetter):
        self.letters.append(letter)


@pytest.fixture
def protocol(spans):
    made = SyncProtocol(sleep=lambda _: None)
    made.tracing = spans.tracing
    return made


@pytest.fixture
def source(protocol):
    return Source("m.source", protocol)


@pytest.fixture
def steps(protocol):
    return Steps("m.steps", protocol)


def ids(*found):
    return {span.context.trace_id for span in found}


def test_one_trace_goes_from_the_source_to_the_last_handler(spans, source, steps):
    source.on("number", steps.double)
    steps.on("double", steps.show)

    source.emit("number", 1)

    send, first, second = (
        spans.one(name) for name in ("send m.source", "process m.source.number",
                                     "process m.steps.double")
    )  # fmt: skip
    assert len(ids(send, first, second)) == 1
    assert first.parent.span_id == send.context.span_id
    assert second.parent.span_id == first.context.span_id
    assert len(spans.all) == 3


async def test_so_it_does_through_coroutines(spans, source, steps):
    source.on("number", steps.double_later)
    steps.on("double", steps.show)

    await source.emit_async("number", 1)

    assert len(ids(*spans.all)) == 1
    assert len(spans.all) == 3


async def test_what_a_source_emits_together_is_one_trace(spans, source, steps):
    source.on("number", steps.show)

    async with source.transaction():
        source.emit("number", 1)
        source.emit("number", 2)
    await source.emit_async("number", 3)

    assert sorted(spans.names) == ["process m.source.number"] * 3 + ["send m.source"] * 2
    assert len(ids(*spans.all)) == 2


def test_a_dead_letter_keeps_the_trace(spans, source, steps):
    source.on("number", steps.fail)
    steps.on("error", steps.keep)

    source.emit("number", 1)

    failed, told = spans.one("process m.source.number"), spans.one("process m.steps.error")
    assert [event.name for event in failed.events] == ["failure"]
    assert told.parent.span_id == failed.context.span_id
    ((name, value),) = steps.letters[0].headers
    assert name == "traceparent"
    assert f"{failed.context.trace_id:032x}" in value.decode()


def test_without_the_setting_nothing_is_traced(spans, protocol, source, steps):
    protocol.tracing = None
    source.on("number", steps.fail)
    steps.on("error", steps.keep)

    source.emit("number", 1)

    assert spans.all == ()
    assert steps.letters[0].headers == ()
