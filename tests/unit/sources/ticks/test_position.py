import pytest

from aiopype.errors import StateCorrupt
from aiopype.sources.ticks.position import Dealt


@pytest.mark.parametrize("dealt", [Dealt(0), Dealt(1_700), Dealt(50, frozenset({10, 30}))])
def test_what_is_stored_is_read_again(dealt):
    assert Dealt.read("m.cron", dealt.position) == dealt


def test_it_is_stored_as_a_number_where_all_is_dealt_with():
    assert Dealt(1_700).position == 1_700


def test_it_is_stored_as_a_list_where_something_is_open():
    assert Dealt(50, frozenset({30, 10})).position == [50, 10, 30]


def test_it_has_all_up_to_an_instant_but_for_those_that_are_open():
    dealt = Dealt(50, frozenset({10, 30}))

    assert [i for i in (0, 10, 20, 30, 50, 60) if dealt.has(i)] == [0, 20, 50]


def test_there_is_something_to_do_from_the_first_open_one_on():
    assert Dealt(50, frozenset({10, 30})).begin == 9
    assert Dealt(50).begin == 50


@pytest.mark.parametrize("position", ["50", 5.0, True, [], [1, "2"], [[1]], {"until": 5}])
def test_a_position_of_another_kind_of_source_is_refused(position):
    with pytest.raises(StateCorrupt, match=r"'m.cron': its position .* give it another name"):
        Dealt.read("m.cron", position)
