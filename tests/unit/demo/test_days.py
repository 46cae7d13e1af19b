"""The data that the demo carries."""

from aiopype.demo.days import Day, read_days


def test_all_trading_days_are_there_in_order_and_none_twice():
    dates = [day.date for day in read_days()]
    assert len(dates) == 3270
    assert dates == sorted(set(dates))


def test_a_day_has_its_price_and_volume():
    days = read_days()
    assert days[0] == Day("2000-03-01", "130.31", "9616100")
    assert days[-1] == Day("2013-03-01", "430.47", "19730300")


def test_numbers_look_the_same_after_a_way_through_floats_and_json():
    for day in read_days():
        assert str(float(day.close)) == day.close
        assert str(int(day.volume)) == day.volume
