"""What happens to an event between emit and handler, the same in process and on Kafka."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiopype import Manager, PermanentError, Processor, RestartPolicy, Source
from aiopype.errors import CodecError, EmitError, GraphError
from aiopype.states import State


class Emits(Source):
    """Emits what it was given, then ends."""

    def __init__(
        self, name: str, handler: Any, calls: list[tuple[tuple[Any, ...], dict[str, Any]]]
    ):
        super().__init__(name, handler)
        self.calls = calls

    async def start(self) -> None:
        for args, kwargs in self.calls:
            await self.emit_async("event", *args, **kwargs)


class Collects(Processor):
    """Keeps the arguments of each call."""

    def __init__(self, name: str, handler: Any) -> None:
        super().__init__(name, handler)
        self.got: list[Any] = []

    def take(self, *args: Any, **kwargs: Any) -> None:
        self.got.append((args, kwargs) if kwargs else args)

    async def take_async(self, *args: Any) -> None:
        await asyncio.sleep(0)
        self.got.append(args)


def pipeline(calls: list[Any]) -> type[Manager]:
    """A manager without a name, with a source that emits `calls` and two collectors."""

    class Pipeline(Manager):
        def __init__(self, handler: Any) -> None:
            super().__init__(handler)
            self.source = Emits(self.build_processor_name("source"), handler, calls)
            self.first = Collects(self.build_processor_name("first"), handler)
            self.second = Collects(self.build_processor_name("second"), handler)
            self.wire()

        def wire(self) -> None:
            self.source.on("event", self.first.take)

    return Pipeline


def named(name: str, manager: type[Manager]) -> type[Manager]:
    return type(manager.__name__, (manager,), {"name": name})


@pytest.mark.parametrize(
    ("args", "kwargs", "received"),
    [
        pytest.param((1, "two", None), {}, (1, "two", None), id="several positional arguments"),
        pytest.param(({"a": [1]},), {}, ({"a": [1]},), id="one object"),
        pytest.param(([1, 2],), {}, ([1, 2],), id="one list"),
        pytest.param((7,), {}, (7,), id="one scalar"),
        pytest.param((), {}, (), id="no argument"),
        pytest.param(({"a": 1}, {"b": 2}), {}, ({"a": 1}, {"b": 2}), id="two objects"),
        pytest.param((1,), {"by": "x"}, ((1,), {"by": "x"}), id="keyword arguments"),
        pytest.param(((1, (2,)),), {}, ([1, [2]],), id="tuples arrive as lists"),
        pytest.param((float("nan"), float("inf")), {}, (None, None), id="NaN arrives as None"),
    ],
)
async def test_a_handler_gets_the_arguments_that_were_emitted(
    run: Any, name: str, args: Any, kwargs: Any, received: Any
) -> None:
    ran = await run(
        named(name, pipeline([(args, kwargs)])), until=lambda r: bool(r.manager.first.got)
    )
    assert ran.manager.first.got == [received]


async def test_events_of_one_key_arrive_in_the_order_they_were_emitted(run: Any, name: str) -> None:
    calls = [((n,), {"key": f"k{n % 7}"}) for n in range(500)]
    ran = await run(named(name, pipeline(calls)), until=lambda r: len(r.manager.first.got) >= 500)
    numbers = [args[0] for args in ran.manager.first.got]
    for key in range(7):
        mine = [number for number in numbers if number % 7 == key]
        assert mine == list(range(key, 500, 7))


async def test_events_of_a_source_without_keys_arrive_in_order(run: Any, name: str) -> None:
    calls = [((n,), {}) for n in range(300)]
    ran = await run(named(name, pipeline(calls)), until=lambda r: len(r.manager.first.got) >= 300)
    assert ran.manager.first.got == [(n,) for n in range(300)]


async def test_every_subscription_of_an_event_gets_every_event(run: Any, name: str) -> None:
    class FanOut(pipeline([((n,), {}) for n in range(50)])):  # type: ignore[misc]
        def wire(self) -> None:
            self.source.on("event", self.first.take)
            self.source.on("event", self.second.take_async)

    ran = await run(
        named(name, FanOut),
        until=lambda r: len(r.manager.first.got) >= 50 and len(r.manager.second.got) >= 50,
    )
    assert ran.manager.first.got == ran.manager.second.got == [(n,) for n in range(50)]


@pytest.mark.parametrize("method", ["double", "double_async"])
async def test_functions_and_coroutine_functions_are_handlers_alike(
    run: Any, name: str, method: str
) -> None:
    class Doubles(Processor):
        def double(self, number: int) -> None:
            self.emit("double", number, 2 * number)

        async def double_async(self, number: int) -> None:
            await asyncio.sleep(0)
            await self.emit_async("double", number, 2 * number)

    class Chain(pipeline([((n,), {}) for n in range(20)])):  # type: ignore[misc]
        def wire(self) -> None:
            self.doubles = Doubles(self.build_processor_name("doubles"), self.handler)
            self.source.on("event", getattr(self.doubles, method))
            self.doubles.on("double", self.first.take)

    ran = await run(named(name, Chain), until=lambda r: len(r.manager.first.got) >= 20)
    assert ran.manager.first.got == [(n, 2 * n) for n in range(20)]


async def test_what_a_failing_handler_emitted_is_dropped_and_its_manager_goes_on(
    run: Any, name: str
) -> None:
    class Fails(Processor):
        def handle(self, number: int) -> None:
            self.emit("seen", number)
            if number == 3:
                raise PermanentError("three")

    class Failing(pipeline([((n,), {}) for n in range(6)])):  # type: ignore[misc]
        def wire(self) -> None:
            self.fails = Fails(self.build_processor_name("fails"), self.handler)
            self.source.on("event", self.fails.handle)
            self.fails.on("seen", self.first.take)

    ran = await run(named(name, Failing), until=lambda r: len(r.manager.first.got) >= 5)
    assert ran.manager.first.got == [(0,), (1,), (2,), (4,), (5,)]
    assert not ran.failures


async def test_a_source_that_raises_is_started_again_within_its_budget(run: Any, name: str) -> None:
    class Breaks(Source):
        starts = 0

        async def start(self) -> None:
            self.starts += 1
            raise OSError("no route")

    class Broken(Manager):
        restarts = RestartPolicy(first_delay_seconds=0.01, failures=2)

        def __init__(self, handler: Any) -> None:
            super().__init__(handler)
            self.source = Breaks(self.build_processor_name("source"), handler)

    def is_quarantined(ran: Any) -> bool:
        source = ran.supervisor.sources.get(f"{name}.source")
        return source is not None and source.state is State.QUARANTINED

    ran = await run(named(name, Broken), until=is_quarantined)
    assert ran.manager.source.starts == 3
    assert isinstance(ran.failures[f"{name}.source"], OSError)


async def test_a_manager_in_which_all_fails_leaves_the_others_running(run: Any, name: str) -> None:
    class Fails(Processor):
        def handle(self, number: int) -> None:
            raise PermanentError(number)

    class Breaks(Emits):
        async def start(self) -> None:
            await super().start()
            raise OSError("no route")

    class Failing(Manager):
        def __init__(self, handler: Any) -> None:
            super().__init__(handler)
            self.source = Breaks(self.build_processor_name("source"), handler, [((1,), {})])
            self.fails = Fails(self.build_processor_name("fails"), handler)
            self.source.on("event", self.fails.handle)

    class Patient(Emits):
        async def start(self) -> None:
            for number in range(30):
                await self.emit_async("event", number)
                await asyncio.sleep(0.05)

    class Healthy(Manager):
        def __init__(self, handler: Any) -> None:
            super().__init__(handler)
            self.source = Patient(self.build_processor_name("source"), handler, [])
            self.first = Collects(self.build_processor_name("first"), handler)
            self.source.on("event", self.first.take)

    ran = await run(
        named(f"{name}-a", Failing),
        named(f"{name}-b", Healthy),
        until=lambda r: len(r.managers[1].first.got) >= 30,
    )
    assert f"{name}-b" not in ran.failures
    assert ran.managers[1].first.got == [(n,) for n in range(30)]


async def test_emitting_after_the_handler_has_ended_raises(run: Any, name: str) -> None:
    class Leaves(Processor):
        def __init__(self, own: str, handler: Any) -> None:
            super().__init__(own, handler)
            self.errors: list[Exception] = []
            self.left: list[asyncio.Task[None]] = []

        async def handle(self, number: int) -> None:
            self.left.append(asyncio.create_task(self.late(number)))

        async def late(self, number: int) -> None:
            await asyncio.sleep(0.05)
            try:
                self.emit("late", number)
            except EmitError as error:
                self.errors.append(error)

    class Late(pipeline([((1,), {}), ((2,), {})])):  # type: ignore[misc]
        def wire(self) -> None:
            self.leaves = Leaves(self.build_processor_name("leaves"), self.handler)
            self.source.on("event", self.leaves.handle)
            self.leaves.on("late", self.first.take)

    def both(ran: Any) -> bool:
        tasks = ran.manager.leaves.left
        return len(tasks) == 2 and all(task.done() for task in tasks)

    ran = await run(named(name, Late), until=both)
    await asyncio.gather(*ran.manager.leaves.left)
    assert len(ran.manager.leaves.errors) == 2
    assert ran.manager.first.got == []


async def test_what_has_no_json_form_raises_where_it_is_emitted(run: Any, name: str) -> None:
    class Wrong(Processor):
        def __init__(self, own: str, handler: Any) -> None:
            super().__init__(own, handler)
            self.errors: list[str] = []

        def handle(self, number: int) -> None:
            for value in (object(), {"$args": 1}):
                try:
                    self.emit("wrong", value)
                except CodecError as error:
                    self.errors.append(str(error))
            self.emit("right", number)

    class Checked(pipeline([((1,), {})])):  # type: ignore[misc]
        def wire(self) -> None:
            self.wrong = Wrong(self.build_processor_name("wrong"), self.handler)
            self.source.on("event", self.wrong.handle)
            self.wrong.on("right", self.first.take)

    ran = await run(named(name, Checked), until=lambda r: bool(r.manager.first.got))
    assert len(ran.manager.wrong.errors) == 2
    assert "$args" in ran.manager.wrong.errors[1]


async def test_subscribing_after_the_start_raises(run: Any, name: str) -> None:
    ran = await run(named(name, pipeline([((1,), {})])), until=lambda r: bool(r.manager.first.got))
    with pytest.raises(GraphError, match="after the start"):
        ran.manager.source.on("event", ran.manager.second.take)


async def test_listeners_are_what_is_subscribed(run: Any, name: str) -> None:
    class Removed(pipeline([((1,), {})])):  # type: ignore[misc]
        def wire(self) -> None:
            self.source.on("event", self.first.take)
            self.source.on("event", self.second.take)
            self.source.on("other", self.second.take)
            assert self.source.listeners("event") == [self.first.take, self.second.take]
            self.source.remove_all_listeners("event")
            assert self.source.listeners("event") == []
            assert self.source.listeners("other") == [self.second.take]
            self.source.on("event", self.first.take)

    ran = await run(named(name, Removed), until=lambda r: bool(r.manager.first.got))
    assert ran.manager.second.got == []


async def test_a_source_that_always_runs_is_started_again(run: Any, name: str) -> None:
    class Again(pipeline([((1,), {})])):  # type: ignore[misc]
        run_always = True

    ran = await run(named(name, Again), until=lambda r: len(r.manager.first.got) >= 2)
    assert ran.manager.first.got[:2] == [(1,), (1,)]
    assert not ran.failures


async def test_an_event_that_nobody_subscribed_to_disturbs_nobody(run: Any, name: str) -> None:
    class Talks(Processor):
        def handle(self, number: int) -> None:
            self.emit("unheard", number)
            self.emit("heard", number)

    class Talking(pipeline([((n,), {}) for n in range(5)])):  # type: ignore[misc]
        def wire(self) -> None:
            self.talks = Talks(self.build_processor_name("talks"), self.handler)
            self.source.on("event", self.talks.handle)
            self.talks.on("heard", self.first.take)

    ran = await run(named(name, Talking), until=lambda r: len(r.manager.first.got) >= 5)
    assert ran.manager.first.got == [(n,) for n in range(5)]
