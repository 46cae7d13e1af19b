import pytest
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

from aiopype.ownership import Member
from aiopype.transport.assignor import SourceAssignor

TOPIC = "quotes.sources"


@pytest.fixture
def assignor():
    """Of a member that says what `assignor.says` is now."""
    made = SourceAssignor(lambda: made.says)
    made.says = Member(worker="a:1", can=("m.x", "m.y"))
    return made


def sent(message):
    """What arrives of a message of the group: it travels as bytes."""
    return type(message).decode(message.encode())


def test_a_member_says_of_itself_what_is_true_when_it_joins(assignor):
    first = sent(assignor.metadata({TOPIC}))
    assignor.says = Member(worker="a:1", can=("m.x", "m.y"), runs={"m.x": 3})
    second = sent(assignor.metadata({TOPIC}))

    assert (first.version, first.subscription) == (0, [TOPIC])
    assert Member.decode(first.user_data).runs == {}
    assert Member.decode(second.user_data).runs == {"m.x": 3}


def test_the_leader_spreads_the_sources_over_all_members_and_gives_nobody_a_partition(assignor):
    other = SourceAssignor(lambda: Member(worker="b:1", can=("m.x", "m.y")))
    members = {"one": sent(assignor.metadata({TOPIC})), "two": sent(other.metadata({TOPIC}))}

    given = {name: sent(each) for name, each in assignor.assign(None, members).items()}

    assert {name: each.user_data for name, each in given.items()} == {
        "one": b'["m.x"]',
        "two": b'["m.y"]',
    }
    assert all(each.assignment == [] for each in given.values())


@pytest.mark.parametrize("said", [b"", b"garbage"])
def test_a_member_that_cannot_be_understood_gets_nothing_and_harms_nobody(assignor, said):
    members = {
        "one": sent(assignor.metadata({TOPIC})),
        "two": ConsumerProtocolMemberMetadata(0, [TOPIC], said),
    }

    given = assignor.assign(None, members)

    assert given["one"].user_data == b'["m.x","m.y"]'
    assert given["two"].user_data == b"[]"


def test_before_the_first_assignment_nothing_is_assigned(assignor):
    assert assignor.assigned == frozenset()


def test_a_member_learns_what_is_its_own(assignor):
    for names, raw in (({"m.x", "m.y"}, b'["m.x","m.y"]'), (set(), b"[]")):
        assignor.on_assignment(sent(ConsumerProtocolMemberAssignment(0, [], raw)))

        assert assignor.assigned == names
