"""How long handlers take, as their outcomes tell it; on a clock that only handlers move."""

import pytest

from aiopype import PermanentError, Processor
from aiopype.execution import lanes, run_batch, runs, threads
from aiopype.execution.outcome import SLOW_SECONDS

#: Two are quick, so that their mean will do.
COSTS = [0.0004, 0.5, 0.0002, 0.003]


class Timed(Processor):
    """Each handler takes as long as its number says, on a clock of its own."""

    now = 100.0

    def take(self, n):
        self.now += COSTS[n]

    async def take_later(self, n):
        self.take(n)

    def fail(self, n):
        self.take(n)
        raise LookupError(n)

    def reject(self, n):
        self.take(n)
        raise PermanentError(n)


@pytest.fixture
def worker(recorder, monkeypatch):
    made = Timed("m.worker", recorder)
    for module in (runs, lanes, threads):
        monkeypatch.setattr(module, "monotonic", lambda: made.now)
    return made


@pytest.fixture
def subscription(worker, recorder):
    """Makes the subscription of a method."""

    def make(method):
        recorder.on("m.worker", "in", getattr(worker, method))
        return recorder.graph.subscriptions(recorder.topic("m.worker", "in"))[-1]

    return make


@pytest.fixture
def records(record):
    return [record(b"[%d]" % n, b"k%d" % n, offset=n) for n in range(4)]


@pytest.fixture(params=["function", "coroutine", "blocking"])
def way(request, worker):
    """How the handler runs: the name of the method, its component being set."""
    worker.blocking = request.param == "blocking"
    return "take_later" if request.param == "coroutine" else "take"


@pytest.mark.parametrize("seconds", [float("inf"), 60.0])
async def test_it_is_told_how_long_all_took_and_each_that_was_slow(
    way, subscription, records, seconds
):
    outcome = await run_batch(subscription(way), records, seconds=seconds)

    assert outcome.tries == 4
    assert outcome.seconds == pytest.approx(sum(COSTS))
    assert outcome.slow == pytest.approx([0.5, 0.003])
    assert min(outcome.slow) > SLOW_SECONDS


@pytest.mark.parametrize("way", ["coroutine", "blocking"])
async def test_of_several_at_once_each_is_measured(way, worker, subscription, records):
    worker.concurrency = 2
    worker.blocking = way == "blocking"

    outcome = await run_batch(
        subscription("take_later" if way == "coroutine" else "take"), records[1:2]
    )

    assert (outcome.tries, outcome.seconds) == (1, pytest.approx(0.5))
    assert outcome.slow == pytest.approx([0.5])


async def test_a_batch_that_is_cut_tells_of_what_was_handled(way, subscription, records):
    outcome = await run_batch(subscription(way), records, seconds=0.1)

    assert (outcome.handled, outcome.tries) == (2, 2)
    assert outcome.seconds == pytest.approx(0.5004)


async def test_tries_that_fail_take_time_too(subscription, records):
    outcome = await run_batch(subscription("fail"), records)

    assert outcome.tries == 4
    assert outcome.seconds == pytest.approx(sum(COSTS))


async def test_events_that_wait_behind_others_of_their_key_are_no_tries(
    subscription, record, worker
):
    records = [record(b"[0]", b"k", offset=n) for n in range(4)]

    assert (await run_batch(subscription("fail"), records)).tries == 1
    assert (await run_batch(subscription("reject"), records)).tries == 4
    assert (await run_batch(subscription("take"), records, held={b"k"})).tries == 0


async def test_of_nothing_nothing_is_told(way, subscription):
    outcome = await run_batch(subscription(way), [])

    assert (outcome.tries, outcome.seconds, [*outcome.slow]) == (0, 0, [])
