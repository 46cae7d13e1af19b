from aiopype.transport import settings


def test_a_worker_can_miss_a_heartbeat_or_two():
    assert settings.HEARTBEAT_SECONDS * 3 <= settings.SESSION_SECONDS


def test_the_request_timeout_is_not_below_the_sessions():
    assert settings.REQUEST_SECONDS >= settings.SESSION_SECONDS


def test_batches_end_well_before_a_rebalance_does():
    assert settings.DRAIN_SECONDS * 3 <= settings.REBALANCE_SECONDS
