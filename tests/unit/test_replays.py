import asyncio
import logging
import threading

import msgspec
import pytest

from aiopype import AsyncProtocol, DeadLetter, Processor, SyncProtocol
from aiopype.diagram import as_mermaid, as_text
from aiopype.errors import ConfigurationError, GraphError
from aiopype.execution import run_async
from aiopype.live import View
from aiopype.pipelines import Pipelines
from aiopype.replays import REQUEST_BYTES, Decision, Place, ReplayRequest, is_replays
from aiopype.topics import Foreign, TopicPlan, TopicSpec


class Step(Processor):
    """Fails while `broken`; notes what it was called with, and in which thread."""

    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.got, self.broken, self.threads = [], False, []
        self.on("data", self.take)
        self.on("data", self.take_async)
        self.on("data", self.take_slowly)

    def take(self, *args):
        self.threads.append(threading.current_thread())
        self.got.append(args)
        self.emit("done", *args)
        self.emit("keyed", *args, key="own")
        if self.broken:
            raise LookupError("not yet")

    async def take_async(self, *args):
        await asyncio.sleep(0)
        self.take(*args)

    async def take_slowly(self, *args):
        self.emit("done", *args)
        await asyncio.sleep(60)


@pytest.fixture
def pipelines(declare):
    """The pipelines of a manager `m` with a component `m.step`, as on Kafka."""

    def wire(manager):
        manager.step = Step("m.step", manager.handler)

    declare(wire, name="m")
    return Pipelines(["m"], AsyncProtocol(), with_replays=True)


@pytest.fixture
def step(pipelines):
    return pipelines.managers[0].step


def letter_for(method="take", **given):
    """A letter about an event of `m.step` that went to this method of it."""
    facts = {
        "component": "m.step",
        "error": "LookupError",
        "message": "as before",
        "at_ms": 5,
        "tries": 10,
        "subscription": f"m.step.data -> m.step.{method}",
        "topic": "m.step.data",
        "partition": 2,
        "offset": 70,
        "timestamp_ms": 3,
        "key": b"k",
        "value": b"[7]",
        "headers": (("h", b"1"),),
        "value_bytes": 3,
    }
    return DeadLetter(**facts | given)


@pytest.fixture
def replay(pipelines, record):
    """Handles a request for a replay as a worker does; returns what came of it."""

    async def handle(letter, do="replay"):
        (subscription,) = pipelines.protocol.graph.subscriptions(
            pipelines.protocol.graph.find("m.replays", "request")
        )
        request = ReplayRequest(do=do, letters=(Place("m.step.error", 1, 9),), letter=letter)
        value = msgspec.json.encode(request)
        key = None if letter is None else letter.key
        return await run_async(subscription, record(value, key, timestamp=1_000))

    return handle


@pytest.fixture
def feed(declare):
    """The pipelines of a manager `m` whose `m.step` gets the topic `orders` of others."""

    def wire(manager):
        manager.step = Step("m.step", manager.handler)
        manager.handler.topic("m.step", "order").become(Foreign("orders"))
        manager.step.on("order", manager.step.take)

    declare(wire, name="m")
    return Pipelines(["m"], AsyncProtocol(), with_replays=True)


def letters_in(outcome):
    return [
        (topic.name, key, msgspec.json.decode(value, type=DeadLetter), timestamp)
        for topic, key, value, timestamp, _ in outcome.emitted
        if topic.event == "error"
    ]


# --- a replay


@pytest.mark.parametrize("method", ["take", "take_async"])
async def test_the_original_runs_through_the_subscription_that_failed(replay, step, method):
    outcome = await replay(letter_for(method))

    assert outcome.failures == []
    assert step.got == [(7,)]


async def test_what_it_emits_has_the_originals_key_and_the_time_of_the_replay(replay):
    outcome = await replay(letter_for())

    emitted = [(topic.name, *rest) for topic, *rest in outcome.emitted]
    assert emitted == [
        ("m.step.done", b"k", b"[7]", 1_000, True),
        ("m.step.keyed", b"own", b"[7]", 1_000, False),
    ]


async def test_a_blocking_handler_runs_in_a_thread(replay, step):
    step.blocking = True

    outcome = await replay(letter_for())

    assert [topic.event for topic, *_ in outcome.emitted] == ["done", "keyed"]
    assert threading.main_thread() not in step.threads


async def test_an_original_without_a_value_runs_as_such(replay, step):
    outcome = await replay(letter_for(value=None, value_bytes=0))

    ((_, _, letter, _),) = letters_in(outcome)
    assert letter.error == "aiopype.errors.CodecError"
    assert step.got == []


async def test_a_replay_is_told_in_one_line_of_the_log(replay, caplog):
    caplog.set_level(logging.INFO)

    await replay(letter_for())

    (line,) = caplog.messages
    assert line == ("replay of m.step.error[1] offset 9 through m.step.data -> m.step.take is done")


async def test_a_discard_runs_nothing(replay, step):
    outcome = await replay(letter_for(), do="discard")

    assert (outcome.emitted, outcome.failures, step.got) == ([], [], [])


async def test_a_request_without_a_letter_runs_nothing(replay, step):
    outcome = await replay(None)

    assert (outcome.emitted, outcome.failures, step.got) == ([], [], [])


# --- a replay that fails


@pytest.mark.parametrize("method", ["take", "take_async"])
async def test_one_that_fails_again_leaves_only_a_letter_of_the_same_original(replay, step, method):
    step.broken = True
    before = letter_for(method, replays=1)

    outcome = await replay(before)

    assert outcome.failures == []
    ((name, key, letter, timestamp),) = letters_in(outcome)
    assert len(outcome.emitted) == 1
    assert (name, key) == ("m.step.error", b"k")
    assert (letter.error, letter.message) == ("LookupError", "not yet")
    assert "not yet" in letter.traceback
    assert (letter.replays, letter.tries) == (2, 11)
    assert letter.at_ms > before.at_ms
    assert timestamp == letter.at_ms
    for same in ("component", "subscription", "topic", "partition", "offset", "timestamp_ms",
                 "key", "value", "headers", "value_bytes", "is_cut"):  # fmt: skip
        assert getattr(letter, same) == getattr(before, same), same


async def test_a_failure_is_told_in_one_line_of_the_log(replay, step, caplog):
    step.broken = True

    await replay(letter_for())

    (told,) = caplog.records
    assert told.levelname == "WARNING"
    assert told.message.startswith("replay of m.step.error[1] offset 9 through m.step.data")
    assert "has failed again: LookupError in m.step.data -> m.step.take: not yet" in told.message


async def test_one_that_takes_too_long_has_failed(replay, step):
    step.timeout_seconds = 0.01

    outcome = await replay(letter_for("take_slowly"))

    ((_, _, letter, _),) = letters_in(outcome)
    assert letter.error == "TimeoutError"
    assert len(outcome.emitted) == 1


async def test_one_whose_output_is_too_large_has_failed(replay, pipelines):
    pipelines.protocol.graph.topic("m.step", "done").largest = 2

    outcome = await replay(letter_for())

    ((_, _, letter, _),) = letters_in(outcome)
    assert letter.error == "aiopype.errors.OutputTooLarge"


async def test_a_large_original_is_cut_again_in_the_letter(replay, step, pipelines):
    step.broken = True
    pipelines.protocol.graph.find("m.step", "error").largest = 8_000
    value = b'["' + b"x" * 20_000 + b'"]'

    outcome = await replay(letter_for(value=value, value_bytes=len(value)))

    ((_, _, letter, _),) = letters_in(outcome)
    assert letter.is_cut
    assert letter.value_bytes == len(value)


async def test_a_subscription_that_is_no_more_is_told_by_a_letter(replay, step, caplog):
    outcome = await replay(letter_for("gone"))

    ((name, key, letter, _),) = letters_in(outcome)
    assert (name, key, letter.component, letter.replays) == ("m.step.error", b"k", "m.step", 1)
    assert "no subscription 'm.step.data -> m.step.gone' any more" in letter.message
    assert (letter.topic, letter.partition, letter.offset) == ("m.step.data", 2, 70)
    assert step.got == []
    assert "was not run" in caplog.text


async def test_a_component_that_is_no_more_is_told_of_among_the_replays_own(replay):
    outcome = await replay(letter_for(component="m.old", subscription="m.step.data -> m.old.take"))

    ((name, _, letter, _),) = letters_in(outcome)
    assert (name, letter.component) == ("m.replays.error", "m.old")


async def test_a_replay_that_is_cancelled_is_no_failure(replay, until, step):
    task = asyncio.create_task(replay(letter_for("take_slowly")))
    await asyncio.sleep(0)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


# --- the component


def test_it_has_the_time_of_the_slowest_component(declare):
    def wire(manager):
        Step("m.step", manager.handler).timeout_seconds = 300.0

    declare(wire, name="m")

    protocol = Pipelines(["m"], AsyncProtocol(), with_replays=True).protocol

    assert protocol.components[-1].timeout_seconds > 300.0


def test_its_topic_takes_the_largest_letters(pipelines):
    topic = pipelines.protocol.graph.find("m.replays", "request")

    assert topic.spec.configs["max.message.bytes"] == str(REQUEST_BYTES)


def test_a_file_may_say_more_of_its_topic(declare):
    declare(name="m")
    spec = TopicSpec(partitions=2, configs={"max.message.bytes": "7"})

    plan = TopicPlan(specs={"m.replays.request": spec})

    graph = Pipelines(["m"], AsyncProtocol(), topics=plan, with_replays=True).protocol.graph
    found = graph.find("m.replays", "request").spec
    assert (found.partitions, found.configs["max.message.bytes"]) == (2, "7")


def test_its_topic_keeps_every_decision(declare):
    declare(name="m")
    plan = TopicPlan(defaults={"m": TopicSpec(configs={"cleanup.policy": "compact"})})

    graph = Pipelines(["m"], AsyncProtocol(), topics=plan, with_replays=True).protocol.graph

    assert graph.find("m.replays", "request").spec.configs["cleanup.policy"] == "delete"


def test_in_process_a_file_may_name_its_topic_too(declare):
    declare(name="m")
    plan = TopicPlan(specs={"m.replays.request": TopicSpec(partitions=2)})

    protocol = Pipelines(["m"], SyncProtocol(), topics=plan).protocol

    assert protocol.components == []


def test_an_event_that_it_does_not_have_is_refused_by_its_nearest(declare):
    declare(name="m")
    plan = TopicPlan(specs={"m.replays.requests": TopicSpec(partitions=2)})

    with pytest.raises(ConfigurationError, match="request"):
        Pipelines(["m"], SyncProtocol(), topics=plan)


@pytest.mark.parametrize("protocol", [SyncProtocol, AsyncProtocol])
def test_no_component_of_the_user_may_have_its_name(declare, protocol):
    declare(lambda manager: Step("m.replays", manager.handler), name="m")

    with pytest.raises(GraphError, match=r"'m\.replays'.*aiopype has one.*rename"):
        Pipelines(["m"], protocol(), with_replays=protocol is AsyncProtocol)


def test_a_manager_and_its_drawings_do_not_show_it(pipelines):
    (manager,) = pipelines.managers

    assert [component.name for component in manager.components] == ["m.step"]
    assert "replays" not in as_text(pipelines)
    assert "replays" not in as_mermaid(pipelines)


def test_the_live_view_does_not_show_its_events(pipelines):
    pipelines.protocol.graph.topic("m.step", "data")

    names = [row.name for row in View("flow", pipelines).picture().events]

    assert names == ["m.step.data"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("m.replays", True), ("m.a.replays", False), ("m.replays.a", False), ("replays", False)],
)
def test_its_name_is_known(name, expected):
    assert is_replays(name) is expected


# --- on the wire


def test_a_decision_is_read_without_its_letter():
    request = ReplayRequest(do="replay", letters=(Place("t", 1, 2),), letter=letter_for())

    decision = msgspec.json.decode(msgspec.json.encode(request), type=Decision)

    assert (decision.do, decision.letters) == ("replay", (("t", 1, 2),))


def test_the_form_of_a_request_stays_as_it_is():
    request = ReplayRequest(do="discard", letters=(Place("t", 1, 2),))

    assert msgspec.json.encode(request) == b'{"do":"discard","letters":[["t",1,2]]}'


# --- events of topics of others


async def test_a_record_of_others_is_run_again_as_it_was_and_its_partition_is_not_passed_on(
    feed, record
):
    graph = feed.protocol.graph
    (subscription,) = graph.subscriptions(graph.find("m.replays", "request"))
    about = letter_for(subscription="m.step.order -> m.step.take", topic="orders")
    request = ReplayRequest(do="replay", letters=(Place("m.step.error", 1, 9),), letter=about)

    outcome = await run_async(subscription, record(msgspec.json.encode(request), b"k"))

    assert feed.managers[0].step.got == [([7],)]
    assert [(t.event, key, inherited) for t, key, _, _, inherited in outcome.emitted] == [
        ("done", b"k", False),
        ("keyed", b"own", False),
    ]


async def test_a_record_of_others_without_a_value_is_run_again_as_none(feed, record):
    graph = feed.protocol.graph
    (subscription,) = graph.subscriptions(graph.find("m.replays", "request"))
    about = letter_for(subscription="m.step.order -> m.step.take", value=None, value_bytes=0)
    request = ReplayRequest(do="replay", letters=(Place("m.step.error", 1, 9),), letter=about)

    await run_async(subscription, record(msgspec.json.encode(request), b"k"))

    assert feed.managers[0].step.got == [(None,)]
