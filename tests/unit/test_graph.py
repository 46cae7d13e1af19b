import functools
import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from aiopype import Processor
from aiopype.errors import GraphError
from aiopype.graph import Graph
from aiopype.topics import Foreign, TopicPlan, TopicSpec


class Component:
    """What the graph sees of a component: name, methods, and how its handlers are run."""

    blocking = False
    concurrency = 1
    timeout_seconds = 60.0

    def __init__(self, graph, name):
        self.name = name
        self.topics = graph.add(name)

    def first(self, *args):
        return ("first", args)

    def second(self, *args):
        return ("second", args)

    async def later(self, *args):
        return ("later", args)


@pytest.fixture
def graph():
    return Graph()


@pytest.fixture
def source(graph):
    return Component(graph, "m.source")


@pytest.fixture
def sink(graph):
    return Component(graph, "m.sink")


def test_components_are_kept_in_the_order_they_were_built(graph):
    for name in ("m.b", "m.a", "m.c"):
        graph.add(name)

    assert graph.components == ["m.b", "m.a", "m.c"]


def test_two_components_of_one_name_are_refused(graph, source):
    with pytest.raises(GraphError, match=r"two components have the name 'm.source'"):
        graph.add("m.source")


def test_threads_that_ask_for_a_topic_at_once_get_the_same(graph, source):
    class Slow(TopicPlan):
        def topic(self, component, event):
            time.sleep(0.01)
            return super().topic(component, event)

    graph.plan = Slow()
    with ThreadPoolExecutor(4) as threads:
        topics = list(threads.map(lambda _: graph.topic("m.source", "data"), range(4)))

    assert len(set(topics)) == 1


def test_a_topic_is_made_once_and_is_unresolved(graph, source):
    topic = graph.topic("m.source", "data")

    assert graph.topic("m.source", "data") is topic
    assert graph.unresolved == {topic}
    assert source.topics == {"data": topic}
    assert graph.topics() == [topic]


def test_an_event_that_cannot_be_a_topic_leaves_nothing_behind(graph, source):
    with pytest.raises(GraphError):
        graph.topic("m.source", "no topic")

    assert graph.topics() == []
    assert graph.unresolved == set()


def test_subscriptions_of_a_topic_keep_their_order(graph, source, sink):
    graph.subscribe("m.source", "data", sink.second)
    graph.subscribe("m.source", "data", sink.first)
    graph.subscribe("m.source", "data", sink.second)

    found = graph.subscriptions(graph.topic("m.source", "data"))
    assert [s.handler for s in found] == [sink.second, sink.first, sink.second]


def test_a_subscription_says_what_logs_say(graph, source, sink):
    graph.subscribe("m.source", "data", sink.first)

    (subscription,) = graph.subscriptions(graph.topic("m.source", "data"))
    assert subscription.name == "m.source.data -> m.sink.first"
    assert subscription.component == "m.sink"
    assert not subscription.once


def test_a_subscription_decodes_and_calls_its_handler(graph, source, sink):
    graph.subscribe("m.source", "data", sink.first)

    (subscription,) = graph.subscriptions(graph.topic("m.source", "data"))
    assert subscription.invoke(b'[1, "a"]') == ("first", (1, "a"))


def test_a_subscription_knows_whether_its_handler_is_a_coroutine_function(graph, source, sink):
    graph.subscribe("m.source", "data", sink.first)
    graph.subscribe("m.source", "data", sink.later, once=True)

    first, later = graph.subscriptions(graph.topic("m.source", "data"))
    assert (first.is_coroutine, later.is_coroutine) == (False, True)
    assert (first.once, later.once) == (False, True)


def test_only_subscribed_topics_are_subscribed(graph, source, sink):
    graph.topic("m.source", "unheard")
    graph.subscribe("m.source", "data", sink.first)

    assert [topic.event for topic, _ in graph.subscribed()] == ["data"]
    assert [topic.event for topic in graph.topics()] == ["unheard", "data", "error"]


def test_a_topic_whose_waiting_events_have_too_long_a_name_is_not_handled(graph, source, sink):
    event = "e" * (249 - len("m.source."))
    graph.topic("m.source", event)  # it may be emitted

    with pytest.raises(GraphError, match="too long to be handled"):
        graph.subscribe("m.source", event, sink.first)


def test_a_topic_without_subscriptions_has_none(graph, source):
    assert graph.subscriptions(graph.topic("m.source", "unheard")) == []


@pytest.mark.parametrize(
    "handler",
    [
        print,
        lambda data: data,
        Component.first,
        functools.partial(print),
        "first".upper,
        Component,
        None,
    ],
    ids=["builtin", "lambda", "function", "partial", "builtin method", "class", "None"],
)
def test_a_handler_that_is_no_method_of_a_component_is_refused(graph, source, handler):
    with pytest.raises(GraphError, match="is not a method of a component of this flow"):
        graph.subscribe("m.source", "data", handler)


def test_a_method_of_a_component_of_another_flow_is_refused(graph, source):
    stranger = Component(Graph(), "other.sink")

    with pytest.raises(GraphError, match=r"event 'data' of 'm.source' is not a method"):
        graph.subscribe("m.source", "data", stranger.first)


def test_a_method_of_a_component_of_another_manager_is_refused(graph, source):
    # A failure stops the manager of the topic: the wrong one, if it were another's handler.
    stranger = Component(graph, "other.sink")

    with pytest.raises(GraphError, match=r"other.sink.first .*'m.source' belongs to another"):
        graph.subscribe("m.source", "data", stranger.first)
    assert graph.topics() == []


def test_one_subscription_can_be_removed(graph, source, sink):
    graph.subscribe("m.source", "data", sink.first)
    graph.subscribe("m.source", "data", sink.second)
    topic = graph.topic("m.source", "data")

    graph.unsubscribe(graph.subscriptions(topic)[0])

    assert [s.handler for s in graph.subscriptions(topic)] == [sink.second]


def test_a_topic_whose_last_subscription_is_removed_is_not_subscribed(graph, source, sink):
    graph.subscribe("m.source", "data", sink.first)

    graph.unsubscribe(graph.subscriptions(graph.topic("m.source", "data"))[0])

    assert list(graph.subscribed()) == []


def test_the_subscriptions_to_one_event_can_be_removed(graph, source, sink):
    graph.subscribe("m.source", "data", sink.first)
    graph.subscribe("m.source", "other", sink.first)
    graph.subscribe("m.sink", "data", source.first)

    graph.remove_all("m.source", "data")

    assert [topic.name for topic, _ in graph.subscribed()] == ["m.source.other", "m.sink.data"]


def test_the_subscriptions_to_all_events_of_a_component_can_be_removed(graph, source, sink):
    graph.subscribe("m.source", "data", sink.first)
    graph.subscribe("m.source", "other", sink.first)
    graph.subscribe("m.sink", "data", source.first)

    graph.remove_all("m.source", None)

    assert [topic.name for topic, _ in graph.subscribed()] == ["m.sink.data"]


# --- after the start


def test_a_component_is_refused_after_the_start(graph):
    graph.freeze()

    with pytest.raises(GraphError, match=r"'m.late' is built after the start"):
        graph.add("m.late")


def test_a_subscription_is_refused_after_the_start(graph, source, sink):
    graph.freeze()

    with pytest.raises(GraphError, match=r"on\('data', ...\) of 'm.source' after the start"):
        graph.subscribe("m.source", "data", sink.first)


@pytest.mark.parametrize("event", ["data", None])
def test_removing_subscriptions_is_refused_after_the_start(graph, source, sink, event):
    graph.subscribe("m.source", "data", sink.first)
    graph.freeze()

    with pytest.raises(GraphError):
        graph.remove_all("m.source", event)

    assert [topic.event for topic, _ in graph.subscribed()] == ["data"]


def test_an_event_can_become_known_after_the_start(graph, source):
    graph.freeze()

    assert graph.topic("m.source", "first_emitted_late") in graph.unresolved


def test_two_events_of_one_topic_name_are_refused(recorder):
    # "m.a" emitting "b.c" and "m.a.b" emitting "c" would share the topic "m.a.b.c".
    Processor("m.a", recorder)
    Processor("m.a.b", recorder)
    recorder.graph.topic("m.a", "b.c")

    with pytest.raises(GraphError, match=r"m.a.b.c"):
        recorder.graph.topic("m.a.b", "c")


# --- circles


@pytest.fixture
def wire(graph):
    """Subscribes along a chain of components, each to an event of the one before."""
    components = {}

    def subscribe(*names):
        for name in names:
            if name not in components:
                components[name] = Component(graph, f"m.{name}")
        for before, after in itertools.pairwise(names):
            graph.subscribe(f"m.{before}", "data", components[after].first)

    return subscribe


@pytest.mark.parametrize(
    "chains",
    [
        ["ab", "ab"],
        ["abc", "ac"],
        ["abd", "acd"],
        ["abc", "dbe"],
        ["ab", "cd"],
        ["aab"],
    ],
    ids=" ".join,
)
def test_a_flow_in_which_events_come_to_an_end_can_start(graph, wire, chains):
    for chain in chains:
        wire(*chain)

    graph.freeze()

    with pytest.raises(GraphError, match="after the start"):
        wire("late")


@pytest.mark.parametrize("chains", [["aba"], ["abca"], ["abcb"], ["xa", "bcab"]], ids=" ".join)
def test_a_flow_in_which_events_go_round_cannot_start(graph, wire, chains):
    for chain in chains:
        wire(*chain)

    with pytest.raises(GraphError, match=r"make a circle: m.* -> m.*go round it for ever"):
        graph.freeze()


def test_a_circle_is_told_in_the_direction_of_its_events(graph, wire):
    wire(*"sabcab")

    with pytest.raises(GraphError) as refusal:
        graph.freeze()

    circle = str(refusal.value).split("circle: ")[1].split(";")[0].split(" -> ")
    assert circle[0] == circle[-1]
    assert set(itertools.pairwise(circle)) == {("m.a", "m.b"), ("m.b", "m.c"), ("m.c", "m.a")}


# --- what cannot be a handler, or a topic beside another


def test_a_generator_is_no_handler(graph):
    class Yields(Component):
        def steps(self, data):
            yield data

        async def steps_later(self, data):
            yield data

    yields, source = Yields(graph, "m.yields"), Component(graph, "m.source")

    for handler in (yields.steps, yields.steps_later):
        with pytest.raises(GraphError, match="is a generator"):
            graph.subscribe(source.name, "data", handler)


def test_topics_that_are_the_same_to_kafka_are_refused(graph):
    Component(graph, "m.a_b")
    Component(graph, "m.a.b")
    graph.topic("m.a_b", "x")

    with pytest.raises(
        GraphError, match=r"'m\.a\.b\.x', which is the same to Kafka as 'm\.a_b\.x'"
    ):
        graph.topic("m.a.b", "x")


def test_a_handler_of_another_manager_is_refused(graph):
    source, foreign = Component(graph, "m.source"), Component(graph, "other.sink")

    with pytest.raises(GraphError, match="belongs to another manager, 'other'"):
        graph.subscribe(source.name, "data", foreign.first)


# --- topics of others


@pytest.fixture
def others(graph):
    """Makes a component whose event `message` is a topic of others."""

    def make(component, name, **said):
        made = Component(graph, component)
        graph.topic(component, "message").become(Foreign(name, **said))
        return made

    return make


def test_a_value_of_a_topic_of_others_is_one_argument(graph, others, sink):
    feed = others("m.feed", "orders")
    graph.subscribe(feed.name, "message", sink.first)

    (subscription,) = graph.subscriptions(graph.topic("m.feed", "message"))

    assert subscription.invoke(b"[1,2]") == ("first", ([1, 2],))
    assert subscription.name == "m.feed.message -> m.sink.first"


def test_the_content_of_a_topic_of_others_counts(graph, others, sink):
    feed = others("m.feed", "orders", content="bytes")
    graph.subscribe(feed.name, "message", sink.first)

    (subscription,) = graph.subscriptions(graph.topic("m.feed", "message"))

    assert subscription.invoke(b"\xff") == ("first", (b"\xff",))


def test_a_topic_of_others_is_read_by_one_source(graph, others):
    others("m.feed", "orders.all")
    others("n.feed", "orders_all")

    with pytest.raises(GraphError, match=r"'n\.feed' reads .* is that of 'm\.feed\.message'"):
        graph.freeze()


def test_a_topic_of_the_flow_is_no_topic_of_others(graph, others, sink):
    graph.topic("m.sink", "done")
    others("m.feed", "m.sink.done")

    with pytest.raises(GraphError, match=r"is that of 'm\.sink\.done' already"):
        graph.freeze()


def test_an_event_that_becomes_known_after_the_start_does_not_take_a_topic_of_others(
    graph, others, sink
):
    others("m.feed", "m.sink.done")
    graph.freeze()

    with pytest.raises(GraphError, match="the same to Kafka"):
        graph.topic("m.sink", "done")


def test_a_file_that_says_what_a_topic_of_others_shall_be_is_refused(graph, others, tmp_path):
    graph.plan = TopicPlan(specs={"m.feed.message": TopicSpec(8, file=tmp_path / "m.toml")})
    others("m.feed", "orders")

    with pytest.raises(GraphError, match=r"m\.toml has the topic of 'm\.feed\.message'"):
        graph.freeze()


def test_what_waits_of_a_topic_of_others_has_a_name_of_the_flow(graph, others, sink):
    feed = others("m." + "f" * 236, "orders")

    with pytest.raises(GraphError, match="is too long to be handled"):
        graph.subscribe(feed.name, "message", sink.first)
