import asyncio
import logging
from types import SimpleNamespace

import pytest
from aiokafka import errors as kafka_errors

from aiopype.errors import BrokerError
from aiopype.topics import Topic
from aiopype.transport import admin as admin_module
from aiopype.transport.admin import Admin

UNKNOWN = kafka_errors.UnknownTopicOrPartitionError.errno
NO_LEADER = kafka_errors.LeaderNotAvailableError.errno
FORBIDDEN = kafka_errors.TopicAuthorizationFailedError.errno
ALREADY_THERE = kafka_errors.TopicAlreadyExistsError.errno


class FakeClient:
    """The broker's administration: topics with their partitions.

    Attributes:
        topics: how many partitions each has.
        hidden: topics that are not told of yet, with how many more times.
        codes: error codes of topics, told instead of them.
        refusals: error code and text of topics that cannot be created.
        created: every topic that was asked to be created.
    """

    def __init__(self):
        self.topics, self.hidden, self.codes, self.refusals = {}, {}, {}, {}
        self.created = []
        self.unreachable = None
        self.is_closed = False

    async def start(self):
        if self.unreachable is not None:
            raise self.unreachable

    async def close(self):
        self.is_closed = True

    async def create_topics(self, new):
        await asyncio.sleep(0)
        answers = []
        for topic in new:
            self.created.append((topic.name, topic.num_partitions, topic.topic_configs))
            code, text = self.refusals.get(topic.name, (0, None))
            if code == 0 and topic.name in self.topics:
                code = ALREADY_THERE
            if code == 0:
                self.topics[topic.name] = topic.num_partitions
            answers.append((topic.name, code, text))
        return SimpleNamespace(topic_errors=answers)

    async def describe_topics(self, names):
        await asyncio.sleep(0)
        return [self._describe(name) for name in names]

    def _describe(self, name):
        code = self.codes.get(name, 0)
        if code == 0 and (name not in self.topics or self.hidden.get(name, 0) > 0):
            code = UNKNOWN
        if name in self.topics:
            self.hidden[name] = self.hidden.get(name, 0) - 1
        partitions = [] if code else [{"error_code": 0}] * self.topics[name]
        return {"topic": name, "error_code": code, "partitions": partitions}


@pytest.fixture
def client(monkeypatch):
    fake = FakeClient()
    monkeypatch.setattr(admin_module, "AIOKafkaAdminClient", lambda **options: fake)
    return fake


@pytest.fixture
async def admin(client):
    made = Admin("a:1", set())
    await made.on_start()
    return made


@pytest.fixture
def topics():
    """Makes a set of topics that nothing is known of."""
    return lambda *events: {Topic("m.c", event) for event in events}


async def test_a_missing_topic_is_created_and_known(admin, client, topics):
    unresolved = topics("one")
    (topic,) = unresolved

    await admin.ensure(unresolved)

    assert client.created == [("m.c.one", 4, {})]
    assert topic.partitions == 4
    assert unresolved == set()


async def test_an_existing_topic_is_left_as_it_is(admin, client, topics):
    client.topics["m.c.one"] = 7
    unresolved = topics("one")
    (topic,) = unresolved

    await admin.ensure(unresolved)

    assert client.created == []
    assert topic.partitions == 7
    assert unresolved == set()


async def test_the_topics_of_the_flow_are_created_at_the_start(client, topics):
    unresolved = topics("one", "two")

    await Admin("a:1", unresolved).on_start()

    assert sorted(client.topics) == ["m.c.one", "m.c.two"]
    assert unresolved == set()


async def test_a_created_topic_is_waited_for_until_the_brokers_know_it(admin, client, topics):
    client.hidden["m.c.one"] = 2
    unresolved = topics("one")
    (topic,) = unresolved

    await admin.ensure(unresolved)

    assert topic.partitions == 4


async def test_a_topic_that_never_appears_is_given_up(admin, client, topics, monkeypatch):
    monkeypatch.setattr(admin_module, "ANSWER_SECONDS", 0.1)
    client.hidden["m.c.one"] = 1_000_000

    with pytest.raises(TimeoutError):
        await admin.ensure(topics("one"))


async def test_a_topic_that_another_created_meanwhile_is_fine(admin, client, topics):
    client.topics["m.c.one"] = 3
    client.hidden["m.c.one"] = 1
    unresolved = topics("one")
    (topic,) = unresolved

    await admin.ensure(unresolved)

    assert topic.partitions == 3


async def test_two_who_need_the_same_topic_create_it_once(admin, client, topics):
    unresolved = topics("one")

    await asyncio.gather(admin.ensure(unresolved), admin.ensure(unresolved))

    assert len(client.created) == 1


async def test_a_topic_that_cannot_be_created_is_said_with_the_brokers_reason(
    admin, client, topics
):
    client.refusals["m.c.one"] = (FORBIDDEN, "not for you")

    with pytest.raises(
        BrokerError, match=r"topic 'm.c.one' cannot be created: not for you; create"
    ):
        await admin.ensure(topics("one"))


async def test_a_refusal_without_a_reason_has_the_name_of_its_error(admin, client, topics):
    client.refusals["m.c.one"] = (FORBIDDEN, None)

    with pytest.raises(BrokerError, match="cannot be created: TopicAuthorizationFailedError"):
        await admin.ensure(topics("one"))


async def test_creating_a_topic_is_logged(admin, topics, caplog):
    caplog.set_level(logging.INFO)

    await admin.ensure(topics("one"))

    assert "topic m.c.one created with 4 partitions" in caplog.text


async def test_a_topic_can_be_created_with_partitions_and_settings_of_its_own(admin, client):
    await admin.create(["control"], partitions=1, configs={"cleanup.policy": "compact"})

    assert client.created == [("control", 1, {"cleanup.policy": "compact"})]


# --- what the broker says of topics


async def test_only_topics_that_exist_are_counted(admin, client):
    client.topics |= {"one": 1, "two": 2}

    assert await admin.partitions(["one", "two", "three"]) == {"one": 1, "two": 2}


async def test_no_topics_are_no_question(admin, client):
    client.describe_topics = None

    assert await admin.partitions([]) == {}


async def test_a_topic_without_a_leader_is_not_there_yet(admin, client):
    client.topics["one"] = 2
    client.codes["one"] = NO_LEADER

    assert await admin.partitions(["one"]) == {}


async def test_a_topic_whose_partitions_have_no_leader_is_not_there_yet(admin, client):
    async def describe_topics(names):
        partitions = [{"error_code": 0}, {"error_code": NO_LEADER}]
        return [{"topic": name, "error_code": 0, "partitions": partitions} for name in names]

    client.describe_topics = describe_topics

    assert await admin.partitions(["one"]) == {}


async def test_a_topic_that_may_not_be_seen_is_an_error(admin, client):
    client.codes["one"] = FORBIDDEN

    with pytest.raises(BrokerError, match="topic 'one': TopicAuthorizationFailedError"):
        await admin.partitions(["one"])


# --- start and stop


@pytest.mark.parametrize(
    "error", [kafka_errors.KafkaConnectionError("no route"), TimeoutError(), OSError("no route")]
)
async def test_brokers_that_cannot_be_reached_are_said_with_what_to_do(client, error):
    client.unreachable = error

    with pytest.raises(BrokerError, match=r"no Kafka broker answers at a:1.*--broker"):
        await Admin("a:1", set()).on_start()
    assert client.is_closed


async def test_a_stop_disconnects(admin, client):
    await admin.on_stop()

    assert client.is_closed


async def test_a_stop_without_a_start_is_nothing(client):
    await Admin("a:1", set()).on_stop()

    assert not client.is_closed
