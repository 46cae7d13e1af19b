import asyncio
import logging

import pytest

from aiopype.errors import BrokerError
from aiopype.topics import Foreign, Topic
from aiopype.transport import foreign_topics
from aiopype.transport.foreign_topics import find, wait_for


class Brokers:
    """What is on the brokers.

    Attributes:
        topics: their partitions.
        later: those that appear one by one, each at another look.
        looks: how often somebody looked.
    """

    def __init__(self):
        self.topics = {}
        self.later = []
        self.looks = 0

    async def look(self, names):
        await asyncio.sleep(0)
        self.looks += 1
        found = {name: parts for name, parts in self.topics.items() if name in names}
        if self.later:
            self.topics[self.later.pop(0)] = [1]
        return found


@pytest.fixture
def brokers(monkeypatch):
    monkeypatch.setattr(foreign_topics, "LOOK_SECONDS", 0.001)
    return Brokers()


@pytest.fixture
def topics():
    """Makes topics of others."""

    def make(*names):
        made = [Topic(f"m.{name}", "message") for name in names]
        for topic, name in zip(made, names, strict=True):
            topic.become(Foreign(name))
        return made

    return make


async def test_topics_are_found_with_their_partitions(brokers, topics):
    brokers.topics = {"a": [1, 2], "b": [1], "c": [1]}

    assert await find(topics("a", "b"), brokers.look, "h:1") == {"a": [1, 2], "b": [1]}
    assert brokers.looks == 1


async def test_a_topic_that_was_just_made_is_found_too(brokers, topics):
    brokers.later = ["a"]

    assert await find(topics("a"), brokers.look, "h:1") == {"a": [1]}


async def test_a_topic_that_is_missing_is_named(brokers, topics, monkeypatch):
    monkeypatch.setattr(foreign_topics, "FIND_SECONDS", 0.01)
    brokers.topics = {"a": [1]}

    with pytest.raises(BrokerError, match=r"'b', which 'm\.b' reads, does not exist at h:1"):
        await find(topics("a", "b"), brokers.look, "h:1")


async def test_topics_are_waited_for_until_all_are_there_and_each_is_told_once(
    brokers, topics, caplog
):
    caplog.set_level(logging.INFO)
    brokers.later = ["x", "x", "a", "x", "b"]

    await wait_for(topics("a", "b"), brokers.look)

    assert brokers.looks == 6
    assert [record.getMessage() for record in caplog.records] == [
        "waiting for topic a, which m.a reads",
        "waiting for topic b, which m.b reads",
    ]
