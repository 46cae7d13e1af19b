"""What a partition counts of its handlers."""

import pytest

from aiopype import PermanentError, Retry, TemporaryError, patience
from aiopype.transport import partition as partition_module
from aiopype.transport.batches import Batch

#: Nothing is tried again by itself.
LONG = Retry(first_delay_seconds=600, last_delay_seconds=600, seconds=10_000)


@pytest.fixture(autouse=True)
def no_waiting_in_batches(monkeypatch):
    """What fails waits outside its batch."""
    monkeypatch.setattr(patience, "MOST_SECONDS", 0.0)


@pytest.fixture
def counts(progress):
    """What was counted of the subscription whose handler has this name."""

    def find(method):
        (name,) = [name for name in progress.subscriptions if name.endswith(f".{method}")]
        found = progress.subscriptions[name]
        return found.ok, found.failed, found.parked, found.dead_letters, found.retries

    return find


async def test_events_that_go_well_are_ok(opened, feed, take, counts, progress):
    take(await opened("double", "negate"), 1, 2, 3)

    await feed.work_all()

    assert counts("double") == counts("negate") == (3, 0, 0, 0, 0)
    for figures in progress.subscriptions.values():
        assert figures.seconds.count == 3


async def test_a_handler_that_is_subscribed_twice_is_counted_under_its_one_name(
    opened, feed, take, counts
):
    take(await opened("double", "double"), 1, 2, 3)

    await feed.work_all()

    assert counts("double") == (6, 0, 0, 0, 0)


async def test_a_failure_that_waits_is_parked_and_so_are_those_behind_it(
    opened, feed, handlers, take, counts, progress
):
    handlers.retry, handlers.failing = LONG, {1}
    take(await opened("fail"), 1, 2, 3, key=b"k")

    await feed.work_all()

    assert counts("fail") == (0, 1, 3, 0, 0)
    assert progress.errors.by_component == {"m.handlers": {"LookupError": 1}}


async def test_a_failure_for_good_is_a_dead_letter(opened, feed, handlers, take, counts):
    handlers.retry, handlers.failing = Retry(tries=1), {1, 2}
    take(await opened("fail"), 1, 2, 3)

    await feed.work_all()

    assert counts("fail") == (1, 2, 0, 2, 0)


async def test_each_try_within_a_batch_is_counted(
    opened, feed, handlers, take, counts, progress, monkeypatch
):
    monkeypatch.setattr(patience, "MOST_SECONDS", 60.0)
    handlers.retry = Retry(tries=3, first_delay_seconds=0)
    handlers.failing = {1}
    take(await opened("fail"), 1, 2)

    await feed.work_all()

    assert counts("fail") == (1, 3, 0, 1, 2)
    (figures,) = progress.subscriptions.values()
    assert figures.seconds.count == 4
    assert progress.errors.by_component == {"m.handlers": {"LookupError": 3}}


async def test_each_try_of_what_waited_is_counted_and_those_behind_it_have_their_first(
    opened, feed, handlers, take, counts, until
):
    handlers.retry = Retry(tries=3, first_delay_seconds=0.001, last_delay_seconds=0.001)
    handlers.failing = {1}
    one = await opened("fail")
    take(one, 1, 2, key=b"k")

    await feed.work_all()
    await until(lambda: not one.parking.count)

    assert counts("fail") == (1, 3, 2, 1, 2)


async def test_bytes_that_nobody_can_read_are_an_error_of_the_component(
    opened, feed, record, progress
):
    one = await opened("double")
    one.take(Batch(one, [record(b"{", None, offset=0)], 1))

    await feed.work_all()

    assert progress.errors.by_component == {"m.handlers": {"CodecError": 1}}


@pytest.mark.parametrize("error", [PermanentError, TemporaryError])
async def test_the_class_of_an_error_is_its_name(opened, feed, handlers, take, progress, error):
    def fail(self, n):
        raise error("so")

    handlers.retry = LONG
    handlers.double = fail.__get__(handlers)
    take(await opened("double"), 1)

    await feed.work_all()

    assert progress.errors.by_component == {"m.handlers": {error.__name__: 1}}


# --- since when the oldest event waits that is not handled


@pytest.fixture
def stamped(record):
    """Hands a partition a batch of records with these stamps, in milliseconds; from offset 0."""

    def make(one, *stamps, first=0):
        records = [
            record(b"[%d]" % n, offset=n, timestamp=ms) for n, ms in enumerate(stamps, first)
        ]
        one.take(Batch(one, records, first + len(records)))

    return make


@pytest.fixture
def since(progress):
    """Since when the oldest event of the partition waits."""
    progress.assign("m.handlers.in", 3)
    return lambda: progress.topics["m.handlers.in"].partitions[3].waiting_since


async def test_the_first_event_of_the_batch_in_work_is_the_oldest(opened, feed, stamped, since):
    one = await opened("double")
    assert since() is None

    stamped(one, 5_000, 6_000)
    stamped(one, 7_000, 8_000, first=2)
    assert since() == 5.0

    await feed.work()
    assert since() == 7.0


async def test_what_was_left_of_a_batch_is_older_than_the_next_one(
    opened, feed, stamped, since, monkeypatch
):
    monkeypatch.setattr(partition_module, "BATCH_SECONDS", 0.0)
    one = await opened("block")
    stamped(one, 5_000, 6_000)
    stamped(one, 7_000, first=2)

    await feed.work()

    assert since() == 6.0


async def test_of_a_partition_that_is_closed_the_oldest_event_still_waits(opened, stamped, since):
    one = await opened("double")
    stamped(one, 5_000, 6_000)

    one.close()

    assert since() == 5.0


async def test_what_nobody_may_begin_waits_all_the_same(opened, feed, stamped, since):
    one = await opened("double")
    feed.is_feeding = False

    stamped(one, 5_000)

    assert since() == 5.0


# --- events that are parked


async def test_a_partition_knows_how_many_events_of_each_subscription_wait(
    opened, feed, handlers, take
):
    handlers.retry, handlers.failing = LONG, {1}
    one = await opened("double", "fail")
    take(one, 1, 2, 3, key=b"k")

    await feed.work_all()

    assert [(s.handler.__name__, count) for s, count in one.parked] == [("double", 0), ("fail", 3)]
