import pytest
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors

from aiopype.transport import election as election_module
from aiopype.transport.election import Election

CONTROL = TopicPartition("quotes.sources", 0)


class FakeConsumer:
    """A member of the group: what it was made of, its listener, and the errors it raises."""

    def __init__(self, **options):
        self.options = options
        self.errors = []
        self.polls = 0
        self.is_started = self.is_stopped = False

    def subscribe(self, topics, listener):
        self.topics, self.listener = topics, listener

    async def start(self):
        self.is_started = True

    async def stop(self):
        self.is_stopped = True
        if self.errors:
            raise self.errors.pop(0)


class FakeAdmin:
    def __init__(self, **partitions):
        self.topics = partitions
        self.created = []

    async def partitions(self, names):
        return {name: self.topics[name] for name in names if name in self.topics}

    async def create(self, names, partitions):
        self.created.append((names, partitions))


@pytest.fixture
def steps():
    """What the election told its worker."""
    return []


@pytest.fixture
def admin():
    return FakeAdmin()


@pytest.fixture
async def election(steps, admin, monkeypatch):
    async def on_win():
        steps.append("won")

    async def on_lose():
        steps.append("lost")

    monkeypatch.setattr(election_module, "AIOKafkaConsumer", FakeConsumer)
    return Election(brokers="a:1", flow="quotes", admin=admin, on_win=on_win, on_lose=on_lose)


@pytest.fixture
async def member(election):
    """The election's member of the group."""
    await election.on_start()
    return election._consumer


async def test_it_joins_a_group_and_a_topic_of_its_own(member, admin):
    assert member.options["group_id"] == "quotes.sources"
    assert member.topics == ["quotes.sources"]
    assert member.is_started
    assert admin.created == [(["quotes.sources"], 1)]


async def test_a_control_topic_that_is_there_is_left_as_it_is(election, admin):
    admin.topics["quotes.sources"] = 1

    await election.on_start()

    assert admin.created == []


async def test_who_gets_the_partition_is_the_owner(election, member, steps):
    assert not election.is_owner

    await member.listener.on_partitions_assigned([CONTROL])

    assert election.is_owner
    assert steps == ["won"]


async def test_who_gets_nothing_is_not_the_owner(election, member, steps):
    await member.listener.on_partitions_assigned([])

    assert not election.is_owner
    assert steps == []


async def test_who_gives_the_partition_up_is_the_owner_no_longer(election, member, steps):
    await member.listener.on_partitions_assigned([CONTROL])
    await member.listener.on_partitions_revoked([CONTROL])

    assert not election.is_owner
    assert steps == ["won", "lost"]


async def test_a_rebalance_that_takes_nothing_stops_nothing(election, member, steps):
    await member.listener.on_partitions_assigned([CONTROL])
    await member.listener.on_partitions_revoked([])

    assert election.is_owner
    assert steps == ["won"]


async def test_winning_and_losing_twice_is_told_once(election, steps):
    await election.win()
    await election.win()
    await election.lose()
    await election.lose()

    assert steps == ["won", "lost"]


async def test_a_stop_ends_the_ownership_before_it_leaves_the_group(election, member, steps):
    await election.win()

    async def stop():
        steps.append("left")

    member.stop = stop

    await election.on_stop()

    assert steps == ["won", "lost", "left"]


async def test_a_stop_without_a_start_is_nothing(election, steps):
    await election.on_stop()

    assert steps == []


async def test_a_group_that_cannot_be_left_is_only_logged(election, member, caplog):
    member.errors.append(kafka_errors.RequestTimedOutError())

    await election.on_stop()

    assert "leaving the sources' group" in caplog.text
