import logging
from types import SimpleNamespace

import pytest

from aiopype import Manager, SyncProtocol
from aiopype.hosting.services import Counted
from aiopype.pipelines import Pipelines
from aiopype.progress import Progress, Rate, RecentErrors, duration


@pytest.fixture
def progress():
    """Progress whose clock stands at 10 s."""
    return Progress(clock=lambda: 10.0)


@pytest.fixture
def recent():
    """Hears of the records of one logger, and keeps three."""
    handler, log = RecentErrors(keep=3), logging.getLogger("test_progress")
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


# --- topics and partitions


def test_batches_that_are_handled_add_up(progress):
    progress.handled("t", 0, 3, last_timestamp_ms=8_000, position=3)
    progress.handled("t", 1, 2, last_timestamp_ms=9_500, position=7)

    assert progress.topics["t"].handled == 5
    assert progress.topics["t"].last_timestamp_ms == 9_500
    assert progress.topics["t"].age_seconds == 0.5


def test_an_event_that_is_stamped_ahead_of_this_clock_has_no_age(progress):
    progress.handled("t", 0, 1, last_timestamp_ms=11_000, position=1)

    assert progress.topics["t"].age_seconds == 0


def test_what_is_emitted_is_counted_beside_what_is_handled(progress):
    progress.emitted("t", 4)
    progress.emitted("t", 1)

    assert (progress.topics["t"].emitted, progress.topics["t"].handled) == (5, 0)


def test_lag_is_the_log_after_what_is_handled_over_all_partitions(progress):
    for partition in (0, 1):
        progress.assign("t", partition)
    progress.fetched("t", 0, position=10, end=10)
    progress.fetched("t", 1, position=5, end=25)
    assert progress.topics["t"].lag == 20

    progress.handled("t", 1, 15, last_timestamp_ms=0, position=20)
    progress.fetched("t", 1, position=25, end=30)
    assert progress.topics["t"].lag == 10


def test_what_is_fetched_ahead_is_not_handled_yet(progress):
    progress.assign("t", 0)
    progress.fetched("t", 0, position=0, end=100)
    progress.fetched("t", 0, position=80, end=100)

    assert progress.topics["t"].lag == 100


def test_lag_is_unknown_until_an_answer_said_where_the_log_ends(progress):
    progress.assign("t", 0)
    progress.fetched("t", 0, position=3, end=None)
    assert progress.topics["t"].lag is None

    progress.assign("t", 1)
    progress.fetched("t", 1, position=3, end=5)
    assert progress.topics["t"].lag == 2


def test_there_is_no_lag_of_a_topic_that_nobody_is_subscribed_to(progress):
    progress.emitted("t", 5)

    assert progress.topics["t"].lag is None


def test_the_log_of_a_partition_whose_end_was_seen_before_its_last_event_has_no_lag(progress):
    progress.assign("t", 0)
    progress.fetched("t", 0, position=0, end=5)
    progress.handled("t", 0, 9, last_timestamp_ms=0, position=9)

    assert progress.topics["t"].lag == 0


def test_a_revoked_partition_leaves_no_figures_but_the_counts(progress):
    progress.assign("t", 0)
    progress.assign("u", 0)
    progress.handled("t", 0, 3, last_timestamp_ms=8_000, position=3)
    assert progress.partitions == 2

    progress.revoke()
    progress.fetched("t", 0, position=3, end=9)
    progress.handled("t", 0, 1, last_timestamp_ms=8_000, position=4)

    assert progress.partitions == 0
    assert progress.topics["t"].partitions == {}
    assert (progress.topics["t"].handled, progress.topics["t"].lag) == (4, None)


def test_what_was_deleted_before_it_was_handled_is_no_lag(progress):
    progress.assign("t", 0)
    progress.fetched("t", 0, position=0, end=100)

    progress.skipped("t", 0, 40, 40)
    progress.skipped("t", 1, 2, 2)

    assert (progress.topics["t"].skipped, progress.topics["t"].lag) == (42, 60)


def test_a_partition_that_is_assigned_already_stays_as_it_is(progress):
    progress.assign("t", 0)
    progress.fetched("t", 0, position=3, end=9)

    progress.assign("t", 0)

    assert progress.topics["t"].lag == 6


def test_the_first_event_that_waits_is_that_of_its_partition(progress):
    progress.assign("t", 0)
    progress.fetched("t", 0, position=3, end=9)

    progress.waits("t", 0, 2_000)
    progress.waits("t", 0, -1)
    progress.waits("t", 1, 5_000)

    assert progress.topics["t"].partitions[0].lag_seconds(10.0) == 8


def test_an_end_that_is_not_told_leaves_the_last_one(progress):
    progress.assign("t", 0)
    progress.fetched("t", 0, position=3, end=9)
    progress.fetched("t", 0, position=3, end=None)

    assert progress.topics["t"].lag == 6


def test_partitions_that_were_not_heard_of_for_long_are_known():
    now = [10.0]
    progress = Progress(clock=lambda: now[0])
    for partition in range(3):
        progress.assign("t", partition)
    progress.fetched("t", 0, position=3, end=9)
    now[0] = 14.0
    progress.fetched("t", 1, position=3, end=9)
    progress.fetched("t", 2, position=None, end=9)
    now[0] = 16.0

    assert [(topic, number) for topic, number, _ in progress.unheard(5)] == [("t", 0), ("t", 2)]


def test_a_partition_that_comes_back_begins_anew(progress):
    progress.assign("t", 0)
    progress.fetched("t", 0, position=3, end=9)
    progress.revoke()
    progress.assign("t", 0)
    progress.fetched("t", 0, position=8, end=9)

    assert progress.topics["t"].lag == 1


# --- what is counted, where


class FakeDelivery:
    """Makes batches durable, or raises."""

    trusts_memory = False

    def __init__(self, error=None):
        self.error = error

    async def open(self, partition):
        return "opened"

    async def keep(self, partitions):
        return "kept"

    async def deliver(self, batch):
        if self.error:
            raise self.error


@pytest.fixture
def batch(record):
    partition = SimpleNamespace(topic=SimpleNamespace(name="t"), number=2)
    records = [record(offset=4, timestamp=8_000), record(offset=5, timestamp=9_000)]
    return SimpleNamespace(partition=partition, records=records, position=7, began=0.0)


async def test_all_else_of_a_delivery_that_is_counted_is_its_own():
    delivery = FakeDelivery()
    counted = Counted(delivery, None)

    assert (await counted.open(None), await counted.keep([])) == ("opened", "kept")
    assert counted.trusts_memory is False


async def test_events_that_waited_are_not_counted_again(progress, batch):
    batch.position = None

    await Counted(FakeDelivery(), progress).deliver(batch)

    assert not progress.topics


async def test_a_batch_is_counted_when_it_is_durable(progress, batch):
    progress.assign("t", 2)

    await Counted(FakeDelivery(), progress).deliver(batch)

    topic = progress.topics["t"]
    assert (topic.handled, topic.age_seconds, topic.partitions[2].position) == (2, 1.0, 7)
    assert (topic.ages.count, topic.ages.sum) == (2, 3)
    assert (topic.batch_events.sum, topic.batch_seconds.count) == (2, 1)


async def test_a_batch_that_could_not_be_made_durable_is_not_counted(progress, batch):
    with pytest.raises(LookupError):
        await Counted(FakeDelivery(LookupError()), progress).deliver(batch)

    assert not progress.topics


async def test_in_process_each_event_is_counted_once(declare, numbers, collector):
    def wire(manager):
        named = manager.build_processor_name
        manager.source = numbers(named("source"), manager.handler)
        manager.sink = collector(named("sink"), manager.handler)
        manager.source.on("number", manager.sink.take)
        manager.source.on("number", manager.sink.take_async)

    manager = declare(wire, Manager)
    pipelines = Pipelines([manager.name], SyncProtocol(), end_with_sources=True)
    pipelines.start_sources()
    await pipelines.supervisor.none_left()
    await pipelines.stop_sources()

    topic = pipelines.protocol.progress.topics[f"{manager.name}.source.number"]
    assert (topic.emitted, topic.handled) == (3, 3)


async def test_in_process_an_event_nobody_is_subscribed_to_is_emitted_only(recorder):
    protocol = SyncProtocol()
    protocol.add(SimpleNamespace(name="m.source"))
    await protocol.emit_async(protocol.topic("m.source", "unheard"), None, b"[1]")

    topic = protocol.progress.topics["m.source.unheard"]
    assert (topic.emitted, topic.handled) == (1, 0)


# --- rates


def test_a_rate_is_that_of_the_last_seconds():
    rate = Rate(seconds=5)

    assert rate.update(0, 0) == 0
    assert rate.update(1, 100) == 100
    assert rate.update(5, 500) == 100
    assert rate.update(10, 500) == 0


def test_a_rate_falls_to_nothing_when_nothing_comes():
    rate = Rate(seconds=5)
    found = [rate.update(second / 4, min(second, 40) * 25) for second in range(100)]

    assert found[40] == pytest.approx(100)
    assert 0 < found[55] < 100
    assert found[60:] == [0] * 40


def test_a_rate_asked_for_twice_at_once_is_no_error():
    rate = Rate()

    assert [rate.update(1, 5), rate.update(1, 5)] == [0, 0]


# --- errors


def test_the_last_warnings_and_errors_are_kept_and_all_are_counted(recent):
    log = logging.getLogger("test_progress")
    log.info("nothing")
    for n in range(4):
        log.warning("number %d", n)
    log.error("bad")

    assert [t.text for t in recent.last] == [
        "test_progress: number 2",
        "test_progress: number 3",
        "test_progress: bad",
    ]
    assert [t.level for t in recent.last] == ["WARNING", "WARNING", "ERROR"]
    assert (recent.warnings, recent.errors) == (4, 1)
    assert recent.in_words() == "1 error, 4 warnings"


def test_a_log_call_that_is_wrong_breaks_nothing(recent, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)

    logging.getLogger("test_progress").warning("%d", "no number")

    assert not recent.last


# --- in words


def test_the_summary_has_the_counts_of_what_was_handled(progress):
    progress.handled("a.b.c", 0, 1_200, last_timestamp_ms=0, position=0)
    progress.handled("a.b.d", 0, 34, last_timestamp_ms=0, position=0)
    progress.emitted("a.b.unheard", 7)

    assert progress.summary(83) == "1,234 events handled in 1.4 min: a.b.c 1,200, a.b.d 34"


def test_the_summary_of_nothing_says_so(progress):
    assert progress.summary(2) == "0 events handled in 2.0 s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (3.21, "3.2 s"),
        (307, "5.1 min"),
        (7_200, "2.0 h"),
        (3.5 * 86_400, "3.5 days"),
    ],
)
def test_a_time_reads_as_a_person_says_it(seconds, text):
    assert duration(seconds) == text
