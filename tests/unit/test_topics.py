import pytest

from aiopype.errors import ConfigurationError, GraphError
from aiopype.pipelines import Pipelines
from aiopype.topics import Foreign, Topic, TopicPlan, TopicSpec, read_plan, topic_name
from aiopype.topics.quantities import milliseconds, octets


@pytest.fixture
def write(tmp_path):
    """Writes the file of the manager `m`; returns its plan."""

    def read(text, namespace=None):
        (tmp_path / "m.toml").write_text(text)
        return read_plan(["m"], [tmp_path], namespace)

    return read


@pytest.fixture
def refused(write, tmp_path):
    """Writes a file that is refused; returns why, without the file's name."""

    def read(text):
        with pytest.raises(ConfigurationError) as refusal:
            write(text)
        assert str(refusal.value).startswith(f"{tmp_path / 'm.toml'}: ")
        return str(refusal.value).removeprefix(f"{tmp_path / 'm.toml'}: ")

    return read


# --- topics


def test_a_topic_is_named_by_manager_component_and_event():
    assert topic_name("prices.parse", "price") == "prices.parse.price"


def test_a_topic_knows_its_event_and_not_yet_its_partitions():
    topic = Topic("prices.parse", "price")

    assert (topic.name, topic.event, topic.partitions) == ("prices.parse.price", "price", None)


def test_a_topic_shows_its_name_and_partitions():
    topic = Topic("prices.parse", "price")
    topic.partitions = 4

    assert repr(topic) == "<Topic prices.parse.price partitions=4>"


@pytest.mark.parametrize("event", ["price", "Price_2", "a-b", "a.b", "0"])
def test_letters_digits_dots_underscores_and_hyphens_make_a_topic(event):
    assert topic_name("m.c", event) == f"m.c.{event}"


@pytest.mark.parametrize("event", ["", "a b", "a/b", "é", "a\n", "a:b", "a\x00", None, 3, b"price"])
def test_an_event_that_cannot_be_a_topic_is_refused_by_name(event):
    with pytest.raises(GraphError) as refusal:
        topic_name("m.c", event)

    assert repr(event) in str(refusal.value)
    assert "'m.c'" in str(refusal.value)


def test_a_topic_has_249_characters_at_most():
    longest = "x" * (249 - len("m.c."))

    assert len(topic_name("m.c", longest)) == 249
    with pytest.raises(GraphError, match="249 characters at most"):
        topic_name("m.c", longest + "x")


def test_a_namespace_goes_in_front_of_the_topic_only():
    topic = Topic("m.c", "e", namespace="team.a")

    assert (topic.name, topic.full_name, topic.component) == ("team.a.m.c.e", "m.c.e", "m.c")


def test_another_name_stands_for_the_whole_of_the_events():
    topic = Topic("m.c", "e", TopicSpec(name="orders"), "team")

    assert (topic.name, topic.full_name) == ("team.orders", "m.c.e")


def test_a_topic_of_others_has_its_own_name_and_nothing_is_wanted_of_it():
    topic = Topic("m.feed", "message", TopicSpec(8), "space")

    topic.become(Foreign("orders", begin="latest"))

    assert (topic.name, topic.own_name) == ("orders", "space.m.feed.message")
    assert topic.full_name == "m.feed.message"
    assert topic.spec == TopicSpec()


def test_a_topic_begins_at_its_end_only_where_others_write_it_and_it_was_said():
    topic = Topic("m.feed", "message")
    assert not topic.begins_at_end

    topic.become(Foreign("orders"))
    assert not topic.begins_at_end

    topic.become(Foreign("orders", begin="latest"))
    assert topic.begins_at_end


@pytest.mark.parametrize("name", ["", "a b", ".", "x" * 250, None])
def test_a_name_that_no_topic_has_is_refused(name):
    with pytest.raises(GraphError, match="cannot exist"):
        Topic("m.feed", "message").become(Foreign(name))


def test_a_namespace_that_makes_the_topic_too_long_is_refused():
    with pytest.raises(GraphError, match=r"'e' of 'm.c' is too long: 249 characters at most"):
        Topic("m.c", "e", TopicSpec(name="x" * 249), "n")


@pytest.mark.parametrize("name", [".", ".."])
def test_a_topic_is_no_folder(name):
    with pytest.raises(GraphError):
        Topic("m.c", "e", TopicSpec(name=name))


# --- quantities


@pytest.mark.parametrize(
    ("text", "value"),
    [("7d", 604_800_000), ("12h", 43_200_000), ("30m", 1_800_000), ("5 s", 5_000), ("1w",
     604_800_000), ("10ms", 10), ("forever", -1)],
)  # fmt: skip
def test_a_duration_is_a_number_and_a_unit(text, value):
    assert milliseconds(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("1 GiB", 2**30), ("500MB", 500_000_000), ("10 B", 10), ("1kB", 1000), ("unlimited", -1)],
)
def test_a_size_is_a_number_and_a_unit(text, value):
    assert octets(text) == value


@pytest.mark.parametrize(
    "text", ["", "7", "7 days", "-7d", "7.5d", "1d12h", "d", "7  d", "\u0667d"]
)
def test_what_is_no_duration_is_refused_with_the_units(text):
    with pytest.raises(ValueError, match="one of ms, s, m, h, d, w, or forever"):
        milliseconds(text)


# --- files


def test_a_manager_without_a_file_has_nothing_said(tmp_path):
    assert read_plan(["m"], [tmp_path]) == TopicPlan()


def test_the_first_folder_that_has_the_file_counts(tmp_path):
    for folder, name in [("a", "first"), ("b", "second")]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.toml").write_text(f'["c.e"]\nname = "{name}"\n')

    plan = read_plan(["m"], [tmp_path / x for x in ("missing", "a", "b")])

    assert plan.topic("m.c", "e").name == "first"


def test_all_that_may_be_said_of_a_topic(write, tmp_path):
    plan = write(
        """
        ["c.e"]
        partitions = 8
        replication = 3
        retention = "7d"
        retention_bytes = "1 GiB"
        cleanup = "compact,delete"
        name = "orders"
        config = { "max.message.bytes" = "2000000", "x" = 5, "y" = true }
        """
    )

    assert plan.topic("m.c", "e").spec == TopicSpec(
        partitions=8,
        replication=3,
        configs={
            "retention.ms": "604800000",
            "retention.bytes": "1073741824",
            "cleanup.policy": "compact,delete",
            "max.message.bytes": "2000000",
            "x": "5",
            "y": "true",
        },
        name="orders",
        file=tmp_path / "m.toml",
    )


def test_an_event_takes_from_the_defaults_what_it_does_not_say(write):
    plan = write(
        """
        [defaults]
        partitions = 2
        retention = "7d"
        cleanup = "delete"
        ["c.e"]
        retention = "1h"
        """
    )

    spec = plan.topic("m.c", "e").spec
    assert spec.partitions == 2
    assert spec.configs == {"retention.ms": "3600000", "cleanup.policy": "delete"}


def test_defaults_are_for_every_other_event_of_the_manager(write):
    plan = write("[defaults]\npartitions = 2\n")

    assert plan.topic("m.c", "any").spec.partitions == 2
    assert plan.topic("other.c", "any").spec.partitions is None


def test_bytes_may_be_a_bare_number(write):
    plan = write('["c.e"]\nretention_bytes = 1000\n')

    assert plan.topic("m.c", "e").spec.configs == {"retention.bytes": "1000"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('["c.e"]\npartitons = 1', '["c.e"] partitons is not known; did you mean partitions?'),
        ("[defaults]\ncolour = 1", "[defaults] colour is not known; there are cleanup, config, "),
        ('["c.e"]\npartitions = 0', '["c.e"] partitions = 0: give a whole number from 1 to '),
        ('["c.e"]\npartitions = true', '["c.e"] partitions = True: give a whole number'),
        ('["c.e"]\nreplication = "3"', "[\"c.e\"] replication = '3': give a whole number"),
        ('["c.e"]\nretention = 7', '["c.e"] retention = 7: write a whole number and one of ms'),
        ('["c.e"]\nretention_bytes = -1', '["c.e"] retention_bytes = -1: write a whole number'),
        ('["c.e"]\ncleanup = "compress"', "[\"c.e\"] cleanup = 'compress': write delete, comp"),
        ('["c.e"]\nname = "a b"', "[\"c.e\"] name = 'a b': use letters"),
        ('["c.e"]\nname = 5', '["c.e"] name = 5: use letters'),
        ('[defaults]\nname = "a"', "[defaults] name: a name is for one event"),
        ('["c.e"]\nconfig = 5', '["c.e"] config = 5: make it a table'),
        ('["c.e"]\nconfig = { max.message.bytes = 5 }', '["c.e"] config = {'),
        (
            '["c.e"]\nretention = "7d"\nconfig = { "retention.ms" = 5 }',
            '["c.e"] config: retention.ms is said twice',
        ),
        ("defaults = 5", "[defaults] is 5; make it a table"),
        ('"c.e" = 5', '["c.e"] is 5; make it a table'),
        ("[c.e]\npartitions = 1", "'c' is neither [defaults] nor component and event; those are "),
        ("partitions = 5", "'partitions' is neither [defaults] nor component and event"),
    ],
)
def test_what_is_not_known_is_refused_with_file_and_key(refused, text, why):
    assert refused(text).startswith(why)


def test_a_table_without_quotes_is_told_how_to_write_it(refused):
    assert refused("[prices.price]\npartitions = 1").endswith(': ["prices.price"]')


# --- with a flow


@pytest.fixture
def build(write, declare, collector, recorder, tmp_path):
    """Builds a manager with the events `price` and `a.b`, by a file of its topics."""

    def run(text, namespace=None):
        def wire(manager):
            prices = collector(manager.build_processor_name("prices"), manager.handler)
            prices.on("price", prices.take)
            prices.on("a.b", prices.take_async)

        declare(wire, name="topics_test")
        (tmp_path / "topics_test.toml").write_text(text)
        plan = read_plan(["topics_test"], [tmp_path], namespace)
        Pipelines(["topics_test"], recorder, topics=plan)
        return {topic.full_name: topic for topic in recorder.graph.topics()}

    return run


def test_the_topics_of_a_flow_are_as_its_file_says(build):
    topics = build('["prices.price"]\npartitions = 8\n["prices.a.b"]\nname = "x"\n', "ns")

    assert topics["topics_test.prices.price"].spec.partitions == 8
    assert topics["topics_test.prices.price"].name == "ns.topics_test.prices.price"
    assert topics["topics_test.prices.a.b"].name == "ns.x"


def test_a_subscription_is_called_by_its_event_whatever_the_topic_is_called(build, recorder):
    topics = build('["prices.price"]\nname = "x"\n', "ns")

    (subscription,) = recorder.graph.subscriptions(topics["topics_test.prices.price"])
    assert subscription.name == "topics_test.prices.price -> topics_test.prices.take"


def test_an_event_that_only_the_file_names_is_declared(build):
    assert "topics_test.prices.volume" in build('["prices.volume"]\npartitions = 1\n')


def test_an_unknown_component_is_refused_with_the_one_it_resembles(build, tmp_path):
    with pytest.raises(ConfigurationError) as refusal:
        build('["price.price"]\n')

    assert str(refusal.value) == (
        f'{tmp_path / "topics_test.toml"}: ["price.price"]: '
        "manager 'topics_test' has no such component; did you mean prices?"
    )


def test_an_event_that_is_nearly_a_known_one_is_taken_for_a_mistake(build):
    with pytest.raises(ConfigurationError, match=r"'prise' is not known; did you mean price\?"):
        build('["prices.prise"]\n')


def test_two_events_of_one_topic_are_refused(build):
    with pytest.raises(GraphError, match="which is the same to Kafka as"):
        build('["prices.price"]\nname = "x"\n["prices.a.b"]\nname = "x"\n')


def test_dead_letters_are_never_compacted_away():
    compacted = TopicSpec(configs={"cleanup.policy": "compact", "retention.ms": "1000"})
    plan = TopicPlan(None, {"m.c.error": compacted}, {"m": compacted})

    assert plan.topic("m.c", "error").spec.configs == {"retention.ms": "1000"}
    assert plan.topic("m.other", "error").spec.configs == {"retention.ms": "1000"}
    assert plan.topic("m.other", "price").spec.configs["cleanup.policy"] == "compact"


def test_a_topic_of_dead_letters_has_room_for_the_original_and_its_traceback():
    letters = Topic("m.c", "error")
    letters.hold_letters_about(Topic("m.source", "data"))
    assert letters.spec.configs["max.message.bytes"] == str(2 * 1_048_588)

    letters.hold_letters_about(
        Topic("m.source", "large", TopicSpec(configs={"max.message.bytes": "5000000"}))
    )
    assert letters.spec.configs["max.message.bytes"] == "10000000"


def test_what_a_file_says_of_the_size_of_dead_letters_holds(tmp_path):
    said = TopicSpec(configs={"max.message.bytes": "3000"}, file=tmp_path / "m.toml")
    letters = Topic("m.c", "error", said)

    letters.hold_letters_about(Topic("m.source", "data"))

    assert letters.spec.configs["max.message.bytes"] == "3000"
