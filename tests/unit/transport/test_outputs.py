import itertools
from types import SimpleNamespace

import pytest
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from aiopype.event import Stamp, headers_of
from aiopype.topics import RECORD_BYTES, Topic
from aiopype.transport.outputs import BATCH_BYTES, of_foreign, pack, partition_of, restamped

#: Signed, from org.apache.kafka.common.utils.UtilsTest.testMurmur2.
KAFKAS_HASHES = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


class FakeBatch:
    """A record batch that takes some records, as aiokafka's: None says that it is full."""

    def __init__(self, room):
        self.room = room
        self.records = []
        self.is_closed = False

    @property
    def _builder(self):
        return SimpleNamespace(append=self._append, size=self._size)

    def _size(self):
        return 61 + sum(len(key or b"") + len(value) for key, value, _ in self.records)

    def _append(self, number, timestamp, key, value, headers):
        assert not self.is_closed
        assert number == len(self.records)
        assert headers == []
        if len(self.records) >= self.room:
            return None
        self.records.append((key, value, timestamp))
        return object()

    def close(self):
        self.is_closed = True


def topic(name="m.c.out", partitions=4):
    made = Topic(*name.rsplit(".", 1))
    made.partitions = partitions
    return made


def values(packed):
    return [value for _, value, _ in packed.batch.records]


@pytest.fixture
def packed():
    """Packs events into batches with this much room."""

    def run(emitted, partition=0, partitions=4, room=1_000):
        return pack(emitted, lambda: FakeBatch(room), partition, partitions)

    return run


@pytest.fixture
def place(packed):
    """The partition to which one event goes."""

    def find(key, inherited, partition, partitions, count):
        (one,) = packed(
            [(topic(partitions=count), key, b"[]", 0, inherited)], partition, partitions
        )
        return one.partition

    return find


# --- which partition a key belongs to


@pytest.mark.parametrize(("key", "signed"), KAFKAS_HASHES.items())
def test_a_key_has_the_hash_that_kafkas_own_clients_give_it(key, signed):
    assert murmur2(key.encode()) & 0xFFFFFFFF == signed & 0xFFFFFFFF


@pytest.mark.parametrize("partitions", [1, 2, 4, 7, 1_000])
@pytest.mark.parametrize(("key", "signed"), KAFKAS_HASHES.items())
def test_a_key_has_the_partition_that_kafkas_own_clients_choose(key, signed, partitions):
    # toPositive(murmur2(key)) % partitions, as BuiltInPartitioner.partitionForKey has it
    assert partition_of(key.encode(), partitions) == (signed & 0x7FFFFFFF) % partitions


def test_an_empty_key_has_a_partition():
    assert partition_of(b"", 4) in range(4)


def test_keys_spread_over_all_partitions():
    assert {partition_of(b"%d" % n, 8) for n in range(200)} == set(range(8))


# --- which partition an event goes to


@pytest.mark.parametrize("partition", range(4))
def test_an_unchanged_key_keeps_the_number_where_both_topics_have_as_many_partitions(
    place, partition
):
    assert place(b"foobar", True, partition, 4, count=4) == partition


@pytest.mark.parametrize("count", [2, 3, 8])
def test_an_unchanged_key_is_hashed_where_the_topics_differ_in_partitions(place, count):
    for partition in range(4):
        assert place(b"foobar", True, partition, 4, count) == partition_of(b"foobar", count)


def test_the_number_of_a_partition_that_was_added_since_is_not_taken_where_there_is_none(place):
    # Its topic is still thought to have four.
    assert place(b"foobar", True, 6, 4, count=4) == partition_of(b"foobar", 4)
    assert place(None, True, 6, 4, count=4) == 2


@pytest.mark.parametrize("count", [4, 8])
def test_a_topic_that_follows_another_takes_the_number_whatever_it_has(packed, count):
    follower = topic(partitions=count)
    follower.follows = True

    (one,) = packed([(follower, b"foobar", b"[]", 0, True)], 3, 2)

    assert one.partition == 3


def test_a_new_key_is_hashed(place):
    for partition in range(4):
        assert place(b"foobar", False, partition, 4, count=4) == partition_of(b"foobar", 4)


@pytest.mark.parametrize("partition", range(4))
def test_an_event_without_a_key_keeps_the_number(place, partition):
    assert place(None, True, partition, 4, count=4) == partition


def test_an_event_without_a_key_folds_the_number_where_there_are_fewer_partitions(place):
    assert [place(None, True, partition, 4, count=2) for partition in range(4)] == [0, 1, 0, 1]


def test_an_event_of_a_source_goes_by_its_key(place):
    assert place(b"foobar", False, 123_456, None, count=4) == partition_of(b"foobar", 4)


def test_an_event_of_a_source_without_a_key_goes_by_the_given_number(place):
    assert place(None, False, 123_456, None, count=5) == 123_456 % 5


def test_an_empty_key_is_hashed_and_not_taken_for_none(place):
    for partition in range(4):
        assert place(b"", False, partition, 4, count=4) == partition_of(b"", 4)


# --- packing


def test_nothing_emitted_makes_no_batch(packed):
    assert packed([]) == []


def test_key_value_and_timestamp_are_packed_as_they_are(packed):
    (one,) = packed([(topic(), b"k", b"[1]", 1_234, False)])

    assert one.topic == "m.c.out"
    assert one.batch.records == [(b"k", b"[1]", 1_234)]


def test_every_batch_is_closed(packed):
    events = [(topic(), b"%d" % n, b"[]", 0, False) for n in range(20)]

    assert all(one.batch.is_closed for one in packed(events, room=2))


def test_events_of_one_partition_share_a_batch_whatever_comes_between(packed):
    one, other = topic("m.c.one"), topic("m.c.other")
    events = [(t, None, b"[%d]" % n, 0, True) for n, t in enumerate([one, other] * 3)]

    batches = packed(events, partition=2)

    assert [(b.topic, b.partition, values(b)) for b in batches] == [
        ("m.c.one", 2, [b"[0]", b"[2]", b"[4]"]),
        ("m.c.other", 2, [b"[1]", b"[3]", b"[5]"]),
    ]


def test_a_full_batch_is_followed_by_another(packed):
    events = [(topic(), None, b"[%d]" % n, 0, True) for n in range(7)]

    batches = packed(events, partition=3, room=3)

    assert [values(b) for b in batches] == [
        [b"[0]", b"[1]", b"[2]"],
        [b"[3]", b"[4]", b"[5]"],
        [b"[6]"],
    ]
    assert {(b.topic, b.partition) for b in batches} == {("m.c.out", 3)}


def test_an_event_longer_than_a_batch_has_one_of_its_own():
    # The broker decides whether it is too long; here it must not vanish.
    events = [(topic(), None, b"x" * n, 0, True) for n in (10, 5_000, 10)]

    batches = pack(events, lambda: BatchBuilder(1_000, 0), 0, 4)

    assert [one.batch.record_count() for one in batches] == [1, 1, 1]


@pytest.mark.parametrize("room", [1, 2, 3, 1_000])
def test_each_partition_has_all_its_events_in_order(packed, room):
    topics = [topic("m.c.one", 2), topic("m.c.two", 3)]
    keys = [b"a", None, b"b", b"c"]
    events = [(topics[n % 2], keys[n % 4], b"[%d]" % n, n, bool(n % 3)) for n in range(100)]

    batches = packed(events, partition=1, partitions=2, room=room)

    found = {}
    for batch in batches:
        found.setdefault((batch.topic, batch.partition), []).extend(
            int(value[1:-1]) for value in values(batch)
        )
    assert all(numbers == sorted(numbers) for numbers in found.values())
    assert sorted(itertools.chain(*found.values())) == list(range(100))


def test_each_event_of_a_key_goes_to_one_partition(packed):
    events = [(topic(), b"%d" % (n % 5), b"[%d]" % n, 0, False) for n in range(50)]

    where = {}
    for batch in packed(events, room=4):
        for key, _, _ in batch.batch.records:
            where.setdefault(key, set()).add(batch.partition)

    assert {key: len(places) for key, places in where.items()} == dict.fromkeys(where, 1)
    assert len(where) == 5


# --- what came of topics of others


def test_what_came_of_a_topic_of_others_is_placed_by_its_key_and_has_our_time(packed):
    emitted = of_foreign([(topic(), b"foobar", b"[1]", 5, True)], 77)

    (one,) = packed(emitted, partition=1, partitions=4)

    assert one.partition == partition_of(b"foobar", 4) != 1
    assert one.batch.records == [(b"foobar", b"[1]", 77)]


def test_what_waits_of_a_topic_of_others_stays_in_the_partition_of_its_number(packed):
    parked = topic("m.c.parked")
    parked.follows = True
    emitted = of_foreign([(parked, b"foobar", b"[1]", 5, True)], 77)

    (one,) = packed(emitted, partition=1, partitions=4)

    assert one.partition == 1
    assert one.batch.records == [(b"foobar", b"[1]", 5)]


def test_what_came_of_records_without_a_key_stays_together(packed):
    emitted = of_foreign([(topic(), None, b"[%d]" % n, 5, True) for n in range(9)], 77)

    (one,) = packed(emitted, partition=6, partitions=8)

    assert one.partition == 2


# --- topics that take small records only


def builder():
    return BatchBuilder(BATCH_BYTES, 0)


def small(limit):
    """A topic whose `max.message.bytes` is this."""
    made = topic()
    made.largest = limit - RECORD_BYTES
    return made


def sizes(packed):
    return [len(bytes(one.batch._build())) for one in packed]


def counts(packed):
    return [one.batch.record_count() for one in packed]


@pytest.mark.parametrize("limit", [2_000, 10_000, BATCH_BYTES])
@pytest.mark.parametrize("size", [10, 900])
def test_no_batch_is_larger_than_its_topic_takes(limit, size):
    events = [(small(limit), b"k" * 10, b"x" * size, 0, True)] * 600

    batches = pack(events, builder, 0, 4)

    assert sum(counts(batches)) == 600
    assert max(sizes(batches)) <= limit


def test_a_batch_is_as_large_as_its_topic_takes_all_the_same():
    events = [(small(10_000), None, b"x" * 900, 0, True)] * 100

    batches = pack(events, builder, 0, 4)

    assert set(counts(batches)[:-1]) == {10}


def test_the_largest_event_that_a_small_topic_takes_has_a_batch_of_its_own():
    one = small(5_000)
    events = [(one, None, b"x" * one.largest, 0, True)] * 3

    batches = pack(events, builder, 0, 4)

    assert counts(batches) == [1, 1, 1]
    assert max(sizes(batches)) <= 5_000


def test_the_limit_of_one_topic_is_none_of_another():
    events = [(t, None, b"x" * 900, 0, True) for t in (small(2_000), topic("m.c.other")) * 20]

    batches = pack(events, builder, 0, 4)

    found = {}
    for one in batches:
        found.setdefault(one.topic, []).append(one.batch.record_count())
    assert found == {"m.c.out": [2] * 10, "m.c.other": [20]}


def test_the_events_of_a_small_topic_keep_their_order():
    one = small(2_000)
    events = [(one, None, b"%d" % n + b" " * 500, n, True) for n in range(10)]

    batches = pack(events, builder, 0, 4)

    found = []
    for each in batches:
        records = MemoryRecords(bytes(each.batch._build())).next_batch()
        found += [int(record.value) for record in records]
    assert found == list(range(10))
    assert len(batches) > 1


# --- traces


class RealBatch(FakeBatch):
    """A record batch whose records keep their headers."""

    def _append(self, number, timestamp, key, value, headers):
        self.records.append((key, value, headers))
        return object()


def packed_headers(emitted, **options):
    (found,) = pack(emitted, lambda: RealBatch(100), 0, 4, **options)
    return [headers for _, _, headers in found.batch.records]


HEADERS = [("traceparent", b"00-" + b"1" * 52)]


def test_events_that_are_traced_are_written_with_their_headers():
    out = topic()
    emitted = [(out, b"k", b"1", Stamp(5, HEADERS), True), (out, b"k", b"2", 5, True)]

    assert packed_headers(emitted, traced=True) == [HEADERS, []]


def test_where_nothing_is_traced_no_headers_are_looked_for():
    assert packed_headers([(topic(), b"k", b"1", Stamp(5, HEADERS), True)]) == [[]]


def test_an_event_that_just_fits_is_written_without_headers():
    out = topic()
    emitted = [(out, None, b"x" * out.largest, Stamp(5, HEADERS), True)]

    assert packed_headers(emitted, traced=True) == [[]]


def test_headers_are_in_the_bytes_of_a_batch():
    (found,) = pack(
        [(topic(), b"k", b"1", Stamp(5, HEADERS), True)],
        lambda: BatchBuilder(BATCH_BYTES, 0, is_transactional=True),
        0,
        4,
        traced=True,
    )

    (batch,) = iter_batches(found.batch._build())
    (record,) = batch
    assert (record.timestamp, record.headers) == (5, HEADERS)


def iter_batches(data):
    records = MemoryRecords(bytes(data))
    while records.has_next():
        yield records.next_batch()


def test_what_comes_of_foreign_records_keeps_its_trace():
    out = topic()
    before = [(out, b"k", b"1", Stamp(5, HEADERS), True), (out, b"k", b"2", 5, True)]

    after = restamped(of_foreign(before, 99), before)

    assert after == [(out, b"k", b"1", 99, False), (out, b"k", b"2", 99, False)]
    assert [headers_of(event[3]) for event in after] == [HEADERS, []]
