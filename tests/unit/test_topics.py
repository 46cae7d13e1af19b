import pytest

from aiopype.errors import GraphError
from aiopype.topics import Topic, topic_name


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
