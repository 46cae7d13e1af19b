import time
from typing import NamedTuple

import msgspec
import pytest

from aiopype import DeadLetter, PermanentError, Processor, Retry, TemporaryError, settlement
from aiopype.execution import run_batch
from aiopype.patience import MOST_SECONDS, Patience
from aiopype.settlement import Attempt, Origin, settle

ORIGIN = Origin("m.source.in", 3)


class Numbered(NamedTuple):
    """A record with headers."""

    value: bytes
    key: bytes | None
    offset: int
    timestamp: int = 1_000
    headers: tuple = (("h", b"1"),)


class Worker(Processor):
    """Emits its number, after having failed as often as `fails` says."""

    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.fails = {}
        self.error = OSError
        self.seen = []

    def handle(self, n):
        self.seen.append(n)
        self.emit("out", n)
        if self.fails.get(n, 0) > 0:
            self.fails[n] -= 1
            raise self.error("busy")

    def tell(self, letter: DeadLetter):
        self.seen.append(letter.message)
        raise self.error("told")


@pytest.fixture
def worker(recorder):
    return Worker("m.worker", recorder)


@pytest.fixture
def subscription(worker, recorder):
    recorder.on("m.worker", "in", worker.handle)
    return recorder.graph.subscriptions(recorder.topic("m.worker", "in"))[0]


@pytest.fixture
def waits():
    """The seconds that were waited, by a clock that stands still."""
    return []


@pytest.fixture
def patience(waits):
    async def wait(seconds):
        waits.append(seconds)

    return Patience(lambda: 0.0, wait)


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch):
    monkeypatch.setattr(settlement, "JITTER", 0.0)


def records(*pairs):
    return [Numbered(b"[%d]" % n, key, n) for n, key in pairs]


@pytest.fixture
def settled(subscription, patience):
    """Runs records, and settles what failed."""

    async def run(found, **options):
        outcome = await run_batch(subscription, found)
        options.setdefault("patience", patience)
        return outcome, await settle(ORIGIN, outcome.failures, **options)

    return run


def values(emitted):
    return [value for topic, _, value, *_ in emitted if topic.event == "out"]


def letters(emitted):
    return [
        msgspec.json.decode(value, type=DeadLetter)
        for topic, _, value, *_ in emitted
        if topic.event == "error"
    ]


async def test_an_event_that_fails_twice_is_tried_again_with_those_behind_it(
    settled, worker, waits
):
    worker.fails[1] = 2

    _, result = await settled(records((1, b"a"), (2, b"a"), (3, b"b")))

    assert worker.seen == [1, 3, 1, 1, 2]
    assert values(result.emitted) == [b"[1]", b"[2]"]
    assert result.waiting == []
    assert sum(waits) == pytest.approx(0.3, abs=0.02)


async def test_keys_that_fail_together_wait_together(settled, worker, waits):
    worker.fails = dict.fromkeys(range(50), 1)

    _, result = await settled(records(*((n, b"%d" % n) for n in range(50))))

    assert values(result.emitted) == [b"[%d]" % n for n in range(50)]
    assert sum(waits) == pytest.approx(0.1, abs=0.02)


async def test_a_permanent_error_is_a_dead_letter_at_once(settled, worker, waits):
    worker.fails[1], worker.error = 9, PermanentError

    _, result = await settled(records((1, b"a"), (2, b"a")))

    (letter,) = letters(result.emitted)
    assert (letter.tries, letter.component, letter.message) == (1, "m.worker", "busy")
    assert (letter.topic, letter.partition, letter.offset) == ("m.source.in", 3, 1)
    assert (letter.key, letter.value, letter.headers) == (b"a", b"[1]", (("h", b"1"),))
    assert (worker.seen, waits) == ([1, 2], [])


async def test_events_behind_a_dead_letter_are_run_at_once(settled, worker):
    worker.fails[1] = 9
    worker.retry = Retry(tries=2, first_delay_seconds=0)

    _, result = await settled(records((1, b"a"), (2, b"a")))

    assert [letter.tries for letter in letters(result.emitted)] == [2]
    assert values(result.emitted) == [b"[2]"]


async def test_what_patience_does_not_allow_waits_in_order(settled, worker, waits):
    worker.fails = {1: 99, 4: 99}

    _, result = await settled(records((1, b"a"), (2, b"a"), (3, b"b"), (4, None), (5, b"a")))

    assert [(a.record.offset, a.tries, type(a.error)) for a in result.waiting] == [
        (1, 4, OSError), (2, 0, type(None)), (4, 4, OSError), (5, 0, type(None)),
    ]  # fmt: skip
    assert result.waiting[0].due == pytest.approx(time.time() + 0.8, abs=0.1)
    assert result.waiting[0].first_failed == pytest.approx(time.time(), abs=0.5)
    assert sum(waits) <= MOST_SECONDS


async def test_without_patience_nothing_is_waited_for(settled, worker, waits):
    worker.fails[1] = 1

    _, result = await settled(records((1, b"a")), patience=None)

    assert [attempt.tries for attempt in result.waiting] == [1]
    assert (worker.seen, waits) == ([1], [])


async def test_a_delay_longer_than_the_patience_is_not_begun(settled, worker, waits):
    worker.fails[1] = 1
    worker.error = lambda text: TemporaryError(text, delay=30)

    _, result = await settled(records((1, b"a")))

    assert result.waiting[0].due == pytest.approx(time.time() + 30, abs=1)
    assert waits == []


async def test_events_of_a_key_that_is_held_from_elsewhere_wait(subscription, patience, worker):
    outcome = await run_batch(subscription, records((1, b"a"), (2, b"a")), held={b"a"})

    result = await settle(ORIGIN, outcome.failures, patience=patience)

    assert [(a.record.offset, a.error) for a in result.waiting] == [(1, None), (2, None)]
    assert worker.seen == []


async def test_earlier_tries_count(settled, worker):
    worker.fails[1] = 9
    (one, two) = records((1, b"a"), (2, b"a"))
    now = time.time()
    known = {1: Attempt(one, 9, now - 20, None, now), 2: Attempt(two, 0, now - 19, None, now)}

    _, result = await settled([one, two], patience=None, tries=known)

    assert [letter.tries for letter in letters(result.emitted)] == [10]
    assert values(result.emitted) == [b"[2]"]


async def test_an_event_that_goes_on_waiting_is_as_it_was(settled, worker):
    worker.fails[1] = 9
    (one, two) = records((1, b"a"), (2, b"a"))
    now = time.time()
    known = {1: Attempt(one, 3, now - 2, None, now), 2: Attempt(two, 0, now - 1, None, now)}

    _, result = await settled([one, two], patience=None, tries=known)

    first, second = result.waiting
    assert (first.tries, first.first_failed) == (4, now - 2)
    assert second is known[2]


async def test_nothing_is_tried_again_when_nobody_wants_it(settled, worker, waits):
    worker.fails[1] = 1

    _, result = await settled(records((1, b"a")), still_wanted=lambda: False)

    assert [attempt.record.offset for attempt in result.waiting] == [1]
    assert waits == []


async def test_a_wait_ends_soon_when_nobody_wants_it_any_more(subscription, worker):
    worker.fails[1] = 1
    worker.retry = Retry(first_delay_seconds=0.9)
    waits = []

    async def wait(seconds):
        waits.append(seconds)

    outcome = await run_batch(subscription, records((1, b"a")))
    await settle(
        ORIGIN,
        outcome.failures,
        patience=Patience(lambda: 0.0, wait),
        still_wanted=lambda: len(waits) < 2,
    )

    assert len(waits) == 2
    assert worker.seen == [1]


async def test_a_batch_of_one_key_of_nothing_but_poison_is_gone_through_once(
    subscription, patience
):
    poison = [Numbered(b"garbage", b"a", n) for n in range(2_000)]
    outcome = await run_batch(subscription, poison)
    began = time.monotonic()

    result = await settle(ORIGIN, outcome.failures, patience=patience)

    assert [letter.offset for letter in letters(result.emitted)] == list(range(2_000))
    assert time.monotonic() - began < 5


async def test_events_behind_one_that_is_settled_are_run_for_a_while_only(
    settled, worker, monkeypatch
):
    monkeypatch.setattr(settlement, "RUN_SECONDS", 0.0)
    worker.fails[1] = 1

    _, result = await settled(records((1, b"a"), (2, b"a"), (3, b"a")))

    # The least is one event, and the loop looks at the clock every 10 ms.
    assert values(result.emitted) + [b"[%d]" % a.record.offset for a in result.waiting] == [
        b"[1]", b"[2]", b"[3]",
    ]  # fmt: skip


async def test_the_letter_of_a_handler_of_errors_is_marked(worker, recorder, patience):
    recorder.on("m.worker", "error", worker.tell)
    (telling,) = recorder.graph.subscriptions(recorder.topic("m.worker", "error"))
    worker.error = PermanentError
    letter = DeadLetter(component="m.other", error="OSError", message="mine", at_ms=1)
    outcome = await run_batch(telling, [Numbered(msgspec.json.encode(letter), None, 1)])

    result = await settle(ORIGIN, outcome.failures, patience=patience)

    (deep,) = letters(result.emitted)
    assert deep.depth == 1
    again = await run_batch(telling, [Numbered(result.emitted[0][2], None, 2)])
    assert (again.handled, again.failures, worker.seen) == (1, [], ["mine"])


async def test_an_error_that_is_settled_does_not_hold_on_to_its_batch(settled, worker):
    worker.fails[1] = 99

    outcome, result = await settled(records((1, b"a")))

    assert result.waiting[0].error.__traceback__ is None
    assert outcome.failures[0].error.__traceback__ is None


async def test_dead_letters_are_logged_a_few_a_second(settled, worker, caplog):
    worker.fails, worker.error = dict.fromkeys(range(100), 9), PermanentError

    await settled(records(*((n, None) for n in range(100))))

    assert [record.name for record in caplog.records if record.name.startswith("aiopype")] == [
        "aiopype.letter_log"
    ] * 3
    assert (
        "m.worker.in -> m.worker.handle: aiopype.errors.PermanentError: busy; "
        "tried 1 time, the event of m.source.in[3] offset 0 is a dead letter in m.worker.error now"
    ) in caplog.messages
    assert "Traceback" not in caplog.text


async def test_delays_differ_a_little(settled, worker, monkeypatch, waits):
    monkeypatch.setattr(settlement, "JITTER", 0.2)
    worker.fails = dict.fromkeys(range(20), 99)

    _, result = await settled(records(*((n, None) for n in range(20))), patience=None)

    now = time.time()
    delays = [attempt.due - now for attempt in result.waiting]
    assert len({round(delay, 4) for delay in delays}) > 10
    assert all(0.05 < delay <= 0.12 for delay in delays)
