import pytest

from aiopype.figures import PartitionProgress, SubscriptionProgress, TopicProgress


@pytest.fixture
def partition():
    """A partition that is handled up to offset 5, where its log ended at 10 s."""
    made = PartitionProgress(position=5)
    made.hear(5, now=10.0)
    return made


# --- how long the oldest event waits


def test_without_lag_nothing_waits(partition):
    assert partition.lag_seconds(1_000.0) == 0


def test_as_long_as_the_end_is_unknown_so_is_what_waits():
    assert PartitionProgress(position=5).lag_seconds(1_000.0) is None
    assert PartitionProgress(end=5).lag_seconds(1_000.0) is None


def test_an_event_after_an_hour_of_silence_waits_since_it_came(partition):
    partition.advance(5, 8_000)
    partition.hear(5, now=3_600.0)

    partition.hear(6, now=3_610.0)

    assert partition.lag_seconds(3_612.0) == 2


def test_what_is_heard_again_does_not_begin_to_wait_anew(partition):
    partition.hear(6, now=20.0)
    partition.hear(9, now=30.0)

    assert partition.lag_seconds(31.0) == 11


def test_an_event_that_was_fetched_waits_since_its_source_saw_it(partition):
    partition.hear(6, now=20.0)
    partition.waiting_since = 3.0

    assert partition.lag_seconds(31.0) == 28


def test_where_more_is_to_come_it_waits_since_the_last_that_is_handled(partition):
    partition.hear(100, now=4_000.0)

    partition.advance(50, 400_000)

    assert partition.lag_seconds(4_001.0) == 3_601


def test_when_all_is_handled_nothing_waits(partition):
    partition.hear(100, now=20.0)

    partition.advance(100, 15_000)

    assert partition.lag_seconds(1_000.0) == 0
    partition.hear(101, now=1_000.0)
    assert partition.lag_seconds(1_001.0) == 1


def test_events_without_a_stamp_wait_since_they_are_heard_of(partition):
    partition.hear(100, now=20.0)
    partition.advance(50, -1)
    assert partition.lag_seconds(30.0) == 0

    partition.hear(100, now=31.0)

    assert partition.lag_seconds(35.0) == 4


def test_an_event_that_is_stamped_ahead_of_this_clock_has_not_waited(partition):
    partition.hear(6, now=20.0)
    partition.waiting_since = 50.0

    assert partition.lag_seconds(31.0) == 0


# --- batches


def test_the_ages_of_a_small_batch_are_those_of_its_events(record):
    topic = TopicProgress()

    topic.add_batch([record(timestamp=ms) for ms in (9_998, 9_000, 5_000)], 0.2, now=10.0)

    found = dict(zip(topic.ages.bounds, topic.ages.counts, strict=False))
    assert (found[0.0025], found[1.0], found[5.0]) == (1, 1, 1)
    assert topic.ages.sum == pytest.approx(6.002)
    assert (topic.batch_events.sum, topic.batch_seconds.sum) == (3, 0.2)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 15, 17, 1_000, 3_999, 4_000])
def test_every_event_of_a_batch_counts_in_its_ages_however_large_it_is(record, count):
    topic = TopicProgress()

    topic.add_batch([record(timestamp=9_000)] * count, 0.2, now=10.0)

    assert topic.ages.count == count
    assert topic.ages.sum == pytest.approx(count)


def test_the_ages_of_a_large_batch_are_spread_as_those_of_its_events(record):
    topic = TopicProgress()

    topic.add_batch([record(timestamp=ms) for ms in range(4_000)], 0.2, now=4.0)

    # One after the other a millisecond younger: half of them are older than two seconds.
    assert topic.ages.sum == pytest.approx(4_000 * 2.0, rel=0.01)
    below = sum(topic.ages.counts[: topic.ages.bounds.index(1.0) + 1])
    assert below == pytest.approx(1_000, abs=250)


def test_events_without_a_stamp_have_no_age(record):
    topic = TopicProgress()

    topic.add_batch([record(timestamp=-1)], 0.2, now=10.0)

    assert (topic.ages.count, topic.batch_events.count) == (0, 1)


def test_an_event_that_is_stamped_ahead_of_this_clock_is_new(record):
    topic = TopicProgress()

    topic.add_batch([record(timestamp=11_000)], 0.2, now=10.0)

    assert (topic.ages.count, topic.ages.sum) == (1, 0)


# --- handlers


def test_quick_tries_count_with_their_mean_and_slow_ones_by_themselves():
    figures = SubscriptionProgress()

    figures.add_times(1_002, 3.001, [0.5, 1.5])

    found = dict(zip(figures.seconds.bounds, figures.seconds.counts, strict=False))
    assert {bound: count for bound, count in found.items() if count} == {
        0.0025: 1_000,  # a second in all
        0.5: 1,
        2.5: 1,
    }
    assert figures.seconds.sum == pytest.approx(3.001)


def test_where_all_tries_are_slow_there_is_no_mean():
    figures = SubscriptionProgress()

    figures.add_times(2, 2.0, [0.5, 1.5])

    assert (figures.seconds.count, figures.seconds.sum) == (2, 2)


def test_no_try_takes_less_than_nothing():
    figures = SubscriptionProgress()

    figures.add_times(2, 0.4999, [0.5])
    figures.add_times(0, 0.0, [])

    assert (figures.seconds.count, figures.seconds.sum) == (2, 0.5)
