from time import sleep
from types import SimpleNamespace

import pytest

from aiopype.errors import DeliveryError
from aiopype.hosting import services
from aiopype.hosting.services import Counted, LoopDelay, Restarts
from aiopype.progress import Progress
from aiopype.restarts import RestartPolicy
from aiopype.supervision import Supervisor
from aiopype.topics import Topic
from aiopype.transport.batches import Batch


class FakeDelivery:
    """Notes what it delivers; raises the errors it was given first."""

    trusts_memory = True

    def __init__(self):
        self.delivered, self.errors = [], []

    async def deliver(self, batch):
        if self.errors:
            raise self.errors.pop(0)
        self.delivered.append(batch)

    async def open(self, partition):
        return f"opened {partition}"

    async def keep(self, partitions):
        return f"kept {partitions}"


@pytest.fixture
def delivery():
    return FakeDelivery()


@pytest.fixture
def progress():
    return Progress(clock=lambda: 2.0)


@pytest.fixture
def counted(delivery, progress):
    return Counted(delivery, progress)


@pytest.fixture
def batch(record):
    """Makes a batch of two records, whose position may be unknown."""

    def make(position):
        partition = SimpleNamespace(topic=Topic("m.c", "in"), number=3)
        return Batch(partition, [record(offset=4), record(offset=5, timestamp=1_500)], position)

    return make


async def test_what_is_durable_is_counted(counted, delivery, progress, batch):
    progress.assign("m.c.in", 3)

    await counted.deliver(batch(6))

    found = progress.topics["m.c.in"]
    assert (found.handled, found.last_timestamp_ms, found.age_seconds) == (2, 1_500, 0.5)
    assert found.partitions[3].position == 6
    assert (found.batch_events.sum, found.batch_seconds.count, found.ages.count) == (2, 1, 2)
    assert len(delivery.delivered) == 1


async def test_what_is_not_durable_is_not_counted(counted, delivery, progress, batch):
    delivery.errors.append(DeliveryError("no answer"))

    with pytest.raises(DeliveryError):
        await counted.deliver(batch(6))
    assert progress.topics == {}


async def test_what_had_waited_is_not_counted_twice(counted, delivery, progress, batch):
    await counted.deliver(batch(None))

    assert len(delivery.delivered) == 1
    assert progress.topics == {}


async def test_it_is_otherwise_the_delivery_that_it_counts_for(counted):
    assert counted.trusts_memory
    assert await counted.open("p") == "opened p"
    assert await counted.keep("ps") == "kept ps"


async def test_when_the_worker_stops_nothing_is_started_again(until, turns):
    supervisor = Supervisor({"m": RestartPolicy(first_delay_seconds=0)})
    restarts = Restarts(supervisor)
    await restarts.start()
    supervisor.fail("m", LookupError(), "what")

    await restarts.stop()
    await turns()

    assert not supervisor.is_running("m")


async def test_it_is_measured_how_late_the_event_loop_is(progress, until, monkeypatch):
    monkeypatch.setattr(services, "LOOP_SECONDS", 0.001)
    measuring = LoopDelay(progress)
    await measuring.start()
    await until(lambda: progress.loop_delay.count)

    sleep(0.06)  # whoever does this in a handler holds all others up
    await until(lambda: progress.loop_delay.sum > 0.05)

    await measuring.stop()
