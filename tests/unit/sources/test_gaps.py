import pytest

from aiopype.errors import StateCorrupt
from aiopype.sources import gaps
from aiopype.sources.gaps import Continuity, Gap, Place, place_of


@pytest.fixture
def continuity():
    return Continuity()


def test_before_the_first_message_there_is_no_place():
    assert place_of("m.feed", None) is None


@pytest.mark.parametrize("place", [Place(1.5), Place(2.0, 7), Place(3.0, ["a", {"b": 1}])])
def test_a_place_is_found_again_as_it_was_stored(place):
    stored = {"at": place.at} | ({} if place.position is None else {"position": place.position})

    assert place_of("m.feed", stored) == place


@pytest.mark.parametrize("stored", [17, "a", {}, {"at": "noon"}])
def test_a_position_of_something_else_is_refused(stored):
    with pytest.raises(StateCorrupt, match=r"m\.feed"):
        place_of("m.feed", stored)


def test_live_messages_are_all_new(continuity):
    assert [continuity.is_new(n, 1.0) for n in (1, 1, None, None)] == [True] * 4
    assert continuity.position == 1


def test_a_message_without_a_position_leaves_the_last_one(continuity):
    continuity.is_new(1, 1.0)
    continuity.is_new(None, 2.0)

    assert continuity.place(2.0) == Place(2.0, 1)


def test_while_a_gap_is_open_the_place_stays_at_its_beginning(continuity):
    continuity.open(Gap(1.0, 5.0, 3))
    assert continuity.place(9.0) == Place(1.0, 3)

    continuity.is_new(4, 9.0)
    assert continuity.place(9.0) == Place(1.0, 4)
    assert continuity.rest() == Gap(1.0, 5.0, 4)


def test_positions_need_not_be_hashable(continuity):
    continuity.is_new(["ETH", 1], 1.0)
    continuity.open(Gap(1.0, 2.0))

    assert not continuity.is_new(("ETH", 1), 2.0)
    assert continuity.is_new(["BTC", 1], 2.0)


def test_a_number_and_its_text_are_two_positions(continuity):
    continuity.open(Gap(1.0, 2.0, 1))

    assert continuity.is_new("1", 2.0)
    assert not continuity.is_new(1, 2.0)


def test_a_minute_after_a_gap_its_messages_are_forgotten(continuity):
    continuity.open(Gap(1.0, 2.0))
    continuity.is_new(7, 2.0)
    continuity.close(filled=True, at=3.0)

    assert not continuity.is_new(7, 3.0 + gaps.OVERLAP_SECONDS)
    assert continuity.is_new(7, 3.1 + gaps.OVERLAP_SECONDS)


def test_only_so_many_positions_are_remembered(monkeypatch):
    monkeypatch.setattr(gaps, "LIVE", 2)
    continuity = Continuity()
    for n in range(3):
        continuity.is_new(n, 1.0)
    continuity.open(Gap(1.0, 2.0))

    assert [continuity.is_new(n, 2.0) for n in range(3)] == [True, False, False]


def test_what_a_backfill_had_is_known_in_the_next_for_a_while(continuity):
    continuity.open(Gap(1.0, 2.0))
    continuity.is_new(7, 2.0)
    continuity.messages += 1
    continuity.close(filled=True, at=3.0)
    continuity.open(Gap(2.0, 5.0))
    assert not continuity.is_new(7, 5.0)
    assert continuity.close(filled=False, at=6.0) == Gap(2.0, 5.0)

    continuity.open(Gap(5.0, 6.0 + 60.1))
    assert continuity.is_new(7, 70.0)


def test_of_a_long_backfill_not_all_is_known(continuity, monkeypatch):
    monkeypatch.setattr(gaps, "FILLED", 2)
    continuity.open(Gap(1.0, 2.0))
    known = []
    for n in range(3):
        continuity.is_new(n, 2.0)
        known.append(continuity.knows_overlap)
    continuity.close(filled=True, at=3.0)
    assert [*known, continuity.knows_overlap] == [True, True, False, False]

    continuity.open(Gap(2.0, 4.0))
    assert continuity.knows_overlap
