import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

import pytest

from aiopype import Processor
from aiopype.emitter import current_outbox
from aiopype.errors import CodecError, EmitError, HandlerError
from aiopype.execution import Failure, run, run_async, run_batch
from aiopype.execution.calls import SLICE_SECONDS


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
        self.threads = []
        self.errors = []
        self.running = self.most = self.waiting = 0
        self.lock = threading.Lock()
        self.go = threading.Event()

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
        until = monotonic() + SLICE_SECONDS * 1.5
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
        self.waiting += 1
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.waiting -= 1

    async def await_a_cancelled_task(self, n):
        self.emit("out", n)
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    async def wait_a_little(self, n):
        await asyncio.sleep(0.01)
        self.emit("out", n)

    async def refuse_to_end(self, n):
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.emit("out", n)

    def meet(self, n):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.seen.append(n)
        until = monotonic() + 0.02
        while monotonic() < until:
            sleep(0.001)
        self.emit("out", n)
        with self.lock:
            self.running -= 1

    async def meet_later(self, n):
        self.running += 1
        self.most = max(self.most, self.running)
        self.seen.append(n)
        await asyncio.sleep(0.001 * (9 - n))
        self.emit("out", n)
        self.running -= 1

    def note_thread(self, n):
        self.threads.append(threading.current_thread().name)
        self.emit("out", n)

    def wait_for_go(self, n):
        self.waiting += 1
        self.go.wait(10)
        try:
            self.emit("out", n)
        except EmitError as error:
            self.errors.append(error)
            raise

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
    assert outcome[:3] == (1, [(out, b"k", b"[42]", 7, True)], [])


@both("double", "double_later")
async def test_either_kind_is_run_over_one_record(subscription, record, recorder, method):
    outcome = await run_async(subscription(method), record(b"[21]", b"k", 7))

    out = recorder.topic("m.worker", "out")
    assert outcome[:3] == (1, [(out, b"k", b"[42]", 7, True)], [])


def test_a_failed_function_gives_its_error_and_no_events(subscription, record):
    failing, two = subscription("fail_at_2"), record(b"[2]")

    outcome = run(failing, two)

    assert (outcome.handled, outcome.emitted) == (1, [])
    assert outcome.failures[0][:2] == (failing, two)
    assert isinstance(outcome.failures[0].error, LookupError)


@both("fail_at_2", "fail_at_2_later")
async def test_either_kind_that_fails_gives_its_error_and_no_events(subscription, record, method):
    outcome = await run_async(subscription(method), record(b"[2]"))

    assert (outcome.handled, outcome.emitted) == (1, [])
    assert isinstance(outcome.failures[0].error, LookupError)


def test_a_failure_reads_as_a_sentence(subscription, record):
    failure = Failure(subscription("quiet"), record(), LookupError("two"))

    assert str(failure) == "LookupError in m.worker.in -> m.worker.quiet: two"


@both("quiet", "quiet_later")
@pytest.mark.parametrize("value", [b"garbage", None, b"1"], ids=["garbage", "none", "bare"])
async def test_a_value_that_cannot_be_decoded_is_a_failure(subscription, record, method, value):
    outcome = await run_async(subscription(method), record(value))

    assert isinstance(outcome.failures[0].error, CodecError)


@both("quiet", "quiet_later")
async def test_arguments_that_do_not_fit_the_handler_are_a_failure(subscription, record, method):
    outcome = await run_async(subscription(method), record(b"[1, 2, 3]"))

    assert isinstance(outcome.failures[0].error, CodecError)


@both("fail_falsely", "fail_falsely_later")
async def test_an_error_that_is_false_is_a_failure_too(subscription, record, method):
    outcome = await run_async(subscription(method), record(b"[1]"))

    assert outcome.handled == 1
    assert isinstance(outcome.failures[0].error, Falsy)


async def test_a_stop_iteration_is_a_failure_and_ends_nothing(subscription, record):
    outcome = await run_async(subscription("stop_iteration"), record(b"[1]"))

    assert isinstance(outcome.failures[0].error, StopIteration)


@pytest.mark.parametrize("method", ["return_coroutine", "return_future"])
async def test_a_function_that_returns_an_awaitable_fails(subscription, record, method):
    outcome = await run_async(subscription(method), record(b"[1]"))

    assert isinstance(outcome.failures[0].error, HandlerError)
    assert "declare the handler with `async def`" in str(outcome.failures[0].error)


def test_a_function_run_without_a_loop_that_returns_a_coroutine_fails(subscription, record):
    outcome = run(subscription("return_coroutine"), record(b"[1]"))

    assert isinstance(outcome.failures[0].error, HandlerError)


# --- many records


@both("double", "double_later")
async def test_a_batch_is_handled_in_order(subscription, batch, worker, method):
    outcome = await run_batch(subscription(method), batch(1, 2, 3))

    assert (outcome.handled, outcome.failures) == (3, [])
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
async def test_a_failure_drops_what_it_emitted_and_the_batch_goes_on(
    subscription, batch, worker, method
):
    records = batch(1, 2, 3)

    outcome = await run_batch(subscription(method), records)

    assert outcome.handled == 3
    assert values(outcome) == [b"[2]", b"[-1]", b"[6]", b"[-3]"]
    assert [failure.record for failure in outcome.failures] == [records[1]]
    assert worker.seen == [1, 2, 3]


@both("block", "block_later")
async def test_a_batch_ends_when_its_time_is_over(subscription, batch, worker, method):
    outcome = await run_batch(subscription(method), batch(1, 2, 3), seconds=0)

    assert (outcome.handled, outcome.failures) == (1, [])
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
    outcome = await run_batch(subscription(method), [])

    assert outcome[:3] == (0, [], [])


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

    assert (outcome.handled, outcome.emitted) == (1, [])
    assert "awaited a task that was cancelled" in str(outcome.failures[0].error)


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


# --- events of a key that failed


EVERY_WAY = pytest.mark.parametrize(
    ("method", "conditions"),
    [
        pytest.param("fail_at_2", {}, id="function"),
        pytest.param("fail_at_2_later", {}, id="coroutine"),
        pytest.param("fail_at_2", {"blocking": True}, id="in a thread"),
        pytest.param("fail_at_2", {"blocking": True, "concurrency": 3}, id="in threads"),
        pytest.param("fail_at_2_later", {"concurrency": 3}, id="at once"),
    ],
)


@pytest.fixture
def under(worker, subscription):
    """Subscribes a method of the worker under certain conditions."""

    def subscribe(method, conditions):
        for name, value in conditions.items():
            setattr(worker, name, value)
        return subscription(method)

    return subscribe


def numbers_of(failures):
    return [(failure.record.offset, type(failure.error)) for failure in failures]


@EVERY_WAY
async def test_later_events_of_a_key_that_failed_are_not_tried(
    under, record, worker, method, conditions
):
    records = [record(b"[%d]" % n, key, 0, n) for n, key in enumerate([b"a", b"b", b"a", b"a"], 1)]
    records.insert(2, record(b"[9]", b"b", 0, 9))
    records.append(record(b"[8]", b"b", 0, 8))

    outcome = await run_batch(under(method, conditions), records)

    assert outcome.handled == 6
    assert numbers_of(outcome.failures) == [
        (2, LookupError), (9, type(None)), (8, type(None)),
    ]  # fmt: skip
    assert sorted(worker.seen) == [1, 2, 3, 4]
    assert values(outcome) == [b"[2]", b"[-1]", b"[6]", b"[-3]", b"[8]", b"[-4]"]


@EVERY_WAY
async def test_events_without_a_key_hold_nobody(under, record, worker, method, conditions):
    records = [record(b"[%d]" % n, None, 0, n) for n in (1, 2, 2, 3)]

    outcome = await run_batch(under(method, conditions), records)

    assert numbers_of(outcome.failures) == [(2, LookupError), (2, LookupError)]
    assert sorted(worker.seen) == [1, 2, 2, 3]


@EVERY_WAY
async def test_events_of_a_key_that_is_held_are_not_tried(under, batch, worker, method, conditions):
    outcome = await run_batch(under(method, conditions), batch(1, 3, 4), held={b"key3"})

    assert outcome.handled == 3
    assert numbers_of(outcome.failures) == [(3, type(None))]
    assert sorted(worker.seen) == [1, 4]


@EVERY_WAY
async def test_a_failure_that_is_final_holds_nobody(under, record, worker, method, conditions):
    # What is a dead letter at once has nothing to wait for.
    records = [record(b"garbage", b"a", 0, 1), record(b"[3]", b"a", 0, 2)]

    outcome = await run_batch(under(method, conditions), records)

    assert numbers_of(outcome.failures) == [(1, CodecError)]
    assert worker.seen == [3]


def test_an_event_that_was_not_tried_reads_as_a_sentence(subscription, record):
    failure = Failure(subscription("quiet"), record(), None)

    assert str(failure) == "m.worker.in -> m.worker.quiet waits for an event of the same key"


# --- the time limit of a call


TIMED = pytest.mark.parametrize("concurrency", [1, 2])


@TIMED
async def test_a_call_that_takes_too_long_is_cancelled_and_fails(under, batch, concurrency):
    limited = under("wait_for_ever", {"timeout_seconds": 0.02, "concurrency": concurrency})

    outcome = await run_batch(limited, batch(1, 2))

    assert numbers_of(outcome.failures) == [(1, TimeoutError), (2, TimeoutError)]
    assert "took longer than 0.02 s and was cancelled" in str(outcome.failures[0].error)
    assert asyncio.current_task().cancelling() == 0


async def test_a_single_call_that_takes_too_long_fails(under, record):
    outcome = await run_async(under("wait_for_ever", {"timeout_seconds": 0.02}), record(b"[1]"))

    assert isinstance(outcome.failures[0].error, TimeoutError)
    assert asyncio.current_task().cancelling() == 0


async def test_many_short_calls_may_take_longer_together(under, batch, worker):
    limited = under("wait_a_little", {"timeout_seconds": 0.1})

    outcome = await run_batch(limited, batch(*range(20)))

    assert (outcome.handled, outcome.failures) == (20, [])


@TIMED
async def test_a_call_that_ignores_its_cancellation_has_failed_all_the_same(
    under, batch, concurrency
):
    limited = under("refuse_to_end", {"timeout_seconds": 0.02, "concurrency": concurrency})

    outcome = await run_batch(limited, batch(1))

    assert numbers_of(outcome.failures) == [(1, TimeoutError)]
    assert outcome.emitted == []


async def test_a_cancellation_from_outside_passes_through_a_single_call(
    subscription, record, turns
):
    task = asyncio.ensure_future(run_async(subscription("wait_for_ever"), record(b"[1]")))
    await turns()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_single_call_goes_on_after_it_has_waited(subscription, record):
    outcome = await run_async(subscription("wait_a_little"), record(b"[1]"))

    assert values(outcome) == [b"[1]"]


# --- several at once


AT_ONCE = pytest.mark.parametrize(
    ("method", "conditions"),
    [
        pytest.param("meet_later", {"concurrency": 3}, id="coroutines"),
        pytest.param("meet", {"concurrency": 3, "blocking": True}, id="threads"),
    ],
)


@AT_ONCE
async def test_as_many_events_as_its_component_says_are_handled_at_once(
    under, batch, worker, method, conditions
):
    outcome = await run_batch(under(method, conditions), batch(*range(9)))

    assert worker.most == 3
    assert values(outcome) == [b"[%d]" % n for n in range(9)]


@AT_ONCE
async def test_events_of_a_key_are_handled_one_after_the_other(
    under, record, worker, method, conditions
):
    records = [record(b"[%d]" % n, b"same", 0, n) for n in range(5)]

    outcome = await run_batch(under(method, conditions), records)

    assert worker.most == 1
    assert worker.seen == [0, 1, 2, 3, 4]
    assert values(outcome) == [b"[%d]" % n for n in range(5)]


@AT_ONCE
async def test_no_event_is_begun_when_the_time_is_over_and_those_begun_are_waited_for(
    under, batch, worker, method, conditions
):
    outcome = await run_batch(under(method, conditions), batch(*range(9)), seconds=0)

    assert outcome.handled == len(worker.seen) == 1
    assert values(outcome) == [b"[0]"]


async def test_no_more_than_twice_as_many_are_taken_in(under, record, worker, until):
    records = [record(b"[%d]" % n, b"same", 0, n) for n in range(50)]
    concurrent = under("wait_for_ever", {"concurrency": 2})
    admitted = []

    class Counted(list):
        def __getitem__(self, place):
            admitted.append(place)
            return super().__getitem__(place)

    task = asyncio.ensure_future(run_batch(concurrent, Counted(records)))
    await until(lambda: worker.waiting)
    task.cancel()
    await asyncio.wait([task])

    assert set(admitted) == {0, 1, 2, 3}


async def test_cancelling_ends_all_that_are_handled_at_once(under, batch, worker, until):
    concurrent = under("wait_for_ever", {"concurrency": 3})
    task = asyncio.ensure_future(run_batch(concurrent, batch(1, 2, 3, 4)))
    await until(lambda: worker.waiting == 3)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert worker.waiting == 0


async def test_the_loop_has_its_turn_while_several_are_handled(under, batch, worker):
    concurrent = under("block_later", {"concurrency": 3})
    seen = []

    async def beside():
        while True:
            seen.append(len(worker.seen))
            await asyncio.sleep(0)

    task = asyncio.ensure_future(beside())
    await run_batch(concurrent, batch(*range(6)))
    task.cancel()

    assert len(set(seen)) >= 3


# --- in threads


async def test_a_blocking_handler_runs_in_a_thread_of_the_given_ones(under, batch, worker):
    with ThreadPoolExecutor(1, "mine") as threads:
        outcome = await run_batch(
            under("note_thread", {"blocking": True}), batch(1, 2), threads=threads
        )

    assert {name.partition("_")[0] for name in worker.threads} == {"mine"}
    assert values(outcome) == [b"[1]", b"[2]"]


async def test_the_loop_runs_on_while_a_handler_blocks(under, batch, worker, until):
    blocking = under("wait_for_go", {"blocking": True})
    task = asyncio.ensure_future(run_batch(blocking, batch(1)))
    await until(lambda: worker.waiting)

    worker.go.set()

    assert values(await task) == [b"[1]"]


async def test_a_blocking_batch_ends_when_its_time_is_over(under, batch, worker):
    outcome = await run_batch(under("block", {"blocking": True}), batch(1, 2, 3), seconds=0)

    assert (outcome.handled, worker.seen) == (1, [1])


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_a_cancelled_batch_does_not_wait_for_its_thread_whose_emits_are_refused(
    under, batch, worker, until, concurrency
):
    blocking = under("wait_for_go", {"blocking": True, "concurrency": concurrency})
    task = asyncio.ensure_future(run_batch(blocking, batch(1, 2, 3, 4, 5)))
    await until(lambda: worker.waiting == concurrency)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    worker.go.set()

    await until(lambda: len(worker.errors) == concurrency)
    assert all("after its handler had ended" in str(error) for error in worker.errors)
    assert worker.waiting == concurrency
