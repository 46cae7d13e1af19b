"""Handlers with annotations, the same in process and on Kafka."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from decimal import Decimal
from typing import Any

import msgspec
import pydantic
import pytest

from aiopype import DeadLetter, Manager, Processor, Source
from aiopype.errors import GraphError


class Quote(msgspec.Struct):
    symbol: str
    price: float
    time: dt.datetime


@dataclasses.dataclass
class Position:
    symbol: str
    amount: Decimal


class Order(pydantic.BaseModel):
    symbol: str
    size: int = pydantic.Field(gt=0)


NOON = dt.datetime(2024, 1, 2, 12, tzinfo=dt.UTC)
QUOTE = Quote("AAPL", 1.5, NOON)


class Emits(Source):
    """Emits what it was given, then ends."""

    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]

    async def start(self) -> None:
        for args, kwargs in self.calls:
            await self.emit_async("event", *args, **kwargs)


class Typed(Processor):
    """Handlers with annotations, which keep what they got."""

    def __init__(self, name: str, handler: Any) -> None:
        super().__init__(name, handler)
        self.got: list[Any] = []
        self.letters: list[DeadLetter] = []

    def quote(self, quote: Quote) -> None:
        self.got.append(quote)

    async def several(self, quote: Quote, day: dt.date, position: Position | None = None) -> None:
        await asyncio.sleep(0)
        self.got.append((quote, day, position))

    def order(self, order: Order, *others: Order) -> None:
        self.got.append((order, others))
        self.emit("ordered", order, size=order.size)

    def ordered(self, order: Order, *, size: int) -> None:
        self.got.append((order, size))

    def tell(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    def strange(self, value: complex) -> None:
        self.got.append(value)


def pipeline(name: str, method: str, calls: list[Any]) -> type[Manager]:
    """A manager whose source emits `calls` to a typed handler."""

    class Pipeline(Manager):
        def __init__(self, handler: Any) -> None:
            super().__init__(handler)
            self.source = Emits(self.build_processor_name("source"), handler)
            self.source.calls = calls
            self.typed = Typed(self.build_processor_name("typed"), handler)
            self.source.on("event", getattr(self.typed, method))
            self.typed.on("ordered", self.typed.ordered)
            self.typed.on("error", self.typed.tell)

    return type("Pipeline", (Pipeline,), {"name": name})


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "received"),
    [
        pytest.param("quote", (QUOTE,), {}, [QUOTE], id="one object"),
        pytest.param(
            "several",
            (QUOTE, NOON.date()),
            {"position": Position("AAPL", Decimal("1.50"))},
            [(QUOTE, NOON.date(), Position("AAPL", Decimal("1.50")))],
            id="several, one by name, in a coroutine",
        ),
        pytest.param(
            "order",
            (Order(symbol="AAPL", size=1), Order(symbol="MSFT", size=2)),
            {},
            [
                (Order(symbol="AAPL", size=1), (Order(symbol="MSFT", size=2),)),
                (Order(symbol="AAPL", size=1), 1),
            ],
            id="models, emitted on",
        ),
    ],
)
async def test_a_handler_gets_what_its_annotations_say(
    run: Any, name: str, method: str, args: Any, kwargs: Any, received: Any
) -> None:
    manager = pipeline(name, method, [(args, kwargs)])
    ran = await run(manager, until=lambda r: len(r.manager.typed.got) >= len(received))
    assert ran.manager.typed.got == received


async def test_an_event_that_does_not_fit_is_a_dead_letter_and_the_others_are_handled(
    run: Any, name: str
) -> None:
    wrong = {"symbol": "AAPL", "price": "1.5", "time": NOON}
    manager = pipeline(name, "quote", [((wrong,), {}), ((QUOTE,), {})])

    ran = await run(manager, until=lambda r: r.manager.typed.got and r.manager.typed.letters)

    assert ran.manager.typed.got == [QUOTE]
    (letter,) = ran.manager.typed.letters
    assert letter.error == "aiopype.errors.CodecError"
    assert "parameter 'quote': Expected `float`, got `str` - at `$.price`" in letter.message


async def test_a_type_that_nothing_decodes_into_is_refused_before_the_start(
    run: Any, name: str
) -> None:
    with pytest.raises(
        GraphError,
        match=rf"handler {name}.source.event -> {name}.typed.strange: the annotation 'complex' of",
    ):
        await run(pipeline(name, "strange", []), until=lambda r: True)
