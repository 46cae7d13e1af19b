import asyncio
import logging
from types import SimpleNamespace

import pytest
from aiokafka import errors as kafka_errors

from aiopype.errors import BrokerError
from aiopype.topics import LARGEST_BYTES, RECORD_BYTES, Foreign, Topic, TopicSpec
from aiopype.transport import admin as admin_module
from aiopype.transport import foreign_topics
from aiopype.transport.admin import Admin

#: Settings that are asked for of each topic.
LIMITS = ["max.message.bytes", "cleanup.policy"]

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
        configs: the settings of topics.
        asked: the settings that were asked for, by topic, once for each time.
        grown: topics that were given more partitions, with how many.
        named: topics that were asked for by name, which a broker may create.
    """

    def __init__(self):
        self.topics, self.hidden, self.codes, self.refusals = {}, {}, {}, {}
        self.created, self.replications = [], []
        self.configs, self.asked = {}, {}
        self.grown, self.named = [], set()
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
            self.replications.append(topic.replication_factor)
            code, text = self.refusals.get(topic.name, (0, None))
            if code == 0 and topic.name in self.topics:
                code = ALREADY_THERE
            if code == 0:
                self.topics[topic.name] = topic.num_partitions
            answers.append((topic.name, code, text))
        return SimpleNamespace(topic_errors=answers)

    async def describe_configs(self, resources):
        await asyncio.sleep(0)
        found = []
        for resource in resources:
            self.asked.setdefault(resource.name, []).append(list(resource.configs))
            has = self.configs.get(resource.name, {})
            entries = [(k, has[k], False, 5, False) for k in resource.configs if k in has]
            code, text = self.refusals.get(resource.name, (0, None))
            found.append((code, text, 2, resource.name, [] if code else entries))
        return [SimpleNamespace(resources=found)]

    async def create_partitions(self, wanted):
        await asyncio.sleep(0)
        answers = []
        for name, new in wanted.items():
            self.grown.append((name, new.total_count))
            code, text = self.refusals.get(name, (0, None))
            if code == 0:
                self.topics[name] = new.total_count
            answers.append((name, code, text))
        return SimpleNamespace(topic_errors=answers)

    async def describe_topics(self, names=None):
        await asyncio.sleep(0)
        self.named.update(names or ())
        found = [self._describe(name) for name in (self.topics if names is None else names)]
        # Who asks for all topics is told of those only that there are.
        return [t for t in found if names is not None or t["error_code"] != UNKNOWN]

    def _describe(self, name):
        code = self.codes.get(name, 0)
        if code == 0 and (name not in self.topics or self.hidden.get(name, 0) > 0):
            code = UNKNOWN
        if name in self.topics:
            self.hidden[name] = self.hidden.get(name, 0) - 1
        partitions = [] if code else [{"error_code": 0, "replicas": [1]}] * self.topics[name]
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


# --- topics that somebody said something of


@pytest.fixture
def said():
    """Makes a topic of which a file says something; the set of it."""
    return lambda **spec: {Topic("m.c", "one", TopicSpec(**spec, file="topics/m.toml"))}


async def test_a_topic_is_created_as_its_file_says(admin, client, said):
    await admin.ensure(said(partitions=8, replication=3, configs={"retention.ms": "5"}))

    assert client.created == [("m.c.one", 8, {"retention.ms": "5"})]
    assert client.replications == [3]


async def test_what_no_file_says_is_left_to_the_cluster(admin, client, topics):
    await admin.ensure(topics("one"))

    assert client.replications == [-1]


async def test_a_topic_that_cannot_be_created_names_the_file(admin, client, said):
    client.refusals["m.c.one"] = (38, "three copies on one broker")

    with pytest.raises(BrokerError, match=r"three copies.*or correct topics/m.toml$"):
        await admin.ensure(said(replication=3))


async def test_an_existing_topic_that_is_as_its_file_says_is_not_spoken_of(
    admin, client, said, caplog
):
    client.topics["m.c.one"] = 4
    client.configs["m.c.one"] = {
        "cleanup.policy": "delete,compact", "min.cleanable.dirty.ratio": "0.5"
    }  # fmt: skip
    configs = {"cleanup.policy": "compact,delete", "min.cleanable.dirty.ratio": "0.50"}

    await admin.ensure(said(partitions=4, replication=1, configs=configs))

    assert caplog.text == ""
    assert client.asked["m.c.one"][0] == list(configs)


async def test_what_a_file_does_not_say_is_not_compared(admin, client, said, caplog):
    client.topics["m.c.one"] = 7

    await admin.ensure(said())

    assert caplog.text == ""
    assert client.asked == {"m.c.one": [LIMITS]}


async def test_an_existing_topic_that_differs_is_reported_with_how_to_change_it(
    admin, client, said, caplog
):
    client.topics["m.c.one"] = 2
    client.configs["m.c.one"] = {"retention.ms": "7", "cleanup.policy": "delete"}
    configs = {"retention.ms": "5", "cleanup.policy": "compact,delete"}

    await admin.ensure(said(partitions=8, replication=3, configs=configs))

    (record,) = caplog.records
    alter = "kafka-configs.sh --bootstrap-server a:1 --alter --entity-type topics"
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "topic m.c.one differs from topics/m.toml and is left as it is: "
        "it has 2 partitions, not 8 (kafka-topics.sh --bootstrap-server a:1 --alter "
        "--topic m.c.one --partitions 8); "
        "it has 1 copies, not 3 (kafka-reassign-partitions.sh --bootstrap-server a:1 "
        "--execute --reassignment-json-file FILE); "
        f"retention.ms is 7, not 5 ({alter} --entity-name m.c.one --add-config 'retention.ms=5'); "
        f"cleanup.policy is delete, not compact,delete ({alter} --entity-name m.c.one "
        "--add-config 'cleanup.policy=[compact,delete]')"
    )
    assert client.created == []


async def test_partitions_that_are_too_many_cannot_be_taken_away(admin, client, said, caplog):
    client.topics["m.c.one"] = 8

    await admin.ensure(said(partitions=2))

    assert "it has 8 partitions, not 2 (Kafka takes none away: correct the file" in caplog.text


async def test_a_setting_that_the_broker_does_not_have_differs(admin, client, said, caplog):
    client.topics["m.c.one"] = 4
    client.configs["m.c.one"] = {}

    await admin.ensure(said(configs={"no.such": "5"}))

    assert "no.such is None, not 5" in caplog.text


async def test_settings_that_may_not_be_seen_are_said_and_do_not_stop_the_flow(
    admin, client, said, caplog
):
    client.topics["m.c.one"] = 4
    client.configs["m.c.one"] = {}
    client.refusals["m.c.one"] = (FORBIDDEN, None)
    unresolved = said(configs={"retention.ms": "5"})

    await admin.ensure(unresolved)

    assert caplog.messages == [
        "settings of topic m.c.one cannot be compared: TopicAuthorizationFailedError"
    ]
    assert unresolved == set()


# --- what records a topic takes


async def known(admin, topics):
    """Have one topic made known, and return it."""
    unresolved = topics("one")
    (topic,) = unresolved
    await admin.ensure(unresolved)
    return topic


@pytest.mark.parametrize("is_there", [True, False])
async def test_the_largest_value_is_the_brokers_limit_less_what_a_record_adds(
    admin, client, topics, is_there
):
    if is_there:
        client.topics["m.c.one"] = 4
    client.configs["m.c.one"] = {"max.message.bytes": "5000", "cleanup.policy": "delete"}

    topic = await known(admin, topics)

    assert topic.largest == 5_000 - RECORD_BYTES
    assert not topic.needs_key


@pytest.mark.parametrize("policy", ["compact", "compact,delete", "delete,compact"])
async def test_records_of_a_compacted_topic_need_a_key(admin, client, topics, policy):
    client.configs["m.c.one"] = {"cleanup.policy": policy}

    assert (await known(admin, topics)).needs_key


async def test_where_the_settings_may_not_be_seen_kafkas_defaults_count(
    admin, client, topics, caplog
):
    client.topics["m.c.one"] = 4
    client.refusals["m.c.one"] = (FORBIDDEN, None)

    topic = await known(admin, topics)

    assert topic.largest == LARGEST_BYTES - RECORD_BYTES
    assert not topic.needs_key
    assert topic.partitions == 4
    assert caplog.text == ""


async def test_a_topic_that_is_asked_for_again_has_its_new_limit(admin, client, topics):
    client.configs["m.c.one"] = {"max.message.bytes": "5000"}
    topic = await known(admin, topics)

    client.configs["m.c.one"] = {"max.message.bytes": "9000", "cleanup.policy": "compact"}
    await admin.ensure({topic})

    assert topic.largest == 9_000 - RECORD_BYTES
    assert topic.needs_key


async def test_a_topic_is_not_known_before_its_limits_are(admin, client, topics):
    async def describe_configs(resources):
        raise kafka_errors.RequestTimedOutError

    client.describe_configs = describe_configs
    unresolved = topics("one")
    (topic,) = unresolved

    with pytest.raises(kafka_errors.RequestTimedOutError):
        await admin.ensure(unresolved)

    assert unresolved == {topic}
    assert topic.partitions is None


# --- more partitions


async def test_a_topic_is_given_as_many_partitions_as_it_needs(admin, client):
    client.topics["one"] = 2

    await admin.grow("one", 2, 6)

    assert client.grown == [("one", 6)]
    assert await admin.partitions(["one"]) == {"one": 6}


@pytest.mark.parametrize("has", [6, 8])
async def test_a_topic_that_has_enough_is_left_as_it_is(admin, client, has):
    await admin.grow("one", has, 6)

    assert client.grown == []


async def test_new_partitions_are_waited_for_until_the_brokers_know_them(admin, client):
    client.topics["one"] = 2
    described = []

    async def describe_topics(names):
        partitions = [{"error_code": 0}] * (6 if len(described) == 2 else 2)
        described.append(len(partitions))
        return [{"topic": name, "error_code": 0, "partitions": partitions} for name in names]

    client.describe_topics = describe_topics

    await admin.grow("one", 2, 6)

    assert described == [2, 2, 6]


async def test_partitions_that_cannot_be_added_are_said_with_the_brokers_reason(admin, client):
    client.refusals["one"] = (FORBIDDEN, "not for you")

    with pytest.raises(BrokerError, match="topic 'one' needs 6 partitions: not for you"):
        await admin.grow("one", 2, 6)


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


@pytest.mark.parametrize(
    "error", [kafka_errors.NodeNotReadyError("1"), TimeoutError(), OSError("no route")]
)
async def test_brokers_that_stop_answering_at_the_start_are_said_so(client, topics, error):
    async def create_topics(new):
        raise error

    client.create_topics = create_topics

    with pytest.raises(BrokerError, match="preparing the topics at a:1: "):
        await Admin("a:1", topics("one")).on_start()


async def test_a_start_does_not_wait_for_ever(client, topics, monkeypatch):
    monkeypatch.setattr(admin_module, "START_SECONDS", 0.1)
    client.hidden["m.c.one"] = 1_000_000

    with pytest.raises(BrokerError, match="preparing the topics at a:1: TimeoutError"):
        await Admin("a:1", topics("one")).on_start()


async def test_a_stop_disconnects(admin, client):
    await admin.on_stop()

    assert client.is_closed


async def test_a_stop_without_a_start_is_nothing(client):
    await Admin("a:1", set()).on_stop()

    assert not client.is_closed


# --- topics of others


@pytest.fixture
def orders():
    """Makes the topic `orders`, which others have."""

    def make(**said):
        topic = Topic("m.feed", "message")
        topic.become(Foreign("orders", **said))
        return topic

    return make


async def test_a_topic_of_others_is_looked_at_and_not_asked_for_by_name(admin, client, orders):
    client.topics["orders"] = 6
    client.configs["orders"] = {"max.message.bytes": "5000", "cleanup.policy": "compact"}
    topic = orders()
    unresolved = {topic, Topic("m.c", "one")}

    await admin.ensure(unresolved)

    assert (topic.partitions, topic.largest) == (6, 5_000 - RECORD_BYTES)
    assert [name for name, *_ in client.created] == ["m.c.one"]
    assert "orders" not in client.named
    assert unresolved == set()


async def test_a_topic_of_others_that_is_missing_is_an_error_and_not_created(
    client, orders, monkeypatch
):
    monkeypatch.setattr(foreign_topics, "FIND_SECONDS", 0.05)
    monkeypatch.setattr(foreign_topics, "LOOK_SECONDS", 0.01)

    with pytest.raises(BrokerError, match=r"topic 'orders', which 'm\.feed' reads, does not exist"):
        await Admin("a:1", {orders()}).on_start()

    assert client.created == []
    assert client.named == set()


async def test_a_topic_of_others_may_be_waited_for_as_long_as_it_takes(
    client, orders, monkeypatch, until
):
    monkeypatch.setattr(admin_module, "START_SECONDS", 0.05)
    monkeypatch.setattr(foreign_topics, "FIND_SECONDS", 0.01)
    monkeypatch.setattr(foreign_topics, "LOOK_SECONDS", 0.01)
    topic = orders(wait=True)
    start = asyncio.create_task(Admin("a:1", {topic}).on_start())
    await asyncio.sleep(0.1)
    assert not start.done()

    client.topics["orders"] = 6
    await start

    assert topic.partitions == 6
    assert client.created == []
