"""Groups and topics that change under a flow: rebalances, deletions, partitions, retention."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete

from .load import PARTITIONS, AdminClient, Load, program

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(300)]

#: How old a worker's knowledge of topics and partitions may be (transport/loop_thread.py).
METADATA_SECONDS = 30.0


def test_a_rebalance_storm(trial: Any) -> None:
    trial.begin(workers=2)
    for round_ in range(20):
        if len(trial.workers) < 4:
            trial.work()
        else:
            (trial.kill if round_ % 4 else trial.terminate)(trial.workers[2])
        time.sleep(2)
    for worker in list(trial.workers[2:]):
        trial.terminate(worker)
    trial.recovers()
    trial.finish("a worker comes or goes every 2 s, twenty times", faults=20)


def test_pulses_of_frost_shorter_than_the_session(trial: Any) -> None:
    trial.begin(workers=2)
    for _ in range(5):
        trial.freeze(trial.chance.choice(trial.workers), 7)
        time.sleep(2)
    trial.recovers()
    trial.finish("SIGSTOP of one of two workers, 7 s, five times", faults=5)


def test_batches_that_take_12_s_are_finished_and_not_repeated(trial: Any) -> None:
    hook = "if key == 5 and n % 200 == 100: await asyncio.sleep(12)"  # every 25 s
    trial.program = program(hook, head="import asyncio\n")
    trial.begin(500, workers=2)
    time.sleep(45)
    result = trial.finish("batches of 12 s, beyond the session of 10 s", faults=0)
    assert result.repeated == 0


@pytest.mark.timeout(480)
def test_a_topic_is_deleted_and_made_again_under_load(trial: Any) -> None:
    trial.begin()
    load = trial.load

    async def delete() -> None:
        async with AdminClient(load.address) as admin:
            await admin.delete_topics([load.mid])

    async def create() -> None:
        async with AdminClient(load.address) as admin:
            await admin.create_topics([NewTopic(load.mid, PARTITIONS, 1)])

    trial.checker.run(delete())
    time.sleep(10)
    trial.checker.run(create())
    made, worker = time.time(), trial.workers.pop()
    trial.until(
        lambda: worker.process.poll() is not None or trial.checker.flows_since(made),
        METADATA_SECONDS + 15, "events flow, or the worker ends",
    )  # fmt: skip
    assert load.mid in worker.text, "nothing is said of the topic that was deleted"
    if worker.process.poll() is None:
        trial.workers.append(worker)
    else:
        assert worker.process.poll() > 0
        trial.work()
    trial.recovers()
    # What was in the deleted topic is gone by the operator's hand.
    trial.finish("a topic between two steps is deleted, and made again 10 s later", check=False)


@pytest.mark.timeout(480)
def test_partitions_are_added_under_load(trial: Any) -> None:
    trial.begin(workers=2)
    load = trial.load

    async def add() -> None:
        async with AdminClient(load.address) as admin:
            await admin.create_partitions({load.source: NewPartitions(2 * PARTITIONS)})

    trial.checker.run(add())
    time.sleep(10)  # the feeder, whose metadata lives 5 s, writes to the new ones
    # A key's later events are in another partition than its earlier ones, so they may overtake:
    # that is Kafka's, and stands in the record.
    result = trial.finish(
        "4 partitions become 8 under load", within=METADATA_SECONDS + 15, check=False
    )
    assert result.lost == 0
    assert load.guarantee != "exactly_once" or result.repeated == 0


def test_two_flows_of_one_name_do_not_hurt_each_other(kafka: str, new_trial: Any) -> None:
    one, other = new_trial(), new_trial()
    # The same group, but other managers and topics.
    for trial in (one, other):
        trial.program = program().replace('os.environ["NAME"] + "-flow"', f'"{one.load.name}-two"')
    one.begin(500)
    other.begin(500)
    one.recovers()
    other.kill(other.workers[0])
    other.work()
    one.recovers()
    other.recovers()
    one.finish("two deployments with one flow name and different managers")
    other.recovers()
    other.finish("two deployments with one flow name, the other one, which was killed")


def test_retention_takes_what_no_worker_has_read(trial: Any) -> None:
    trial.begin()
    load, checker = trial.load, trial.checker
    trial.terminate(trial.workers[0])
    before = checker.counts.total
    time.sleep(5)

    async def delete() -> int:
        async with AdminClient(load.address) as admin:
            consumer = AIOKafkaConsumer(bootstrap_servers=load.address)
            await consumer.start()
            partitions = [TopicPartition(load.source, n) for n in range(PARTITIONS)]
            ends = await consumer.end_offsets(partitions)
            await consumer.stop()
            await admin.delete_records({tp: RecordsToDelete(end) for tp, end in ends.items()})
            return sum(ends.values())

    deleted_up_to = checker.run(delete())
    worker = trial.work()
    trial.recovers()
    result = trial.finish("retention deletes 5 s of events that nobody read", check=False)
    # Lost is what the operator deleted, and nothing else: all that came later is out.
    assert 0 < result.lost <= deleted_up_to - before
    assert result.out_of_order == 0
    assert load.guarantee != "exactly_once" or result.repeated == 0
    assert load.source in worker.text, "nothing is said of what was deleted before it was read"


def test_the_groups_offsets_are_set_back(trial: Any) -> None:
    trial.begin()
    load, checker = trial.load, trial.checker
    trial.until(lambda: checker.counts.total > 2_000, 30, "some are out")
    checker.stop_feeding()
    trial.until(lambda: checker.lost() == 0, 30, "all are out")
    trial.terminate(trial.workers[0])

    async def set_back() -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=load.address, group_id=load.group, enable_auto_commit=False
        )
        await consumer.start()
        partitions = [TopicPartition(load.source, n) for n in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.commit(dict.fromkeys(partitions, 0))
        await consumer.stop()

    checker.run(set_back())
    trial.work()
    trial.until(lambda: checker.counts.repeated >= checker.fed, 30, "everything comes again")
    # What an operator asked for, once and completely.
    result = trial.finish("the group's offsets are set back to 0", check=False)
    assert result.lost == 0
    assert result.out_of_order == 0
    assert result.repeated == result.events


def test_topics_that_are_missing_are_made(trial: Any) -> None:
    load = trial.load

    async def delete() -> None:
        async with AdminClient(load.address) as admin:
            await admin.delete_topics([load.source, load.mid])

    trial.checker.run(delete())
    trial.work()
    trial.up()
    trial.checker.feed(500)
    trial.recovers()
    time.sleep(5)
    trial.finish("the topics of both steps are missing at the start")


def test_a_broker_that_is_not_there_is_named_at_once(start: Any) -> None:
    load = Load("127.0.0.1:1")
    worker = start(load.program, **load.env)
    assert worker.wait(30) == 1
    assert "127.0.0.1:1" in worker.text


def test_a_worker_that_freezes_in_the_middle_of_a_transaction_is_fenced(trial: Any) -> None:
    """A zombie with an open transaction wakes when others have gone on from before it."""
    if trial.load.guarantee != "exactly_once":
        pytest.skip("at least once there are no transactions")
    trial.begin(8_000, workers=2)
    aborted = 0
    for _ in range(10):
        worker = trial.chance.choice(trial.workers)
        worker.send(signal.SIGSTOP)
        time.sleep(0.2)
        aborted = trial.checker.aborted()
        if aborted > 0:  # written, and not committed: it holds an open transaction
            break
        worker.send(signal.SIGCONT)
        time.sleep(trial.chance.uniform(0.5, 1.0))
    time.sleep(13)
    worker.send(signal.SIGCONT)
    trial.recovers()
    result = trial.finish("SIGSTOP in the middle of a transaction, past the session")
    assert result.aborted > 0
