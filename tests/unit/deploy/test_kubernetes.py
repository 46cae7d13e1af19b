"""What a deployment has to know of a flow is what its graph, topics/ and settings say."""

from pathlib import Path

import pytest

from aiopype import AsyncFlow, Processor, Source
from aiopype.deploy.kubernetes import FILES_BYTES, facts_of, target_in_image
from aiopype.errors import ConfigurationError
from aiopype.sources import TopicSource
from aiopype.topics import DEFAULT_PARTITIONS


class Feed(Source):
    async def start(self):
        pass


class Writer(Processor):
    def write(self, value):
        pass

    def count(self, value):
        pass


def wire(manager):
    named = manager.build_processor_name
    manager.feed = Feed(named("feed"), manager.handler)
    manager.writer = Writer(named("writer"), manager.handler)
    manager.feed.on("tick", manager.writer.write)
    manager.feed.on("tick", manager.writer.count)


def read_quotes(begin):
    def wire(manager):
        named = manager.build_processor_name
        manager.quotes = TopicSource(named("in"), manager.handler, "quotes", {"begin": begin})
        manager.writer = Writer(named("writer"), manager.handler)
        manager.quotes.on("message", manager.writer.write)

    return wire


@pytest.fixture
def make(declare, tmp_path, monkeypatch):
    """Make a flow of managers, as if its file were in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def make(*wires, **settings):
        names = [declare(each).name for each in wires]
        config = type("Config", (), {"FLOWS": names, **settings})
        flow = AsyncFlow(config(), name="prices")
        flow.file = tmp_path / "prices.py"
        flow.file.write_text("the flow\n")
        return flow, names

    return make


def say(flow, manager, text):
    topics = flow.file.parent / "topics"
    topics.mkdir(exist_ok=True)
    (topics / f"{manager}.toml").write_text(text)


def test_every_subscribed_topic_is_there_with_its_handlers_and_no_other(make):
    flow, (first, second) = make(wire, wire)

    facts = facts_of(flow)
    assert [topic.name for topic in facts.topics] == [f"{first}.feed.tick", f"{second}.feed.tick"]
    assert facts.topics[0].handlers == (f"{first}.writer.write", f"{first}.writer.count")
    assert facts.managers == (first, second)
    assert facts.sources == (f"{first}.feed", f"{second}.feed")


def test_partitions_are_those_of_topics_files_else_the_default(make):
    flow, (first, second) = make(wire, wire)
    say(flow, first, '["feed.tick"]\npartitions = 12\n')

    facts = facts_of(flow)
    assert [topic.partitions for topic in facts.topics] == [12, DEFAULT_PARTITIONS]
    assert facts.most_partitions == 12

    say(flow, first, "[defaults]\npartitions = 3\n")
    say(flow, second, "[defaults]\npartitions = 2\n")
    assert facts_of(flow).most_partitions == 3


def test_a_namespace_is_in_the_group_and_left_out_of_the_topics(make):
    flow, (manager,) = make(wire, NAMESPACE="staging")
    say(flow, manager, '["feed.tick"]\nname = "ticks"\n')

    facts = facts_of(flow)
    assert facts.settings.group == "staging.prices"
    assert [topic.name for topic in facts.topics] == ["ticks"]


@pytest.mark.parametrize(("begin", "at_end"), [("earliest", False), ("latest", True)])
def test_a_topic_of_others_has_unknown_partitions_until_they_are_given(make, begin, at_end):
    flow, _ = make(read_quotes(begin), NAMESPACE="staging")

    (topic,) = facts_of(flow).topics
    assert topic[:2] == ("quotes", 1)
    assert (topic.is_foreign, topic.is_unknown, topic.begins_at_end) == (True, True, at_end)

    (topic,) = facts_of(flow, partitions={"quotes": 9}).topics
    assert (topic.partitions, topic.is_unknown) == (9, False)


def test_partitions_of_a_topic_that_is_not_read_are_refused_with_the_nearest(make):
    flow, _ = make(read_quotes("latest"))

    with pytest.raises(ConfigurationError, match="no topic 'quote'; did you mean quotes"):
        facts_of(flow, partitions={"quote": 9})


def test_a_flow_that_handles_nothing_has_no_topics(make):
    def only_a_source(manager):
        manager.feed = Feed(manager.build_processor_name("feed"), manager.handler)

    flow, (manager,) = make(only_a_source)

    facts = facts_of(flow)
    assert (facts.topics, facts.most_partitions) == ((), 0)
    assert facts.sources == (f"{manager}.feed",)


def test_the_files_sent_along_are_the_flows_and_those_of_its_topics(make):
    flow, (first, _) = make(wire, wire)
    say(flow, first, "[defaults]\npartitions = 3\n")
    say(flow, "another", "[defaults]\n")

    assert facts_of(flow).files == {}
    assert facts_of(flow, embed=True).files == {
        "prices.py": "the flow\n",
        f"topics/{first}.toml": "[defaults]\npartitions = 3\n",
    }


def test_files_that_kubernetes_would_not_keep_are_refused(make):
    flow, _ = make(wire)
    flow.file.write_text("#" * (FILES_BYTES + 1))

    with pytest.raises(ConfigurationError, match=r"prices.py: 1,000,001 bytes .* into an image"):
        facts_of(flow, embed=True)


def test_a_flow_of_no_file_cannot_be_sent_along(make):
    flow, _ = make(wire)
    flow.file = None

    with pytest.raises(ConfigurationError, match="in no file"):
        facts_of(flow, embed=True)


def test_what_the_code_says_before_the_chart_is_told(make):
    flow, _ = make(wire, WEB_HOST="127.0.0.1")
    assert list(facts_of(flow).fixed) == ["web_host"]

    flow, _ = make(wire)
    assert facts_of(flow).fixed == {}


def test_what_the_environment_says_is_outside_and_what_the_code_says_is_not(make, monkeypatch):
    monkeypatch.setenv("AIOPYPE_WATCHDOG_BATCH_SECONDS", "600")
    flow, _ = make(wire, GUARANTEE="at_least_once")

    facts = facts_of(flow)
    assert facts.is_outside("watchdog_batch_seconds")
    assert not facts.is_outside("guarantee")
    assert not facts.is_outside("watchdog_loop_seconds")


@pytest.mark.parametrize(
    ("target", "embed", "there"),
    [
        ("prices:dataflow", False, "prices:dataflow"),
        ("flows/prices.py", False, "flows/prices.py"),
        ("/here/flows/prices.py", False, "flows/prices.py"),
        ("/elsewhere/prices.py", False, "/elsewhere/prices.py"),
        ("/here/flows/prices.py", True, "prices.py"),
    ],
)
def test_a_target_is_as_the_container_has_it(target, embed, there):
    assert target_in_image(target, Path("/here"), embed=embed) == there


def test_a_module_is_not_sent_along():
    with pytest.raises(ConfigurationError, match="prices:dataflow is a module"):
        target_in_image("prices:dataflow", Path("/here"), embed=True)
