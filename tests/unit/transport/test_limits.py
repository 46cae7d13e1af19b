import pytest

from aiopype.graph import Graph
from aiopype.transport.limits import Limits


class FakeAdmin:
    """Gets to know every topic that it is asked to ensure, with a largest value."""

    def __init__(self):
        self.ensured = []
        self.largest = 100

    async def ensure(self, topics):
        for topic in sorted(topics, key=lambda topic: topic.name):
            self.ensured.append(topic.name)
            topic.partitions, topic.largest = 4, self.largest
            topics.discard(topic)


@pytest.fixture
def admin():
    return FakeAdmin()


@pytest.fixture
def graph():
    made = Graph()
    made.add("m.c")
    return made


@pytest.fixture
def limits(graph, admin):
    return Limits(graph, admin)


@pytest.fixture
def events(graph):
    """Makes an event of each of these names."""
    return lambda *names: [(graph.topic("m.c", name), None, b"[]", 0, True) for name in names]


async def test_topics_that_are_not_known_are_made_sure_of_once(limits, admin, events):
    events("one", "two")

    await limits.prepare()
    await limits.prepare()

    assert admin.ensured == ["m.c.one", "m.c.two"]


async def test_a_topic_that_becomes_known_later_is_made_sure_of_too(limits, admin, events):
    events("one")
    await limits.prepare()

    events("two")
    await limits.prepare()

    assert admin.ensured == ["m.c.one", "m.c.two"]


async def test_after_a_refusal_the_limits_of_its_topics_are_asked_for_again(limits, admin, events):
    emitted = events("one", "one")
    events("two")
    await limits.prepare()
    admin.ensured.clear()

    assert limits.look_again(emitted)
    await limits.prepare()

    assert admin.ensured == ["m.c.one"]


async def test_a_refusal_under_the_same_limit_is_not_looked_at_again(limits, admin, events):
    emitted = events("one")
    await limits.prepare()
    assert limits.look_again(emitted)
    await limits.prepare()
    admin.ensured.clear()

    assert not limits.look_again(emitted)
    await limits.prepare()

    assert admin.ensured == []


async def test_a_refusal_under_a_limit_that_has_changed_is_looked_at_again(limits, admin, events):
    emitted = events("one")
    await limits.prepare()
    assert limits.look_again(emitted)
    admin.largest = 50
    await limits.prepare()

    assert limits.look_again(emitted)


async def test_a_refusal_of_another_topic_is_looked_at(limits, events):
    await limits.prepare()
    assert limits.look_again(events("one"))

    assert limits.look_again(events("one", "two"))
