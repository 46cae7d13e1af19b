import asyncio
from collections import deque
from types import SimpleNamespace

import pytest
from aiokafka import errors as kafka_errors
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from aiopype.errors import DeliveryError, OwnershipLost
from aiopype.ownership import Member
from aiopype.transport import election as election_module
from aiopype.transport.election import Election
from aiopype.transport.settings import SESSION_SECONDS

NO_ANSWER = DeliveryError("asking the group: no answer")
PUT_OUT = OwnershipLost("the group went on without this worker")


class FakeConsumer:
    """A member of the group: what it was made of, its listener, and the errors it raises.

    Attributes:
        poll_errors: raised by the next polls, one each.
        polls: how many there were.
        rejoins: how often its coordinator was asked to join again.
    """

    def __init__(self, **options):
        self.options = options
        self.poll_errors, self.stop_errors = deque(), []
        self.polls = self.rejoins = 0
        self.is_started = self.is_stopped = False
        self._coordinator = None

    def subscribe(self, topics, listener):
        self.topics, self.listener = topics, listener

    async def start(self):
        self.is_started = True
        self._coordinator = SimpleNamespace(generation=-1, request_rejoin=self._request_rejoin)

    async def stop(self):
        self.is_stopped = True
        if self.stop_errors:
            raise self.stop_errors.pop(0)

    async def getmany(self, timeout_ms):
        self.polls += 1
        await asyncio.sleep(0.001)
        if self.poll_errors:
            raise self.poll_errors.popleft()
        return {}

    def _request_rejoin(self):
        self.rejoins += 1

    async def join(self, generation, *names):
        """Be assigned these sources, as the group does it."""
        (assignor,) = self.options["partition_assignment_strategy"]
        assignor.metadata(self.topics)
        await self.listener.on_partitions_revoked([])
        self._coordinator.generation = generation
        text = ",".join(f'"{name}"' for name in names)
        assignor.on_assignment(ConsumerProtocolMemberAssignment(0, [], f"[{text}]".encode()))
        await self.listener.on_partitions_assigned([])


class FakeGroup:
    """What the group answers when it is asked.

    Attributes:
        answers: what it answers, one a question; then that it counts on the member.
        asked: how often it was asked.
        may_answer: cleared, it does not answer.
    """

    def __init__(self):
        self.answers = deque()
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def ask(self, coordinator):
        self.asked += 1
        await asyncio.sleep(0)
        await self.may_answer.wait()
        answer = self.answers.popleft() if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def group(monkeypatch):
    fake = FakeGroup()
    monkeypatch.setattr(election_module, "ask_group", fake.ask)
    monkeypatch.setattr(election_module, "AIOKafkaConsumer", FakeConsumer)
    monkeypatch.setattr(election_module, "HEARTBEAT_SECONDS", 0.002)
    return fake


@pytest.fixture
def steps():
    """What the election told its worker."""
    return []


@pytest.fixture
async def election(group, steps):
    made = Election(
        brokers="a:1",
        group="quotes",
        member=lambda: Member(worker="me:1", can=("m.a",)),
        on_assigned=lambda names: steps.append(sorted(names)),
        on_lost=steps.append,
        security={"security_protocol": "SSL"},
    )
    yield made
    await made.stop()


@pytest.fixture
async def consumer(election):
    """The election's consumer; it has started, and nothing runs by itself."""
    await election.on_start()
    return election._consumer


@pytest.fixture
async def member(election, group):
    """The same; it asks the group again and again, and owns `m.a`."""
    await election.start()
    await election._consumer.join(1, "m.a")
    return election._consumer


# --- joining


async def test_it_counts_how_often_the_group_spreads_the_sources(election, consumer):
    assert election.rebalances == 0

    await consumer.join(1, "m.a")
    await consumer.join(2, "m.a")

    assert election.rebalances == 2


async def test_it_joins_a_group_of_its_own_under_the_name_of_its_topic(consumer):
    assert consumer.options["group_id"] == "quotes.sources"
    assert consumer.topics == ["quotes.sources"]
    assert consumer.options["enable_auto_commit"] is False
    assert consumer.options["security_protocol"] == "SSL"
    assert consumer.is_started


def test_it_takes_itself_for_lost_before_the_group_does():
    assert election_module.LEASE_SECONDS < SESSION_SECONDS


async def test_it_says_of_itself_what_is_true_when_it_joins(consumer):
    (assignor,) = consumer.options["partition_assignment_strategy"]

    said = Member.decode(assignor.metadata(["quotes.sources"]).user_data)

    assert said == Member(worker="me:1", can=("m.a",))


async def test_it_is_a_member_when_it_is_told_what_is_its_own(election, consumer, steps):
    assert not election.is_member

    await consumer.join(1, "m.a", "m.b")

    assert election.is_member
    assert election.assigned == {"m.a", "m.b"}
    assert steps == [["m.a", "m.b"]]


async def test_who_gets_nothing_is_a_member_too(election, consumer, steps):
    await consumer.join(1)

    assert election.is_member
    assert steps == [[]]


async def test_what_stays_runs_on_through_a_rebalance(election, consumer, steps):
    await consumer.join(1, "m.a")
    await consumer.join(2, "m.a", "m.b")

    assert steps == [["m.a"], ["m.a", "m.b"]]


async def test_who_has_to_join_anew_may_be_the_owner_of_nothing(election, consumer, steps):
    await consumer.join(1, "m.a")
    consumer._coordinator.generation = -1

    await consumer.listener.on_partitions_revoked([])

    assert not election.is_member
    assert steps == [["m.a"], "the group went on without this worker"]


async def test_a_loss_is_told_once(election, consumer, steps):
    await consumer.join(1, "m.a")

    election.lose("one")
    election.lose("other")

    assert steps == [["m.a"], "one"]


async def test_who_was_never_a_member_loses_nothing(election, steps):
    election.lose("why")

    assert steps == []


# --- joining again


async def test_it_joins_again_when_it_is_asked_to(election, consumer):
    election.rejoin()

    assert consumer.rejoins == 1


async def test_before_it_is_connected_there_is_nothing_to_join_again(election, monkeypatch):
    election.rejoin()  # not started

    async def start(consumer):
        election.rejoin()  # starting: the coordinator is not known yet

    monkeypatch.setattr(FakeConsumer, "start", start)
    await election.on_start()

    assert election._consumer.rejoins == 0


async def test_what_was_not_told_while_it_joined_is_told_by_joining_again(election, consumer):
    (assignor,) = consumer.options["partition_assignment_strategy"]
    assignor.metadata(["quotes.sources"])
    election.rejoin()  # after it has said what it has, before it is told what is its own
    consumer.rejoins = 0
    consumer._coordinator.generation = 1

    await consumer.listener.on_partitions_assigned([])

    assert consumer.rejoins == 1


async def test_what_was_told_when_it_joined_is_not_told_again(election, consumer):
    election.rejoin()
    consumer.rejoins = 0

    await consumer.join(1, "m.a")

    assert consumer.rejoins == 0


async def test_after_its_stop_it_joins_no_more(election, member):
    await election.stop()

    election.rejoin()

    assert member.rejoins == 0


# --- asking whether it still is a member


async def test_it_asks_the_group_again_and_again(election, group, member, until):
    await until(lambda: group.asked > 5)

    assert election.is_member


async def test_who_was_put_out_has_lost_its_sources(election, group, member, steps, until):
    member._coordinator.generation = -1
    group.answers.append(PUT_OUT)

    await until(lambda: not election.is_member)

    assert steps == [["m.a"], "the group went on without this worker"]


async def test_an_answer_that_is_missing_now_and_then_loses_nothing(
    election, group, member, steps, until
):
    group.answers.extend([NO_ANSWER, True] * 5)

    await until(lambda: not group.answers)

    assert steps == [["m.a"]]


async def test_without_an_answer_for_a_while_the_sources_are_lost(
    election, group, member, steps, until, monkeypatch
):
    monkeypatch.setattr(election_module, "LEASE_SECONDS", 0.05)
    group.answers.extend([NO_ANSWER] * 1_000)

    await until(lambda: not election.is_member)

    assert steps == [["m.a"], str(NO_ANSWER)]


async def test_a_question_that_is_not_answered_for_a_while_is_a_loss_and_is_not_repeated(
    election, group, member, steps, until, monkeypatch
):
    monkeypatch.setattr(election_module, "LEASE_SECONDS", 0.05)
    await until(lambda: group.asked)
    group.may_answer.clear()

    await until(lambda: not election.is_member)
    asked = group.asked
    await asyncio.sleep(0.02)

    assert steps == [["m.a"], "the group has not answered for 0.05 s"]
    assert group.asked == asked


async def test_who_turns_out_to_have_been_a_member_all_the_time_has_its_sources_again(
    election, group, member, steps, until, monkeypatch
):
    monkeypatch.setattr(election_module, "LEASE_SECONDS", 0.05)
    group.may_answer.clear()
    await until(lambda: not election.is_member)

    group.may_answer.set()
    await until(lambda: election.is_member)

    assert steps[-1] == ["m.a"]


async def test_who_was_put_out_takes_nothing_before_it_is_assigned_something_again(
    election, group, member, steps, until
):
    member._coordinator.generation = -1
    group.answers.append(PUT_OUT)
    await until(lambda: not election.is_member)

    # It has joined: the group knows it, and says later what is its own.
    member._coordinator.generation = 2
    asked = group.asked
    await until(lambda: group.asked > asked + 3)
    assert not election.is_member

    await member.join(2, "m.b")
    assert steps[-1] == ["m.b"]


async def test_who_is_joining_takes_nothing_either(election, group, member, until):
    election.lose("why")
    group.answers.extend([False] * 3)

    await until(lambda: len(group.answers) <= 1)
    assert not election.is_member


async def test_a_member_that_joins_the_next_generation_has_lost_nothing(
    election, group, member, steps, until
):
    group.answers.extend([False] * 3)

    await until(lambda: not group.answers)

    assert steps == [["m.a"]]


# --- confirming


async def test_what_is_assigned_is_confirmed_by_the_group(election, group, consumer):
    await consumer.join(1, "m.a")

    await election.confirm("m.a")

    assert group.asked == 1


async def test_an_answer_that_is_fresh_need_not_be_asked_for_again(election, group, consumer):
    await consumer.join(1, "m.a", "m.b")

    for name in ("m.a", "m.b", "m.a"):
        await election.confirm(name)

    assert group.asked == 1


async def test_who_ask_at_the_same_time_ask_once(election, group, consumer):
    await consumer.join(1, "m.a")

    await asyncio.gather(*(election.confirm("m.a") for _ in range(20)))

    assert group.asked == 1


async def test_an_answer_is_as_old_as_its_question(election, group, consumer, monkeypatch):
    # It may have come while the process was frozen, and so be read long after.
    now = [1_000.0]
    monkeypatch.setattr(election_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    await consumer.join(1, "m.a")
    group.may_answer.clear()
    confirming = asyncio.create_task(election.confirm("m.a"))
    while not group.asked:
        await asyncio.sleep(0)

    now[0] += 60
    group.may_answer.set()
    await confirming

    assert group.asked == 2


@pytest.mark.parametrize("assigned", [[], ["m.b"]])
async def test_what_is_not_assigned_is_not_confirmed(election, consumer, assigned):
    await consumer.join(1, *assigned)

    with pytest.raises(OwnershipLost, match=r"source m\.a is another worker's, or nobody's"):
        await election.confirm("m.a")


async def test_what_is_assigned_to_one_who_was_put_out_is_not_confirmed(election, group, consumer):
    await consumer.join(1, "m.a")
    group.answers.append(PUT_OUT)

    with pytest.raises(OwnershipLost):
        await election.confirm("m.a")


async def test_after_a_loss_nothing_is_confirmed(election, group, consumer):
    await consumer.join(1, "m.a")
    election.lose("why")

    with pytest.raises(OwnershipLost):
        await election.confirm("m.a")


async def test_a_group_that_cannot_answer_confirms_nothing(election, group, consumer):
    await consumer.join(1, "m.a")
    group.answers.append(NO_ANSWER)

    with pytest.raises(DeliveryError):
        await election.confirm("m.a")
    await election.confirm("m.a")


async def test_an_answer_is_not_waited_for_for_ever(election, group, consumer, monkeypatch):
    monkeypatch.setattr(election_module, "ANSWER_SECONDS", 0.01)
    await consumer.join(1, "m.a")
    group.may_answer.clear()

    with pytest.raises(DeliveryError, match=r"no answer in 0.01 s"):
        await election.confirm("m.a")


async def test_who_stops_waiting_for_an_answer_does_not_take_it_from_others(
    election, group, consumer, turns
):
    await consumer.join(1, "m.a")
    group.may_answer.clear()
    gone, waiting = (asyncio.create_task(election.confirm("m.a")) for _ in range(2))
    await turns()

    gone.cancel()
    group.may_answer.set()

    await asyncio.wait_for(waiting, 5)


# --- polling


async def test_it_polls_though_there_is_nothing_to_read(member, until):
    await until(lambda: member.polls > 3)


async def test_a_passing_error_of_the_group_is_logged_and_it_polls_on(
    election, member, until, caplog, monkeypatch
):
    async def at_once(_seconds):
        await asyncio.sleep(0)

    monkeypatch.setattr(election, "sleep", at_once)
    member.poll_errors.append(kafka_errors.CoordinatorNotAvailableError())
    await until(lambda: not member.poll_errors)
    polls = member.polls

    await until(lambda: member.polls > polls)

    assert "the group of the sources: GroupCoordinatorNotAvailable" in caplog.text
    assert not election.crashed


async def test_an_error_that_does_not_pass_ends_the_worker(election, member, until):
    member.poll_errors.append(kafka_errors.GroupAuthorizationFailedError("quotes.sources"))

    await until(lambda: election.crashed)


# --- the end


async def test_a_stop_leaves_the_group(election, member):
    await election.stop()

    assert member.is_stopped


async def test_a_stop_without_a_start_is_nothing(election, steps):
    await election.on_stop()

    assert steps == []


@pytest.mark.parametrize("error", [kafka_errors.RequestTimedOutError(), OSError()])
async def test_a_group_that_cannot_be_left_is_only_logged(election, consumer, caplog, error):
    consumer.stop_errors.append(error)

    await election.on_stop()

    assert "leaving the sources' group" in caplog.text


async def test_a_stop_does_not_wait_for_ever(election, group, consumer, monkeypatch, turns):
    monkeypatch.setattr(election_module, "CLOSE_SECONDS", 0.01)
    await consumer.join(1, "m.a")
    consumer.stop = lambda: asyncio.get_running_loop().create_future()
    group.may_answer.clear()
    confirming = asyncio.create_task(election.confirm("m.a"))
    await turns()

    await asyncio.wait_for(election.on_stop(), 5)

    await asyncio.wait([confirming], timeout=5)
    assert confirming.cancelled()
