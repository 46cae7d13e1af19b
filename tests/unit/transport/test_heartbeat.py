import pytest
from aiokafka import errors as kafka_errors

from aiopype.errors import DeliveryError, OwnershipLost
from aiopype.transport.heartbeat import ask_group


class FakeCoordinator:
    """A coordinator of a member of generation 7, whose group answers with this error.

    Attributes:
        sent: the requests.
        steps: what was asked of it.
    """

    def __init__(self, answer=kafka_errors.NoError, generation=7):
        self.group_id, self.member_id, self.generation = "flow", "me", generation
        self.answer = answer
        self.sent, self.steps = [], []

    async def ensure_coordinator_known(self):
        self.steps.append("look for the coordinator")

    async def _send_req(self, request):
        self.steps.append("ask")
        self.sent.append(request.prepare({request.API_KEY: (0, 0)}))
        if isinstance(self.answer, Exception):
            raise self.answer
        return _Answer(self.answer.errno)


class _Answer:
    def __init__(self, error_code):
        self.error_code = error_code


async def test_the_group_is_asked_as_which_member_of_which_generation_it_knows_one():
    coordinator = FakeCoordinator()

    await ask_group(coordinator)

    (request,) = coordinator.sent
    assert (request.group, request.generation_id, request.member_id) == ("flow", 7, "me")
    assert coordinator.steps == ["look for the coordinator", "ask"]


@pytest.mark.parametrize("answer", [kafka_errors.NoError, kafka_errors.RebalanceInProgressError])
async def test_the_group_counts_on_a_member_also_while_it_spreads_anew(answer):
    assert await ask_group(FakeCoordinator(answer)) is True


async def test_who_is_joining_is_counted_on_in_a_generation_that_it_does_not_know_yet():
    coordinator = FakeCoordinator(kafka_errors.IllegalGenerationError)

    assert await ask_group(coordinator) is False
    assert (coordinator.generation, coordinator.member_id) == (7, "me")


async def test_who_is_unknown_to_the_group_has_lost_all():
    with pytest.raises(OwnershipLost, match="the group went on without this worker"):
        await ask_group(FakeCoordinator(kafka_errors.UnknownMemberIdError))


async def test_who_knows_that_it_is_in_no_group_asks_nobody():
    coordinator = FakeCoordinator(generation=-1)

    with pytest.raises(OwnershipLost):
        await ask_group(coordinator)
    assert coordinator.steps == []


@pytest.mark.parametrize(
    "answer",
    [
        kafka_errors.NotCoordinatorError,
        kafka_errors.CoordinatorNotAvailableError,
        kafka_errors.GroupAuthorizationFailedError,
    ],
)
async def test_another_answer_is_none(answer):
    with pytest.raises(DeliveryError, match="asking the group: "):
        await ask_group(FakeCoordinator(answer))


@pytest.mark.parametrize("error", [kafka_errors.NodeNotReadyError("b"), OSError("no route")])
async def test_without_an_answer_nothing_is_known(error):
    with pytest.raises(DeliveryError, match=f"asking the group: {type(error).__name__}"):
        await ask_group(FakeCoordinator(error))
