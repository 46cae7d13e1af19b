"""What becomes of events whose handler fails, the same in process and on Kafka."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiopype import DeadLetter, Manager, PermanentError, Processor, Retry, Source


class Emits(Source):
    """Emits `event(n)` for some numbers, with the key that `key_of` gives, then ends."""

    numbers: tuple[int, ...] = tuple(range(6))

    def key_of(self, number: int) -> str | None:
        return f"k{number % 2}"

    async def start(self) -> None:
        for number in self.numbers:
            await self.emit_async("event", number, key=self.key_of(number))


class Fails(Processor):
    """Emits `seen(n)`, after it has failed with 3 as often as `times` says."""

    retry = Retry(tries=4, first_delay_seconds=0.01)
    times = 10**6
    error: type[Exception] = ValueError

    def __init__(self, name: str, handler: Any) -> None:
        super().__init__(name, handler)
        self.calls: list[int] = []

    def handle(self, number: int) -> None:
        self.calls.append(number)
        self.emit("seen", number)
        if number == 3 and self.calls.count(3) <= self.times:
            raise self.error("three")

    async def handle_async(self, number: int) -> None:
        self.handle(number)

    def emit_error(self, number: int) -> None:
        try:
            raise OSError("no route")
        except OSError as error:
            self.emit("error", error, number, when="now")

    def emit_text(self, number: int) -> None:
        self.emit("error", "no route", number)

    def emit_much(self, number: int) -> None:
        self.emit("seen", "x" * 20_000_000 if number == 3 else number)


class Keeps(Processor):
    """Keeps the numbers and the letters it gets."""

    retry = Retry(tries=2, first_delay_seconds=0.01)

    def __init__(self, name: str, handler: Any) -> None:
        super().__init__(name, handler)
        self.numbers: list[int] = []
        self.letters: list[DeadLetter] = []

    def take(self, number: int) -> None:
        self.numbers.append(number)

    def tell(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    def tell_and_fail(self, letter: DeadLetter) -> None:
        self.letters.append(letter)
        raise ValueError("told")


def pipeline(
    name: str, method: str = "handle", tell: str = "tell", **attributes: Any
) -> type[Manager]:
    """A manager whose processor fails; its errors, and what it emits, are kept."""

    class Pipeline(Manager):
        def __init__(self, handler: Any) -> None:
            super().__init__(handler)
            self.source = Emits(self.build_processor_name("source"), handler)
            self.fails = type("Fails", (Fails,), attributes)(
                self.build_processor_name("fails"), handler
            )
            self.keeps = Keeps(self.build_processor_name("keeps"), handler)
            self.source.on("event", getattr(self.fails, method))
            self.fails.on("seen", self.keeps.take)
            self.fails.on("error", getattr(self.keeps, tell))
            self.keeps.on("error", self.keeps.tell)

    return type("Pipeline", (Pipeline,), {"name": name})


def has(numbers: int = 0, letters: int = 0) -> Any:
    return lambda ran: (
        len(ran.manager.keeps.numbers) >= numbers and len(ran.manager.keeps.letters) >= letters
    )


@pytest.mark.parametrize("method", ["handle", "handle_async"])
async def test_a_handler_that_fails_twice_and_then_succeeds_gives_its_outputs_once(
    run: Any, name: str, method: str
) -> None:
    ran = await run(pipeline(name, method, times=2), until=has(numbers=6))

    assert sorted(ran.manager.keeps.numbers) == [0, 1, 2, 3, 4, 5]
    assert ran.manager.fails.calls.count(3) == 3
    assert ran.manager.keeps.letters == []
    assert not ran.failures


async def test_events_of_a_key_keep_their_order_though_one_is_tried_again(
    run: Any, name: str
) -> None:
    ran = await run(pipeline(name, times=2), until=has(numbers=6))

    assert [n for n in ran.manager.keeps.numbers if n % 2] == [1, 3, 5]


@pytest.mark.parametrize("method", ["handle", "handle_async"])
async def test_an_event_that_fails_for_good_goes_to_the_error_event_with_its_original(
    run: Any, name: str, method: str
) -> None:
    ran = await run(pipeline(name, method), until=has(numbers=5, letters=1))

    (letter,) = ran.manager.keeps.letters
    assert (letter.component, letter.error, letter.message) == (
        f"{name}.fails", "ValueError", "three",
    )  # fmt: skip
    assert (letter.key, letter.value, letter.tries) == (b"k1", b"[3]", 4)
    assert letter.topic == f"{name}.source.event"
    assert letter.subscription == f"{name}.source.event -> {name}.fails.{method}"
    assert "ValueError: three" in letter.traceback
    assert not ran.failures


async def test_the_neighbours_of_a_failing_event_are_handled(run: Any, name: str) -> None:
    ran = await run(pipeline(name), until=has(numbers=5, letters=1))

    assert sorted(ran.manager.keeps.numbers) == [0, 1, 2, 4, 5]


async def test_a_permanent_error_is_not_tried_again(run: Any, name: str) -> None:
    ran = await run(pipeline(name, error=PermanentError), until=has(numbers=5, letters=1))

    (letter,) = ran.manager.keeps.letters
    assert (letter.tries, letter.error) == (1, "aiopype.errors.PermanentError")
    assert ran.manager.fails.calls.count(3) == 1


async def test_an_exception_that_the_user_emits_is_a_letter_without_an_original(
    run: Any, name: str
) -> None:
    ran = await run(pipeline(name, "emit_error"), until=has(letters=6))

    letter = next(each for each in ran.manager.keeps.letters if each.args == (3,))
    assert (letter.component, letter.error, letter.message) == (
        f"{name}.fails", "OSError", "no route",
    )  # fmt: skip
    assert letter.kwargs == {"when": "now"}
    assert letter.traceback.startswith("Traceback")
    assert (letter.topic, letter.value, letter.subscription) == (None, None, None)


async def test_a_text_that_the_user_emits_is_a_letter_too(run: Any, name: str) -> None:
    ran = await run(pipeline(name, "emit_text"), until=has(letters=6))

    assert {(each.error, each.message) for each in ran.manager.keeps.letters} == {("", "no route")}


async def test_a_failing_handler_of_errors_does_not_go_on_for_ever(run: Any, name: str) -> None:
    ran = await run(
        pipeline(name, tell="tell_and_fail", error=PermanentError),
        until=has(numbers=5, letters=2),
    )

    # Tried twice, and the letter of that is handled by nobody, though somebody is subscribed.
    assert [letter.component for letter in ran.manager.keeps.letters] == [f"{name}.fails"] * 2
    assert not ran.failures


async def test_an_output_too_large_for_its_topic_is_a_dead_letter_at_once(
    run: Any, name: str
) -> None:
    ran = await run(pipeline(name, "emit_much"), until=has(numbers=5, letters=1))

    (letter,) = ran.manager.keeps.letters
    assert (letter.tries, letter.error) == (1, "aiopype.errors.OutputTooLarge")
    assert f"topics/{name}.toml" in letter.message
    assert sorted(ran.manager.keeps.numbers) == [0, 1, 2, 4, 5]


async def test_a_value_that_does_not_fit_its_handler_is_a_dead_letter_at_once(
    run: Any, name: str
) -> None:
    class Typed(Fails):
        def handle(self, number: bool) -> None:
            raise AssertionError(number)

    ran = await run(pipeline(name, handle=Typed.handle), until=has(letters=6))

    assert {(letter.tries, letter.error) for letter in ran.manager.keeps.letters} == {
        (1, "aiopype.errors.CodecError")
    }
    assert sorted(letter.value for letter in ran.manager.keeps.letters) == [
        b"[%d]" % n for n in range(6)
    ]


@pytest.mark.parametrize(
    ("method", "conditions"),
    [
        ("handle", {"blocking": True}),
        ("handle", {"blocking": True, "concurrency": 2}),
        ("handle_async", {"concurrency": 2}),
    ],
)
async def test_in_threads_and_several_at_once_the_same_becomes_of_failures(
    run: Any, name: str, method: str, conditions: dict[str, Any]
) -> None:
    ran = await run(pipeline(name, method, **conditions), until=has(numbers=5, letters=1))

    assert sorted(ran.manager.keeps.numbers) == [0, 1, 2, 4, 5]
    assert [n for n in ran.manager.keeps.numbers if n % 2] == [1, 5]
    assert [letter.value for letter in ran.manager.keeps.letters] == [b"[3]"]


async def test_a_coroutine_that_takes_too_long_has_failed(run: Any, name: str) -> None:
    async def hang(self: Fails, number: int) -> None:
        if number == 3:
            await asyncio.sleep(60)
        self.emit("seen", number)

    ran = await run(
        pipeline(name, handle_async=hang, method="handle_async", timeout_seconds=0.05,
                 retry=Retry(tries=1)),
        until=has(numbers=5, letters=1),
    )  # fmt: skip

    assert [letter.error for letter in ran.manager.keeps.letters] == ["TimeoutError"]
    assert sorted(ran.manager.keeps.numbers) == [0, 1, 2, 4, 5]
