import asyncio
import functools
from time import monotonic

import pytest

from aiopype import Processor, execution
from aiopype.emitter import current_outbox
from aiopype.errors import CodecError, EmitError, HandlerError
from aiopype.execution import Failure, run, run_async, run_batch


class Falsy(Exception):
    """An error that is false, as one with a `__len__` can be."""

    def __bool__(self):
        return False


class Worker(Processor):
    """Handlers of many kinds; each gets one number."""

    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.seen = []
        self.left_running = []

    def double(self, n):
        self.seen.append(n)
        self.emit("out", n * 2)

    async def double_later(self, n):
        self.seen.append(n)
        await asyncio.sleep(0)
        self.emit("out", n * 2)

    def quiet(self, n):
        self.seen.append(n)

    async def quiet_later(self, n):
        self.seen.append(n)

    def fail_at_2(self, n):
        self.double(n)
        if n == 2:
            raise LookupError("two")
        self.emit("out", -n)

    async def fail_at_2_later(self, n):
        await asyncio.sleep(0)
        self.fail_at_2(n)

    def fail_falsely(self, n):
        raise Falsy

    async def fail_falsely_later(self, n):
        raise Falsy

    def return_coroutine(self, n):
        return self.double_later(n)

    def return_future(self, n):
        return asyncio.get_running_loop().create_future()

    def block(self, n):
        self.seen.append(n)
        until = monotonic() + execution.SLICE_SECONDS * 1.5
        while monotonic() < until:
            pass

    async def block_later(self, n):
        self.block(n)

    def leave_running(self, n):
        self.left_running.append(asyncio.ensure_future(self.emit_when(n, self.left_running)))

    def leave_running_and_block(self, n):
        self.leave_running(n)
        self.block(n)

    async def leave_running_later(self, n):
        self.leave_running(n)

    async def emit_when(self, n, _):
        await asyncio.sleep(0)
        self.emit("out", n)

    async def emit_in_tasks(self, n):
        await asyncio.gather(*(self.emit_when(n + i, None) for i in range(3)))

    async def wait_for_ever(self, n):
        await asyncio.get_running_loop().create_future()

    async def await_a_cancelled_task(self, n):
        self.emit("out", n)
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    def stop_iteration(self, n):
        next(iter(()))


@pytest.fixture
def worker(recorder):
    return Worker("m.worker", recorder)


@pytest.fixture
def subscription(worker, recorder):
    """Subscribes a method of the worker."""

    def subscribe(method):
        recorder.on("m.worker", "in", getattr(worker, method))
        return recorder.graph.subscriptions(recorder.topic("m.worker", "in"))[-1]

    return subscribe


@pytest.fixture
def batch(record):
    """Makes records with these numbers as their arguments."""

    def make(*numbers):
        return [record(b"[%d]" % n, b"key%d" % n, 100 + n, n) for n in numbers]

    return make


def values(outcome):
    return [value for _, _, value, *_ in outcome.emitted]


BOTH = ("function", "coroutine")


def both(function, coroutine):
    return pytest.mark.parametrize("method", [function, coroutine], ids=BOTH)


# --- one record


def test_a_function_is_run_over_one_record(subscription, record, recorder):
    outcome = run(subscription("double"), record(b"[21]", b"k", 7))

    out = recorder.topic("m.worker", "out")
    assert outcome == (1, [(out, b"k", b"[42]", 7, True)], None)


@both("double", "double_later")
async def test_either_kind_is_run_over_one_record(subscription, record, recorder, method):
    outcome = await run_async(subscription(method), record(b"[21]", b"k", 7))

    out = recorder.topic("m.worker", "out")
    assert outcome == (1, [(out, b"k", b"[42]", 7, True)], None)


def test_a_failed_function_gives_its_error_and_no_events(subscription, record):
    failing, two = subscription("fail_at_2"), record(b"[2]")

    outcome = run(failing, two)

    assert (outcome.handled, outcome.emitted) == (0, [])
    assert (outcome.failure.subscription, outcome.failure.record) == (failing, two)
    assert isinstance(outcome.failure.error, LookupError)


@both("fail_at_2", "fail_at_2_later")
async def test_either_kind_that_fails_gives_its_error_and_no_events(subscription, record, method):
    outcome = await run_async(subscription(method), record(b"[2]"))

    assert (outcome.handled, outcome.emitted) == (0, [])
    assert isinstance(outcome.failure.error, LookupError)


def test_a_failure_reads_as_a_sentence(subscription, record):
    failure = Failure(subscription("quiet"), record(), LookupError("two"))

    assert str(failure) == "LookupError in m.worker.in -> m.worker.quiet: two"


@both("quiet", "quiet_later")
@pytest.mark.parametrize("value", [b"garbage", None, b"1"], ids=["garbage", "none", "bare"])
async def test_a_value_that_cannot_be_decoded_is_a_failure(subscription, record, method, value):
    outcome = await run_async(subscription(method), record(value))

    assert isinstance(outcome.failure.error, CodecError)


@both("quiet", "quiet_later")
async def test_arguments_that_do_not_fit_the_handler_are_a_failure(subscription, record, method):
    outcome = await run_async(subscription(method), record(b"[1, 2, 3]"))

    assert isinstance(outcome.failure.error, TypeError)


@both("fail_falsely", "fail_falsely_later")
async def test_an_error_that_is_false_is_a_failure_too(subscription, record, method):
    outcome = await run_async(subscription(method), record(b"[1]"))

    assert outcome.handled == 0
    assert outcome.failure is not None
    assert isinstance(outcome.failure.error, Falsy)


async def test_a_stop_iteration_is_a_failure_and_ends_nothing(subscription, record):
    outcome = await run_async(subscription("stop_iteration"), record(b"[1]"))

    assert isinstance(outcome.failure.error, StopIteration)


@pytest.mark.parametrize("method", ["return_coroutine", "return_future"])
async def test_a_function_that_returns_an_awaitable_fails(subscription, record, method):
    outcome = await run_async(subscription(method), record(b"[1]"))

    assert isinstance(outcome.failure.error, HandlerError)
    assert "declare the handler with `async def`" in str(outcome.failure.error)


def test_a_function_run_without_a_loop_that_returns_a_coroutine_fails(subscription, record):
    outcome = run(subscription("return_coroutine"), record(b"[1]"))

    assert isinstance(outcome.failure.error, HandlerError)


# --- many records


@both("double", "double_later")
async def test_a_batch_is_handled_in_order(subscription, batch, worker, method):
    outcome = await run_batch(subscription(method), batch(1, 2, 3))

    assert (outcome.handled, outcome.failure) == (3, None)
    assert worker.seen == [1, 2, 3]
    assert values(outcome) == [b"[2]", b"[4]", b"[6]"]


@both("double", "double_later")
async def test_each_event_of_a_batch_has_key_and_timestamp_of_its_record(
    subscription, batch, method
):
    outcome = await run_batch(subscription(method), batch(1, 2))

    assert [(key, timestamp) for _, key, _, timestamp, _ in outcome.emitted] == [
        (b"key1", 101),
        (b"key2", 102),
    ]


@both("fail_at_2", "fail_at_2_later")
async def test_a_batch_ends_at_the_first_failure_and_drops_what_it_emitted(
    subscription, batch, worker, method
):
    records = batch(1, 2, 3)

    outcome = await run_batch(subscription(method), records)

    assert outcome.handled == 1
    assert values(outcome) == [b"[2]", b"[-1]"]
    assert outcome.failure.record is records[1]
    assert worker.seen == [1, 2]


@both("block", "block_later")
async def test_a_batch_ends_when_its_time_is_over(subscription, batch, worker, method):
    outcome = await run_batch(subscription(method), batch(1, 2, 3), seconds=0)

    assert (outcome.handled, outcome.failure) == (1, None)
    assert worker.seen == [1]


@both("block", "block_later")
async def test_a_batch_without_a_limit_is_handled_to_its_end(subscription, batch, worker, method):
    outcome = await run_batch(subscription(method), batch(1, 2, 3))

    assert outcome.handled == 3


@both("block", "block_later")
async def test_the_loop_has_its_turn_during_a_long_batch(subscription, batch, worker, method):
    turns = []

    async def beside():
        while True:
            turns.append(len(worker.seen))
            await asyncio.sleep(0)

    task = asyncio.ensure_future(beside())
    await run_batch(subscription(method), batch(1, 2, 3))
    task.cancel()

    assert {1, 2, 3}.issubset(turns)


@both("quiet", "quiet_later")
async def test_an_empty_batch_is_handled_at_once(subscription, method):
    assert await run_batch(subscription(method), []) == (0, [], None)


# --- batches that share their turns


async def test_functions_of_two_batches_take_turns(subscription, batch, worker):
    blocking, turns = subscription("block"), asyncio.Lock()

    await asyncio.gather(
        *(run_batch(blocking, batch(n, n + 1, n + 2), turns=turns) for n in (10, 20))
    )

    assert worker.seen == [10, 20, 11, 21, 12, 22]


async def test_the_loop_comes_round_after_one_slice_however_many_batches_are_ready(
    subscription, batch, worker
):
    blocking, turns, handled = subscription("block"), asyncio.Lock(), []

    async def beside():
        while True:
            handled.append(len(worker.seen))
            await asyncio.sleep(0)

    task = asyncio.ensure_future(beside())
    await asyncio.gather(*(run_batch(blocking, batch(n, n + 1), turns=turns) for n in range(5)))
    task.cancel()

    assert set(range(10)).issubset(handled)


@pytest.mark.parametrize("method", ["double", "fail_at_2", "return_future"])
async def test_the_turn_is_given_back_at_the_end(subscription, batch, method):
    turns = asyncio.Lock()

    await run_batch(subscription(method), batch(1, 2, 3), turns=turns)

    assert not turns.locked()


async def test_a_coroutine_handler_holds_up_no_turn(subscription, batch, turns):
    shared = asyncio.Lock()
    task = asyncio.ensure_future(run_batch(subscription("wait_for_ever"), batch(1), turns=shared))
    await turns()

    assert not shared.locked()
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("times", [1, 2])
async def test_the_turn_is_given_back_when_a_batch_is_cancelled(
    subscription, batch, worker, until, times
):
    # While others take their turns, and also when the first request is still under way.
    blocking, turns = subscription("block"), asyncio.Lock()
    cancelled, *others = (
        asyncio.ensure_future(run_batch(blocking, batch(n, n + 1, n + 2), turns=turns))
        for n in (10, 20, 30)
    )
    await until(lambda: 10 in worker.seen)

    for _ in range(times):
        cancelled.cancel()
        await asyncio.sleep(0)

    results = await asyncio.gather(cancelled, *others, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert [result.handled for result in results[1:]] == [3, 3]
    assert not turns.locked()


# --- whose event an emit belongs to


@both("leave_running", "leave_running_later")
async def test_an_emit_after_the_handler_has_ended_raises(
    subscription, batch, worker, recorder, method
):
    outcome = await run_batch(subscription(method), batch(1, 2))

    for task in worker.left_running:
        with pytest.raises(EmitError, match="after its handler had ended"):
            await task
    assert outcome.emitted == []
    assert recorder.sent == []


async def test_an_emit_while_the_loop_has_its_turn_belongs_to_no_event(subscription, batch, worker):
    outcome = await run_batch(subscription("leave_running_and_block"), batch(1, 2, 3))

    for task in worker.left_running:
        with pytest.raises(EmitError, match="after its handler had ended"):
            await task
    assert outcome.emitted == []


async def test_emits_of_tasks_that_the_handler_awaits_belong_to_its_event(subscription, batch):
    outcome = await run_batch(subscription("emit_in_tasks"), batch(10, 20))

    assert sorted(values(outcome)) == [b"[10]", b"[11]", b"[12]", b"[20]", b"[21]", b"[22]"]
    assert [key for _, key, *_ in outcome.emitted] == [b"key10"] * 3 + [b"key20"] * 3


async def test_batches_that_run_at_once_keep_their_events_apart(subscription, batch):
    doubling = subscription("double_later")

    outcomes = await asyncio.gather(*(run_batch(doubling, batch(n, n + 1)) for n in (10, 20, 30)))

    assert [values(outcome) for outcome in outcomes] == [
        [b"[20]", b"[22]"],
        [b"[40]", b"[42]"],
        [b"[60]", b"[62]"],
    ]


@both("double", "double_later")
async def test_nothing_is_being_handled_after_a_batch(subscription, batch, method):
    await run_batch(subscription(method), batch(1))

    assert current_outbox.get() is None


def test_nothing_is_being_handled_after_a_function(subscription, record):
    run(subscription("fail_at_2"), record(b"[2]"))

    assert current_outbox.get() is None


# --- being cancelled


async def test_cancelling_ends_the_whole_batch(subscription, batch, turns):
    task = asyncio.ensure_future(run_batch(subscription("wait_for_ever"), batch(1, 2)))
    await turns()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_of_the_handlers_own_making_is_its_failure(subscription, record):
    # Nobody cancelled the batch: passing it on would end the agent without a word.
    outcome = await run_async(subscription("await_a_cancelled_task"), record(b"[1]"))

    assert (outcome.handled, outcome.emitted) == (0, [])
    assert outcome.failure is not None


def test_a_handler_wrapped_by_a_decorator_is_still_awaited(recorder, record):
    def logged(method):
        @functools.wraps(method)
        async def wrapper(*args):
            return await method(*args)

        return wrapper

    class Decorated(Worker):
        later = logged(Worker.double_later)

    decorated = Decorated("m.decorated", recorder)
    recorder.on("m.decorated", "in", decorated.later)
    (subscription,) = recorder.graph.subscriptions(recorder.topic("m.decorated", "in"))

    outcome = asyncio.run(run_async(subscription, record(b"[1]")))

    assert values(outcome) == [b"[2]"]
