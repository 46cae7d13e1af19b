import logging

import msgspec
import pytest

from aiopype.errors import DeliveryError
from aiopype.settlement import Attempt
from aiopype.topics import Topic
from aiopype.transport import parking as parking_module
from aiopype.transport.parking import ParkedRecord, Parking

PARKED = Topic("m.c", "in.parked")


@pytest.fixture
def subscriptions(recorder, collector):
    """Two subscriptions of one event: `take` and `take_async`."""
    component = collector("m.c", recorder)
    component.on("in", component.take)
    component.on("in", component.take_async)
    return recorder.graph.subscriptions(recorder.topic("m.c", "in"))


@pytest.fixture
def make(subscriptions, store):
    """Makes the parking of partition 3."""
    return lambda its=subscriptions: Parking(PARKED, 3, its, store)


@pytest.fixture
def parking(make):
    return make()


@pytest.fixture
def attempt(record):
    """Makes an event that waits, with its number as its value."""

    def build(offset, key=None, *, tries=1, due=0.0, error=None):
        value = b"[%d]" % offset
        return Attempt(record(value, key=key, offset=offset), tries, 100.0, error, due)

    return build


@pytest.fixture
def park(store):
    """Lets events of a subscription wait: their entries are written, then remembered."""

    def do(parking, *attempts, index=0):
        parked = [(index, attempt) for attempt in attempts]
        store.write(parking.entries(parked), 3)
        parking.add(parked)

    return do


@pytest.fixture
def retry(store):
    """Notes what came of tries: those that wait on are left."""

    def do(parking, index, tried, left):
        store.write(parking.changes(index, tried, left), 3)
        parking.replace(index, tried, left)

    return do


def offsets(attempts):
    return [attempt.record.offset for attempt in attempts]


def waiting(parking):
    """All that waits: index, offset, key, value, tries, first failure and due, in lanes."""
    return [
        {
            place: [
                (a.record.offset, a.record.key, a.record.value, a.tries, a.first_failed, a.due)
                for a in lane
            ]
            for place, lane in lanes.items()
        }
        for lanes in parking._lanes
    ]


# --- memory


def test_at_first_nothing_waits(parking):
    assert (parking.count, parking.next_due(), parking.due(1e12)) == (0, None, None)
    assert not parking.is_full
    assert list(parking.keys(0)) == []


def test_keys_are_those_of_a_subscription_and_no_offsets(parking, park, attempt):
    park(parking, attempt(1, b"a"), attempt(2), attempt(3, b"a"))
    park(parking, attempt(4, b"b"), index=1)

    assert (list(parking.keys(0)), list(parking.keys(1))) == ([b"a"], [b"b"])


def test_the_first_of_each_key_says_when_the_next_try_is(parking, park, attempt):
    park(parking, attempt(1, b"a", due=50.0), attempt(2, b"a", due=10.0), attempt(3, due=40.0))
    park(parking, attempt(4, b"a", due=30.0), index=1)

    assert parking.next_due() == 30.0


def test_what_is_due_comes_with_what_waits_behind_it_in_order(parking, park, attempt):
    park(
        parking,
        attempt(1, b"late", due=50.0),
        attempt(2, b"a", due=10.0),
        attempt(3, due=9.0),
        attempt(4, b"a", due=60.0),
    )

    index, found = parking.due(10.0)

    assert (index, offsets(found)) == (0, [2, 3, 4])


def test_nothing_comes_before_it_is_due(parking, park, attempt):
    park(parking, attempt(1, due=10.0))

    assert parking.due(9.9) is None


def test_what_is_due_is_of_one_subscription(parking, park, attempt):
    park(parking, attempt(1, due=50.0))
    park(parking, attempt(2), index=1)

    index, found = parking.due(10.0)

    assert (index, offsets(found)) == (1, [2])


def test_a_round_has_a_bound_and_keeps_the_order_of_each_key(parking, park, attempt, monkeypatch):
    monkeypatch.setattr(parking_module, "ROUND_EVENTS", 3)
    park(parking, *(attempt(n, b"a") for n in range(2)), *(attempt(n, b"b") for n in range(2, 5)))

    _, found = parking.due(0.0)
    assert offsets(found) == [0, 1, 2]

    parking.replace(0, found, [])
    _, found = parking.due(0.0)
    assert offsets(found) == [3, 4]


def test_what_is_over_is_forgotten_and_what_waits_on_stays_first(parking, park, attempt, retry):
    tried = [attempt(1, b"a"), attempt(2, b"a"), attempt(3)]
    park(parking, *tried, attempt(4, b"a"))

    retry(parking, 0, tried, [attempt(2, b"a", tries=1, due=70.0)])

    assert parking.count == 2
    assert list(parking.keys(0)) == [b"a"]
    assert parking.next_due() == 70.0
    assert offsets(parking.due(70.0)[1]) == [2, 4]


def test_what_waits_on_keeps_its_order(parking, park, attempt, retry):
    tried = [attempt(n, b"a") for n in range(4)]
    park(parking, *tried, attempt(9, b"a"))

    retry(parking, 0, tried, [attempt(1, b"a", due=70.0), *tried[2:]])

    assert parking.next_due() == 70.0
    assert offsets(parking._lanes[0][b"a"]) == [1, 2, 3, 9]


def test_a_key_of_which_all_are_over_is_free(parking, park, attempt, retry):
    tried = [attempt(1, b"a"), attempt(2, b"a")]
    park(parking, *tried)

    retry(parking, 0, tried, [])

    assert (list(parking.keys(0)), parking.count, parking.next_due()) == ([], 0, None)


@pytest.mark.parametrize(
    ("name", "bound"), [("ROOM_EVENTS", 2), ("ROOM_BYTES", 8)], ids=["events", "bytes"]
)
def test_it_is_full_by_events_or_by_bytes_until_some_are_over(
    parking, park, attempt, retry, monkeypatch, name, bound
):
    monkeypatch.setattr(parking_module, name, bound)
    one, two = attempt(1, b"a"), attempt(2, b"a")  # 4 bytes each, with their keys

    park(parking, one)
    assert not parking.is_full
    park(parking, two)
    assert parking.is_full

    retry(parking, 0, [one, two], [two])
    assert not parking.is_full


@pytest.mark.parametrize("key", [b"a", None])
def test_an_event_that_waits_already_waits_once_and_as_it_did(parking, park, attempt, key):
    park(parking, attempt(1, key, tries=3, due=40.0), attempt(2, key))

    park(parking, attempt(1, key), attempt(2, key), attempt(3, key))

    assert parking.count == 3
    assert [a.tries for a in parking.due(40.0)[1]] == [3, 1, 1]
    assert len(parking.due(40.0)[1]) == 3


def test_an_event_without_a_value_can_wait(parking, record):
    parking.add([(0, Attempt(record(None, offset=1), 1, 0.0, None, 0.0))])

    assert parking.count == 1


# --- what the topic is told


def test_an_entry_goes_into_the_partition_of_the_same_number(parking, attempt):
    ((topic, key, _, _, is_inherited),) = parking.entries([(0, attempt(1, b"a"))])

    assert topic is PARKED
    assert key == b"m.c.in -> m.c.take 1"
    assert is_inherited


def test_the_topic_is_made_when_something_begins_to_wait(parking, store, attempt):
    parking.entries([])
    assert store.needed == []

    parking.entries([(0, attempt(1))])
    assert store.needed == ["m.c.in.parked"]


def test_changes_are_new_entries_of_what_failed_and_deletions_of_what_is_over(
    parking, park, attempt
):
    tried = [attempt(1, b"a"), attempt(2, b"b"), attempt(3, b"b")]
    park(parking, *tried)

    changes = parking.changes(0, tried, [attempt(2, b"b", tries=2), tried[2]])

    assert [(key.split()[-1], value is None) for _, key, value, *_ in changes] == [
        (b"1", True),
        (b"2", False),
    ]  # nothing has changed of 3


# --- after a restart


async def test_another_goes_on_where_one_was(parking, make, park, retry, attempt):
    tried = [attempt(1, b"a"), attempt(2, b"a"), attempt(3)]
    park(parking, *tried, attempt(4, b"a", due=30.0))
    park(parking, attempt(1, b"a"), attempt(6, due=20.0), index=1)
    retry(parking, 0, tried, [attempt(2, b"a", tries=2, due=50.0)])
    park(parking, attempt(7, b"c"))

    other = make()
    await other.load()

    assert waiting(other) == waiting(parking)
    assert (other.count, other.next_due()) == (parking.count, parking.next_due())
    assert list(other.keys(0)) == list(parking.keys(0)) == [b"a", b"c"]


async def test_what_waits_in_the_middle_of_a_round_is_found_by_another_in_order(
    parking, make, park, attempt
):
    park(parking, *(attempt(n, b"k") for n in (3, 5, 9, 12)))
    parking.due(0.0)  # the round whose outcome never came to the topic

    other = make()
    await other.load()

    assert offsets(other.due(0.0)[1]) == [3, 5, 9, 12]


async def test_all_of_a_record_comes_back(make, parking, store):
    record = ParkedRecord(7, 1_234, b"k", None, (("h", b"1"), ("h", None)))

    store.write(parking.entries([(1, Attempt(record, 4, 100.5, LookupError(), 200.5))]), 3)
    other = make()
    await other.load()

    assert other.due(200.5) == (1, [Attempt(record, 4, 100.5, None, 200.5)])


async def test_a_record_without_headers_has_none(make, parking, park, attempt):
    park(parking, attempt(1))

    other = make()
    await other.load()

    assert other.due(0.0)[1][0].record.headers == ()


async def test_events_come_back_in_the_order_of_their_offsets_whenever_they_were_written(
    make, parking, store, attempt
):
    for n in (9, 2, 5):
        store.write(parking.entries([(0, attempt(n, b"k"))]), 3)

    await parking.load()

    assert offsets(parking.due(0.0)[1]) == [2, 5, 9]


async def test_a_later_version_of_an_entry_counts(parking, store, attempt):
    for tries in (1, 2, 3):
        store.write(parking.entries([(0, attempt(1, tries=tries))]), 3)

    await parking.load()

    assert [found.tries for found in parking.due(0.0)[1]] == [3]


async def test_a_deleted_entry_is_gone_and_may_come_again(parking, store, attempt):
    one, two = attempt(1), attempt(2)
    store.write(parking.entries([(0, one), (0, two)]), 3)
    store.write(parking.changes(0, [one, two], []), 3)
    store.write(parking.entries([(0, two)]), 3)

    await parking.load()

    assert offsets(parking.due(0.0)[1]) == [2]


async def test_only_its_own_partition_is_read(parking, store, attempt):
    store.write(parking.entries([(0, attempt(1))]), 2)

    await parking.load()

    assert parking.count == 0


async def test_what_was_remembered_before_is_forgotten(parking, park, store, attempt):
    park(parking, attempt(1, b"a"))
    store.records.clear()

    await parking.load()

    assert (parking.count, list(parking.keys(0)), parking.is_full) == (0, [], False)


async def test_what_was_remembered_stays_while_the_topic_cannot_be_read(
    parking, park, store, attempt
):
    park(parking, attempt(1, b"a"))
    store.errors.append(DeliveryError("no answer"))

    with pytest.raises(DeliveryError):
        await parking.load()

    assert parking.count == 1


async def test_events_of_subscriptions_that_are_no_more_stay_in_the_topic_and_are_told(
    parking, make, subscriptions, park, store, attempt, caplog
):
    park(parking, attempt(1, b"a"))
    park(parking, attempt(2, b"a"), index=1)

    other = make(subscriptions[1:])
    await other.load()

    assert other.count == 1
    assert other.unknown == {"m.c.in -> m.c.take"}
    assert offsets(other.due(0.0)[1]) == [2]
    assert len(store.left()) == 2
    assert caplog.record_tuples == [
        (
            parking_module.__name__,
            logging.ERROR,
            "m.c.in.parked[3] has events that nobody can handle, and keeps them: "
            "m.c.in -> m.c.take",
        )
    ]


async def test_they_are_handled_again_when_their_subscription_is_back(
    parking, make, subscriptions, park, attempt
):
    park(parking, attempt(1))
    other = make(subscriptions[1:])
    await other.load()

    await parking.load()

    assert parking.unknown == set()
    assert offsets(parking.due(0.0)[1]) == [1]


@pytest.mark.parametrize(
    "value",
    [b"", b"garbage", b"{}", msgspec.msgpack.encode(["m.c.in -> m.c.take", [1], 1, 0.0, 0.0])],
    ids=["nothing", "no msgpack", "another shape", "half a record"],
)
async def test_an_entry_that_cannot_be_read_stays_in_the_topic_and_is_told(
    parking, park, store, attempt, caplog, value
):
    park(parking, attempt(1))
    store.records[PARKED.name, 3].append((b"strange 7", value))

    await parking.load()

    assert offsets(parking.due(0.0)[1]) == [1]
    assert parking.unknown == {"b'strange 7'"}
    assert b"strange 7" in store.left()
    assert "strange 7" in caplog.text

    del store.records[PARKED.name, 3][-1]
    await parking.load()
    assert parking.unknown == set()


# --- a handler that is subscribed twice


@pytest.fixture
def twice(recorder, collector, make):
    """The parking of an event to which one handler is subscribed three times, another once."""
    component = collector("m.twice", recorder)
    for handler in (component.take, component.take, component.take_async, component.take):
        component.on("in", handler)
    subscriptions = recorder.graph.subscriptions(recorder.topic("m.twice", "in"))
    return lambda: make(subscriptions)


async def test_two_subscriptions_of_one_name_keep_their_events_apart(twice, store, attempt):
    parking = twice()
    store.write(parking.entries([(n, attempt(1, b"k", tries=n + 1)) for n in range(4)]), 3)

    other = twice()
    await other.load()

    assert [[a.tries for a in lanes[b"k"]] for lanes in other._lanes] == [[1], [2], [3], [4]]
    assert len(store.left()) == 4


def test_the_first_of_them_is_called_as_if_it_were_alone(twice, attempt):
    entries = twice().entries([(n, attempt(1)) for n in range(4)])

    assert [key.decode() for _, key, *_ in entries] == [
        "m.twice.in -> m.twice.take 1",
        "m.twice.in -> m.twice.take 2 1",
        "m.twice.in -> m.twice.take_async 1",
        "m.twice.in -> m.twice.take 3 1",
    ]
