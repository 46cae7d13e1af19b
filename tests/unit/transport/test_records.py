"""What aiokafka's own reading of a fetch result gives, taken by whole batches."""

import random
from types import SimpleNamespace

import pytest
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED
from aiokafka.errors import CorruptRecordException
from aiokafka.structs import TopicPartition

from aiopype.transport.records import RawRecords

TP = TopicPartition("m.c.in", 0)

#: The keys of the two kinds of markers: version 0, then abort or commit.
ABORT, COMMIT = b"\0\0\0\0", b"\0\0\0\1"


class Record(SimpleNamespace):
    """A record; a marker has its kind as key."""


class Batch:
    """A record batch as aiokafka's parser gives it."""

    def __init__(self, first, count, producer=None, marker=None, is_sound=True):
        self.base_offset = first
        self.next_offset = first + count
        self.producer_id = producer
        self.is_transactional = producer is not None
        self.is_control_batch = marker is not None
        self._is_sound = is_sound
        self._records = iter(
            [
                Record(
                    offset=first + n, key=marker or b"k", value=b"", timestamp=0,
                    timestamp_type=0, checksum=None, headers=[],
                )
                for n in range(count)
            ]
        )  # fmt: skip

    def validate_crc(self):
        return self._is_sound

    def __iter__(self):
        return self._records

    def __next__(self):
        return next(self._records)


class Log:
    """Batches, one after the other."""

    def __init__(self, batches):
        self._batches = list(batches)

    def has_next(self):
        return bool(self._batches)

    def next_batch(self):
        return self._batches.pop(0)


class Assignment:
    """Where the consumer is."""

    active = True

    def __init__(self, position):
        self.paused = False
        self.position = position

    def state_value(self, tp):
        return self

    def consumed_to(self, position):
        self.position = position


def result_of(batches, *, begin=0, isolation=READ_COMMITTED, aborted=()):
    records = fetcher.PartitionRecords(
        TP, Log(batches()), list(aborted), begin, None, None, True, isolation
    )
    return fetcher.FetchResult(
        TP, assignment=Assignment(begin), partition_records=records, backoff=0
    )


def taken(result, max_records, *, raw=True):
    """What is given in each turn, as offsets, and the position after it."""
    if raw:
        buffer = RawRecords()
        buffer[TP] = result
    turns = []
    while result.has_more():
        found = [record.offset for record in result.getall(max_records)]
        turns.append((found, result._assignment.position))
        assert len(turns) < 1_000
    return turns


def offsets(turns):
    return [offset for found, _ in turns for offset in found]


@pytest.mark.parametrize("max_records", [1, 2, 3, 5, 100])
def test_records_of_several_batches_come_in_order_and_no_more_than_are_asked_for(max_records):
    turns = taken(result_of(lambda: [Batch(0, 3), Batch(3, 2), Batch(5, 4)]), max_records)

    assert offsets(turns) == list(range(9))
    assert all(len(found) <= max_records for found, _ in turns)
    assert turns[-1][1] == 9


def test_the_position_is_behind_what_was_taken():
    turns = taken(result_of(lambda: [Batch(0, 3), Batch(3, 3)]), 4)

    assert turns == [([0, 1, 2, 3], 4), ([4, 5], 6)]


def test_a_fetch_that_begins_within_a_batch_gives_the_rest_of_it():
    assert offsets(taken(result_of(lambda: [Batch(0, 5)], begin=3), 100)) == [3, 4]


def test_markers_are_no_records_and_the_position_is_behind_them():
    turns = taken(
        result_of(lambda: [Batch(0, 2, producer=7), Batch(2, 1, producer=7, marker=COMMIT)]), 100
    )

    assert offsets(turns) == [0, 1]
    assert turns[-1][1] == 3


def aborted_and_committed():
    return [
        Batch(0, 2, producer=7),
        Batch(2, 2, producer=8),
        Batch(4, 1, producer=7, marker=ABORT),
        Batch(5, 2, producer=7),
        Batch(7, 1, producer=8, marker=COMMIT),
        Batch(8, 1, producer=7, marker=COMMIT),
    ]


def test_what_was_aborted_is_passed_over():
    assert offsets(taken(result_of(aborted_and_committed, aborted=[(7, 0)]), 100)) == [2, 3, 5, 6]


def test_who_reads_uncommitted_gets_it():
    result = result_of(aborted_and_committed, isolation=READ_UNCOMMITTED, aborted=[(7, 0)])

    assert offsets(taken(result, 100)) == [0, 1, 2, 3, 5, 6]


def test_a_batch_with_a_wrong_checksum_is_an_error_and_nothing_before_it_is_lost():
    result = result_of(lambda: [Batch(0, 2), Batch(2, 2, is_sound=False)])
    buffer = RawRecords()
    buffer[TP] = result

    with pytest.raises(CorruptRecordException):
        result.getall(100)
    # The position has not moved, so all of it is fetched again.
    assert result._assignment.position == 0
    assert result.getall(100) == []


def test_a_partition_that_was_moved_meanwhile_gives_nothing():
    result = result_of(lambda: [Batch(0, 2)])
    buffer = RawRecords()
    buffer[TP] = result
    result._assignment.position = 9

    assert result.getall(100) == []
    assert not result.has_more()


@pytest.mark.parametrize("seed", range(40))
def test_it_gives_what_aiokafka_gives(seed):
    chance = random.Random(seed)
    plan, aborted, offset = [], [], 0
    open_since = {}
    for _ in range(30):
        producer = chance.choice([None, 7, 8])
        if producer in open_since and chance.random() < 0.4:
            kind = chance.choice([ABORT, COMMIT])
            if kind is ABORT:
                aborted.append((producer, open_since[producer]))
            del open_since[producer]
            plan.append((offset, 1, producer, kind))
            offset += 1
        else:
            count = chance.randrange(1, 6)
            if producer is not None:
                open_since.setdefault(producer, offset)
            plan.append((offset, count, producer, None))
            offset += count
        offset += chance.choice([0, 0, 0, 2])  # compaction
    begin, most = chance.randrange(0, 4), chance.choice([1, 3, 7, 1_000])

    def result():
        return result_of(lambda: [Batch(*made) for made in plan], begin=begin, aborted=aborted)

    ours, theirs = taken(result(), most), taken(result(), most, raw=False)
    assert offsets(ours) == offsets(theirs)
    assert ours[-1][1] == theirs[-1][1] == plan[-1][0] + plan[-1][1]
