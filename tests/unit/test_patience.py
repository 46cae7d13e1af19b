from aiopype.patience import Patience


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def patient():
    clock = Clock()
    return clock, Patience(clock)


def test_a_second_can_be_spent_at_first():
    _, patience = patient()

    assert [patience.take(0.4) for _ in range(3)] == [True, True, False]


def test_what_is_spent_comes_back_slowly():
    clock, patience = patient()
    assert patience.take(1.0)

    clock.now = 10.0

    assert patience.take(0.49)
    assert not patience.take(0.49)


def test_no_more_than_a_second_is_saved_up():
    clock, patience = patient()
    clock.now = 1_000.0

    assert not patience.take(1.01)
    assert patience.take(1.0)


def test_nothing_is_waited_for_when_all_is_spent_not_even_no_time():
    _, patience = patient()
    patience.lose(60.0)

    assert not patience.take(0.0)


def test_what_is_lost_beyond_is_forgiven():
    clock, patience = patient()
    patience.lose(60.0)

    clock.now = 10.0

    assert patience.take(0.49)


async def test_a_wait_ends_when_nobody_wants_it_any_more():
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    await Patience(Clock(), sleep).wait(0.9, lambda: len(waited) < 3)

    assert len(waited) == 3
    assert all(seconds <= 0.1 for seconds in waited)
