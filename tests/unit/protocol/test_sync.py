import asyncio
import base64
import threading
import time
from typing import ClassVar

import pytest

from aiopype import PermanentError, Processor, Source, SyncProtocol
from aiopype.errors import CodecError, EmitError


class Splitter(Processor):
    """Emits `half` twice for each number, in several ways."""

    def halve(self, number):
        self.emit("half", number)
        self.emit("half", number)

    def rekey(self, number):
        self.emit("half", number, key="new")

    async def halve_later(self, number):
        await asyncio.sleep(0)
        self.halve(number)

    def fail(self, number):
        self.emit("half", number)
        raise LookupError("mine")

    def fail_permanently(self, number):
        raise PermanentError("never")

    async def fail_later(self, number):
        self.fail(number)

    def emit_async_without_await(self, number):
        return self.emit_async("half", number)


@pytest.fixture
def waits():
    """The delays before tries; nobody waits for them."""
    return []


@pytest.fixture
def protocol(waits):
    async def wait(seconds):
        waits.append(seconds)

    return SyncProtocol(waits.append, wait)


@pytest.fixture
def source(protocol):
    return Source("m.source", protocol)


@pytest.fixture
def splitter(protocol):
    return Splitter("m.splitter", protocol)


@pytest.fixture
def sink(protocol, collector):
    return collector("m.sink", protocol)


@pytest.fixture
def trace(protocol, monkeypatch):
    """The key and timestamp of each record that a handler was run with."""
    from aiopype.protocol import sync  # noqa: PLC0415 - what is watched

    records = []

    def run(subscription, record, original=sync.run):
        records.append((subscription.handler.__name__, record.key, record.timestamp))
        return original(subscription, record)

    monkeypatch.setattr(sync, "run", run)
    return records


def test_an_emit_runs_the_pipeline_to_its_end(source, splitter, sink):
    source.on("number", splitter.halve)
    splitter.on("half", sink.take)

    source.emit("number", 4)

    assert sink.got == [(4,), (4,)]


async def test_an_awaited_emit_runs_the_pipeline_to_its_end(source, splitter, sink):
    source.on("number", splitter.halve_later)
    splitter.on("half", sink.take_async)

    await source.emit_async("number", 4)

    assert sink.got == [(4,), (4,)]


def test_an_event_that_nobody_is_subscribed_to_is_let_go(source, splitter):
    source.on("number", splitter.halve)

    source.emit("number", 4)
    source.emit("other", 4)


def test_all_handlers_of_an_event_run_in_order(source, protocol):
    order = []

    class Ordered(Processor):
        def one(self, n):
            order.append(("one", n))

        def two(self, n):
            order.append(("two", n))

    ordered = Ordered("m.ordered", protocol)
    source.on("number", ordered.two)
    source.on("number", ordered.one)
    source.on("number", ordered.two)

    source.emit("number", 1)

    assert order == [("two", 1), ("one", 1), ("two", 1)]


def test_what_a_handler_emits_is_handled_after_it_has_ended_and_first_in_first_out(
    source, splitter, protocol
):
    order = []

    class Noting(Splitter):
        def parent(self, n):
            order.append(f"parent {n} begins")
            self.emit("child", n)
            self.emit("child", -n)
            order.append(f"parent {n} ends")

        def child(self, n):
            order.append(f"child {n}")
            self.emit("grandchild", n)

        def grandchild(self, n):
            order.append(f"grandchild {n}")

    noting = Noting("m.noting", protocol)
    source.on("number", noting.parent)
    noting.on("child", noting.child)
    noting.on("grandchild", noting.grandchild)

    source.emit("number", 1)

    assert order == [
        "parent 1 begins",
        "parent 1 ends",
        "child 1",
        "child -1",
        "grandchild 1",
        "grandchild -1",
    ]


def test_a_long_chain_of_handlers_needs_no_depth_of_calls(source, protocol, sink):
    class Link(Processor):
        def forward(self, n):
            self.emit("number", n + 1)

    last = source
    for n in range(1_500):
        link = Link(f"m.link{n}", protocol)
        last.on("number", link.forward)
        last = link
    last.on("number", sink.take)

    source.emit("number", 0)

    assert sink.got == [(1_500,)]


def test_arguments_pass_through_the_codec(source, sink):
    source.on("number", sink.take)

    source.emit("number", (1, 2), {"a": (3,)}, float("nan"))
    source.emit("number", 1, unit="EUR")

    assert sink.got == [([1, 2], {"a": [3]}, None), ((1,), {"unit": "EUR"})]


def test_handlers_do_not_share_their_arguments(source, sink, protocol):
    class Spoiler(Processor):
        def spoil(self, prices):
            prices.clear()

    source.on("prices", Spoiler("m.spoiler", protocol).spoil)
    source.on("prices", sink.take)

    source.emit("prices", [1, 2])

    assert sink.got == [([1, 2],)]


def test_what_has_no_json_form_is_refused(source, sink):
    source.on("number", sink.take)

    with pytest.raises(CodecError):
        source.emit("number", object())


def test_keys_are_handed_down_until_another_is_given(source, splitter, sink, trace):
    source.on("number", splitter.rekey)
    source.on("number", splitter.halve)
    splitter.on("half", sink.take)

    source.emit("number", 1, key=7)

    assert [(name, key) for name, key, _ in trace] == [
        ("rekey", b"7"),
        ("halve", b"7"),
        ("take", b"new"),
        ("take", b"7"),
        ("take", b"7"),
    ]


def test_the_time_of_the_source_is_handed_down(source, splitter, sink, trace):
    source.on("number", splitter.halve)
    splitter.on("half", sink.take)
    before = int(time.time() * 1000)

    source.emit("number", 1)

    (timestamp,) = {timestamp for *_, timestamp in trace}
    assert before <= timestamp <= int(time.time() * 1000)


def test_a_key_of_a_wrong_type_is_refused(source, sink):
    source.on("number", sink.take)

    with pytest.raises(EmitError, match="a key is a str, bytes or int"):
        source.emit("number", 1, key=1.5)
    assert sink.got == []


# --- coroutine handlers


def test_emit_refuses_a_coroutine_handler_and_says_what_to_use(source, sink):
    source.on("number", sink.take_async)

    with pytest.raises(EmitError, match=r"m.source.number -> m.sink.take_async .*emit_async"):
        source.emit("number", 1)
    assert sink.got == []


def test_emit_refuses_a_coroutine_handler_behind_others_too(source, splitter, sink):
    source.on("number", splitter.halve)
    splitter.on("half", sink.take_async)

    with pytest.raises(EmitError, match="emit_async"):
        source.emit("number", 1)


async def test_functions_and_coroutines_run_in_the_order_of_their_subscriptions(
    source, protocol, collector
):
    one = collector("m.one", protocol)
    source.on("number", one.take_async)
    source.on("number", one.take)
    source.on("number", one.take_async)

    await source.emit_async("number", 1)

    assert one.got == [(1,), (1,), (1,)]


# --- failures


def letters(collected):
    return [letter for (letter,) in collected.got]


@pytest.fixture
def errors(splitter, protocol, collector):
    """Collects the `error` events of the splitter."""
    found = collector("m.errors", protocol)
    splitter.on("error", found.take)
    return found


def test_an_event_that_fails_for_good_becomes_an_error_event(source, splitter, errors):
    source.on("number", splitter.fail)

    source.emit("number", 1, key="k")

    (letter,) = letters(errors)
    assert (letter["error"], letter["message"], letter["tries"]) == ("LookupError", "mine", 10)
    assert base64.b64decode(letter["value"]) == b"[1]"
    assert base64.b64decode(letter["key"]) == b"k"
    assert letter["topic"] == "m.source.number"
    assert "offset" not in letter
    assert "partition" not in letter


async def test_an_event_whose_coroutine_fails_for_good_becomes_an_error_event(
    source, splitter, errors
):
    source.on("number", splitter.fail_later)

    await source.emit_async("number", 1)

    assert [(letter["error"], letter["tries"]) for letter in letters(errors)] == [
        ("LookupError", 10)
    ]


def test_a_failing_handler_is_tried_again_after_growing_delays(source, splitter, waits):
    source.on("number", splitter.fail)

    source.emit("number", 1)

    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert len(waits) == 9


async def test_what_the_last_try_emitted_goes_on_once(source, protocol, sink, waits):
    class Flaky(Splitter):
        tried = 0

        async def later(self, number):
            self.emit("half", number)
            self.tried += 1
            if self.tried < 3:
                raise OSError

    flaky = Flaky("m.flaky", protocol)
    source.on("number", flaky.later)
    flaky.on("half", sink.take)

    await source.emit_async("number", 1)

    assert sink.got == [(1,)]
    assert waits == [0.1, 0.2]


def test_a_permanent_error_is_not_tried_again(source, protocol, splitter, errors, waits):
    source.on("number", splitter.fail_permanently)

    source.emit("number", 1)

    assert [letter["tries"] for letter in letters(errors)] == [1]
    assert waits == []


def test_a_dead_letter_is_logged_with_its_traceback(source, splitter, caplog):
    source.on("number", splitter.fail)

    source.emit("number", 1)

    (logged,) = caplog.records
    assert logged.levelname == "ERROR"
    assert "m.source.number -> m.splitter.fail: LookupError: mine; tried 10 times" in caplog.text
    assert "Traceback" in caplog.text


def test_what_a_failed_handler_emitted_is_dropped(source, splitter, sink):
    source.on("number", splitter.fail)
    splitter.on("half", sink.take)

    source.emit("number", 1)

    assert sink.got == []


def test_the_pipeline_goes_on_after_a_failure(source, splitter, sink):
    source.on("number", splitter.fail)
    source.on("number", sink.take)

    for n in (1, 2):
        source.emit("number", n)

    assert sink.got == [(1,), (2,)]


def test_a_failing_handler_of_errors_does_not_go_on_for_ever(source, splitter, protocol, sink):
    source.on("number", splitter.fail)
    splitter.on("error", splitter.fail)
    splitter.on("error", sink.take)

    source.emit("number", 1)

    assert [letter["subscription"] for (letter,) in sink.got] == [
        "m.source.number -> m.splitter.fail"
    ]
    assert protocol.progress.topics["m.splitter.error"].emitted == 2


def test_a_function_that_returns_an_awaitable_fails(source, splitter, errors):
    source.on("number", splitter.emit_async_without_await)

    source.emit("number", 1)

    (letter,) = letters(errors)
    assert "declare the handler with `async def`" in letter["message"]


def test_a_source_may_emit_an_error(source, sink):
    source.on("error", sink.take)

    source.emit("error", OSError("no route"), 7)

    ((letter,),) = sink.got
    assert (letter["component"], letter["error"], letter["message"], letter["args"]) == (
        "m.source", "OSError", "no route", [7],
    )  # fmt: skip


async def test_a_blocking_handler_does_not_block_the_loop_of_its_source(source, protocol):
    class Blocking(Processor):
        blocking = True
        threads: ClassVar = []

        def wait(self, number):
            self.threads.append(threading.current_thread())

    source.on("number", Blocking("m.blocking", protocol).wait)

    await source.emit_async("number", 1)
    source.emit("number", 2)

    first, second = Blocking.threads
    assert first is not threading.main_thread()
    assert second is threading.main_thread()


# --- positions


def test_in_process_a_source_has_one_owner_ever(source):
    assert source.epoch == 1


def test_a_position_counts_when_its_event_has_run_to_its_end(source, protocol):
    seen = []
    source.on("number", Asking("m.asking", protocol, seen).ask)

    source.checkpoint(1)
    assert protocol._positions == {}
    source.emit("number", 1)

    assert seen == [{}]
    assert protocol._positions == {"m.source": b"1"}


async def test_a_position_counts_when_its_awaited_event_has_run_to_its_end(source, protocol):
    seen = []
    source.on("number", Asking("m.asking", protocol, seen).ask_later)

    source.checkpoint(1)
    await source.emit_async("number", 1)

    assert seen == [{}]
    assert protocol._positions == {"m.source": b"1"}


class Asking(Processor):
    """Notes the positions that count while its handler runs."""

    def __init__(self, name, protocol, seen):
        super().__init__(name, protocol)
        self.seen = seen

    def ask(self, number):
        self.seen.append(dict(self.handler._positions))

    async def ask_later(self, number):
        await asyncio.sleep(0)
        self.ask(number)


async def test_a_position_that_no_event_followed_is_forgotten_when_its_source_failed(
    source, protocol
):
    source.checkpoint(1)
    await source.emit_async("number", 1)
    source.checkpoint(2)
    assert source.position == 2

    protocol.forget("m.source")

    assert source.position == 1


async def test_a_flush_keeps_a_position_that_no_event_follows(source, protocol):
    source.checkpoint(1)
    await source.flush()

    protocol.forget("m.source")

    assert source.position == 1


async def test_a_flush_without_a_position_is_nothing(source):
    await source.flush()

    assert source.position is None


async def test_a_transaction_runs_each_of_its_events_to_its_end_then_keeps_its_position(
    source, splitter, sink, protocol
):
    seen = []
    source.on("number", splitter.halve_later)
    splitter.on("half", sink.take)
    source.on("number", Asking("m.asking", protocol, seen).ask)

    async with source.transaction():
        source.checkpoint(2)
        source.emit("number", 1)
        source.emit("number", 2, key="k")
        assert sink.got == []

    assert sink.got == [(1,), (1,), (2,), (2,)]
    assert seen == [{}, {}]
    assert source.position == 2


async def test_a_position_given_before_a_transaction_belongs_to_it(source, protocol):
    source.checkpoint(1)
    async with source.transaction():
        source.emit("number", 1)

    protocol.forget("m.source")

    assert source.position == 1


async def test_a_position_of_a_transaction_is_later_than_the_one_before(source, protocol):
    source.checkpoint(1)
    async with source.transaction():
        source.checkpoint(2)

    await source.flush()

    assert source.position == 2


async def test_the_keys_of_a_transaction_are_handed_down(source, sink, trace):
    source.on("number", sink.take)

    async with source.transaction():
        source.emit("number", 1, key=7)
        source.emit("number", 2)

    assert [key for _, key, _ in trace] == [b"7", None]


# --- once


def test_once_gets_the_first_event_only(source, sink):
    source.once("number", sink.take)

    for n in range(3):
        source.emit("number", n)

    assert sink.got == [(0,)]


async def test_once_gets_the_first_event_only_of_events_that_come_at_once(source, sink):
    source.once("number", sink.take_async)

    await asyncio.gather(*(source.emit_async("number", n) for n in range(3)))

    assert sink.got == [(0,)]


def test_once_beside_on_leaves_the_others(source, sink, protocol, collector):
    other = collector("m.other", protocol)
    source.once("number", sink.take)
    source.on("number", other.take)

    for n in range(2):
        source.emit("number", n)

    assert sink.got == [(0,)]
    assert other.got == [(0,), (1,)]
    assert source.listeners("number") == [other.take]
