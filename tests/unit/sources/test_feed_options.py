import pytest

from aiopype.sources.feed_options import FeedOptions, merge


@pytest.mark.parametrize("options", [None, {}, {"healthy_seconds": 1}, FeedOptions()])
def test_without_names_options_stay_what_they_are(options):
    assert merge(options, {}) is options


def test_options_by_name_go_over_the_others():
    merged = merge({"healthy_seconds": 1, "largest_bytes": 5}, {"healthy_seconds": 2})

    assert merged == {"healthy_seconds": 2, "largest_bytes": 5}


def test_options_by_name_go_over_those_of_a_struct():
    merged = merge(FeedOptions(healthy_seconds=1, largest_bytes=5), {"healthy_seconds": 2})

    assert FeedOptions(**merged) == FeedOptions(healthy_seconds=2, largest_bytes=5)
