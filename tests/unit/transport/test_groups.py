from types import SimpleNamespace

import pytest
from aiokafka import errors as kafka_errors
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

from aiopype.errors import BrokerError
from aiopype.transport import groups, reading
from aiopype.transport.reading import Reader
from aiopype.transport.stored import Group, Joined

SAID = ConsumerProtocolMemberMetadata(0, ["t"], b"said").encode()
GIVEN = ConsumerProtocolMemberAssignment(0, [("t", [0])], b"given").encode()


class Admin:
    """A client whose answers are what they are told to be, one after the other."""

    def __init__(self, **_options):
        self.answers = []
        self.asked = []

    async def start(self):
        pass

    async def close(self):
        pass

    async def describe_topics(self, _names):
        return []

    def will_say(self, state="Stable", *members, code=0):
        self.answers.append((code, "g", state, "consumer", "p", list(members), 0))

    async def describe_consumer_groups(self, names):
        self.asked.append(names)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [SimpleNamespace(groups=[answer])]


@pytest.fixture
def admin(monkeypatch):
    made = Admin()
    monkeypatch.setattr(reading, "AIOKafkaAdminClient", lambda **options: made)
    monkeypatch.setattr(groups, "_AGAIN_SECONDS", 0)
    return made


@pytest.fixture
async def reader(admin):
    async with Reader("a:1") as made:
        yield made


async def test_members_are_told_with_what_they_said_and_were_given(admin, reader):
    admin.will_say("Stable", ("id", "client", "/10.0.0.1", SAID, GIVEN))

    told = Joined("10.0.0.1", b"said", b"given", "client", "id", (("t", 0),))
    assert await reader.group("g") == Group(True, (told,))
    assert admin.asked == [["g"]]


@pytest.mark.parametrize(
    ("state", "is_settled"),
    [
        ("Stable", True),
        ("Empty", True),
        ("Dead", True),
        ("PreparingRebalance", False),
        ("CompletingRebalance", False),
        ("", False),
    ],
)
async def test_a_group_is_settled_or_not(admin, reader, state, is_settled):
    admin.will_say(state)

    assert (await reader.group("g")).is_settled is is_settled


async def test_a_group_that_the_brokers_do_not_know_has_no_members(admin, reader):
    admin.will_say("", code=69)

    assert await reader.group("g") == Group(True, ())


@pytest.mark.parametrize("raw", [b"", b"\x00", b"\x00\x00\x00\x00\x00\x01", b"somebody else's"])
async def test_of_bytes_that_are_no_members_nothing_is_told(admin, reader, raw):
    admin.will_say("Stable", ("id", "client", "/h", raw, raw))

    assert (await reader.group("g")).members == (Joined("h", b"", b"", "client", "id"),)


async def test_a_coordinator_that_moves_is_asked_again(admin, reader):
    admin.answers.append(kafka_errors.CoordinatorNotAvailableError())
    admin.will_say(code=kafka_errors.NotCoordinatorError.errno)
    admin.will_say(code=kafka_errors.CoordinatorLoadInProgressError.errno)
    admin.will_say("Empty")

    assert await reader.group("g") == Group(True, ())
    assert len(admin.asked) == 4


async def test_a_group_that_may_not_be_seen_is_told(admin, reader):
    admin.will_say(code=kafka_errors.GroupAuthorizationFailedError.errno)

    with pytest.raises(BrokerError, match=r"members of group g: .*; give this client the right"):
        await reader.group("g")


async def test_brokers_that_never_agree_are_given_up(admin, reader, monkeypatch):
    monkeypatch.setattr(reading, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(groups, "_AGAIN_SECONDS", 0.01)
    admin.answers = [kafka_errors.CoordinatorNotAvailableError()] * 1_000

    with pytest.raises(BrokerError, match="members of group g: TimeoutError"):
        await reader.group("g")
