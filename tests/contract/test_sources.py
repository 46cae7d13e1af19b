"""What a source can rely on, the same in process and on Kafka."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiopype import DeadLetter, Manager, Processor, RestartPolicy, Source
from aiopype.errors import CircuitOpen, SourceSilent
from aiopype.inputs import RawInput
from aiopype.states import State

#: Restarts without a delay and without an end.
AT_ONCE = RestartPolicy(first_delay_seconds=0, last_delay_seconds=0, failures=10**6)


class Counts(Source):
    """Emits numbers from its position on; notes where it was when it started.

    Attributes:
        found: the positions at each start.
    """

    last = 20

    def __init__(self, name: str, handler: Any) -> None:
        super().__init__(name, handler)
        self.found: list[Any] = []

    async def start(self) -> None:
        self.found.append(self.position)
        for n in range((self.position or 0) + 1, self.last + 1):
            await self.step(n)

    async def step(self, n: int) -> None:
        self.checkpoint(n)
        await self.emit_async("number", n)


class Keeps(Processor):
    """Keeps the numbers and the letters it gets."""

    def __init__(self, name: str, handler: Any) -> None:
        super().__init__(name, handler)
        self.numbers: list[int] = []
        self.letters: list[DeadLetter] = []

    def take(self, number: int) -> None:
        self.numbers.append(number)

    def tell(self, letter: DeadLetter) -> None:
        self.letters.append(letter)


def pipeline(name: str, source: type[Source]) -> type[Manager]:
    """A manager whose source's numbers and letters are kept."""

    class Pipeline(Manager):
        restarts = AT_ONCE

        def __init__(self, handler: Any) -> None:
            super().__init__(handler)
            self.source: Any = source(self.build_processor_name("source"), handler)
            self.keeps = Keeps(self.build_processor_name("keeps"), handler)
            self.source.on("number", self.keeps.take)
            self.source.on("error", self.keeps.tell)

    return type("Pipeline", (Pipeline,), {"name": name})


def has(numbers: int = 0, letters: int = 0) -> Any:
    return lambda ran: (
        len(ran.manager.keeps.numbers) >= numbers and len(ran.manager.keeps.letters) >= letters
    )


def ended(ran: Any) -> bool:
    return state_of(ran) is State.ENDED


def state_of(ran: Any) -> State | None:
    """What its source does; on Kafka nothing is known of it before the group has assigned it."""
    status = ran.supervisor.sources.get(ran.manager.source.name)
    return None if status is None else status.state


def all_of(*conditions: Any) -> Any:
    return lambda ran: all(condition(ran) for condition in conditions)


# --- positions


async def test_a_source_that_never_ran_has_no_position(run: Any, name: str) -> None:
    ran = await run(pipeline(name, Counts), until=has(numbers=20))

    assert ran.manager.source.found == [None]
    assert ran.manager.keeps.numbers == list(range(1, 21))


@pytest.mark.parametrize("when", ["before", "between", "after"])
async def test_a_source_that_fails_goes_on_without_a_gap_and_without_a_repetition(
    run: Any, name: str, when: str
) -> None:
    class Fails(Counts):
        def fail(self, n: int, at: str) -> None:
            if at == when and n % 5 == 0 and len(self.found) <= n / 5:
                raise LookupError(f"{at} {n}")

        async def step(self, n: int) -> None:
            self.fail(n, "before")
            self.checkpoint(n)
            self.fail(n, "between")
            await self.emit_async("number", n)
            self.fail(n, "after")

    ran = await run(pipeline(name, Fails), until=all_of(has(numbers=20), ended))

    assert ran.manager.keeps.numbers == list(range(1, 21))
    after = [5, 10, 15, 20] if when == "after" else [4, 9, 14, 19]
    assert ran.manager.source.found == [None, *after]
    assert ran.supervisor.restarts[f"{name}.source"] == 4


async def test_a_position_may_be_anything_that_has_a_json_form(run: Any, name: str) -> None:
    class Fails(Source):
        found: Any = "nothing"

        async def start(self) -> None:
            if self.position is None:
                self.checkpoint({"page": (1, 2), "token": "é"})
                await self.emit_async("number", 1)
                assert self.position == {"page": [1, 2], "token": "é"}
                raise LookupError("mine")
            self.found = self.position
            await self.emit_async("number", 2)

    ran = await run(pipeline(name, Fails), until=has(numbers=2))

    assert ran.manager.source.found == {"page": [1, 2], "token": "é"}


async def test_what_was_flushed_is_durable_also_where_no_event_follows(run: Any, name: str) -> None:
    class Flushes(Source):
        found: Any = "nothing"

        async def start(self) -> None:
            if self.position is None:
                await self.emit_async("number", 1)
                self.checkpoint(7)
                await self.flush()
                self.checkpoint(8)
                raise LookupError("mine")
            self.found = self.position
            await self.emit_async("number", 2)

    ran = await run(pipeline(name, Flushes), until=has(numbers=2))

    assert ran.manager.source.found == 7
    assert ran.manager.keeps.numbers == [1, 2]


async def test_a_source_has_had_one_owner_at_least(run: Any, name: str) -> None:
    class Tells(Source):
        async def start(self) -> None:
            await self.emit_async("number", self.epoch)

    ran = await run(pipeline(name, Tells), until=has(numbers=1))

    assert ran.manager.keeps.numbers == [1]


# --- transactions


async def test_a_transaction_that_raises_is_as_if_it_had_not_been(run: Any, name: str) -> None:
    class Pages(Counts):
        async def step(self, n: int) -> None:
            if n % 4 != 1:
                return
            async with self.transaction():
                for item in range(n, n + 4):
                    await self.emit_async("number", item)
                    if item == 10 and len(self.found) < 3:
                        raise LookupError("in the middle of a page")
                self.checkpoint(n + 3)

    ran = await run(pipeline(name, Pages), until=all_of(has(numbers=20), ended))

    assert ran.manager.keeps.numbers == list(range(1, 21))
    assert ran.manager.source.found == [None, 8, 8]


async def test_in_a_transaction_emit_is_as_good_and_nothing_waits_for_room(
    run: Any, name: str
) -> None:
    count = 6_000  # more than the outbox of a source has room for

    class Much(Source):
        async def start(self) -> None:
            async with self.transaction():
                for n in range(count):
                    self.emit("number", n)

    ran = await run(pipeline(name, Much), until=has(numbers=count))

    assert ran.manager.keeps.numbers == list(range(count))


# --- what cannot be used


class Rejects(Source):
    async def start(self) -> None:
        for n in range(3):
            await self.receive(RawInput("frame", b"%d" % n if n != 1 else b"\xff", 7.0))

    async def take(self, raw: RawInput) -> None:
        try:
            number = int(raw.data)
        except ValueError as error:
            await self.reject(raw, error)
        else:
            await self.emit_async("number", number)


class RejectsTogether(Rejects):
    async def take(self, raw: RawInput) -> None:
        async with self.transaction():
            await super().take(raw)


@pytest.mark.parametrize("source", [Rejects, RejectsTogether])
async def test_what_cannot_be_used_is_a_dead_letter_and_the_source_goes_on(
    run: Any, name: str, source: type[Source]
) -> None:
    ran = await run(pipeline(name, source), until=has(numbers=2, letters=1))

    (letter,) = ran.manager.keeps.letters
    assert (letter.component, letter.error, letter.value) == (
        f"{name}.source", "ValueError", b"\xff",
    )  # fmt: skip
    assert ran.manager.keeps.numbers == [0, 2]
    assert not ran.failures


async def test_the_letters_of_a_transaction_that_raises_are_as_if_they_had_not_been(
    run: Any, name: str
) -> None:
    class Fails(Counts):
        async def start(self) -> None:
            self.found.append(self.position)
            async with self.transaction():
                await self.reject(RawInput("row", b"x", 7.0), ValueError("no row"))
                if len(self.found) == 1:
                    raise LookupError("mine")
                await self.emit_async("number", 1)

    ran = await run(pipeline(name, Fails), until=all_of(has(numbers=1, letters=1), ended))

    assert len(ran.manager.keeps.letters) == 1


# --- how it fails


async def test_a_source_that_is_silent_is_started_again(run: Any, name: str) -> None:
    errors: list[BaseException] = []

    class Quiet(Counts):
        expect_every = 0.1

        async def step(self, n: int) -> None:
            await super().step(n)
            if n == 10 and len(self.found) == 1:
                await asyncio.get_running_loop().create_future()

        async def start(self) -> None:
            try:
                await super().start()
            except asyncio.CancelledError as error:
                errors.append(error)
                raise

    seen: list[BaseException] = []

    def until(ran: Any) -> bool:
        seen.extend(ran.failures.values())
        return bool(has(numbers=20)(ran))

    ran = await run(pipeline(name, Quiet), until=until)

    assert ran.manager.keeps.numbers == list(range(1, 21))
    assert ran.manager.source.found == [None, 10]
    assert len(errors) == 1
    assert all(isinstance(error, SourceSilent) for error in seen)


async def test_a_source_that_says_that_its_upstream_lives_is_not_silent(
    run: Any, name: str
) -> None:
    class Alive(Counts):
        expect_every = 0.2
        last = 1

        async def start(self) -> None:
            for _ in range(20):
                await asyncio.sleep(0.02)
                self.heard()
            await super().start()

    ran = await run(pipeline(name, Alive), until=has(numbers=1))

    assert ran.supervisor.restarts[f"{name}.source"] == 0


async def test_a_source_whose_circuit_opens_is_left_alone_and_its_neighbours_run_on(
    run: Any, name: str
) -> None:
    class Refused(Counts):
        async def start(self) -> None:
            await super().start()
            raise CircuitOpen("10 errors in a row")

    def left_alone(ran: Any) -> bool:
        return state_of(ran) is State.QUARANTINED

    ran = await run(pipeline(name, Refused), until=all_of(has(numbers=20), left_alone))

    assert ran.manager.source.found == [None]
    assert isinstance(ran.failures[f"{name}.source"], CircuitOpen)
    assert ran.supervisor.is_running(name)
    assert ran.manager.keeps.numbers == list(range(1, 21))
