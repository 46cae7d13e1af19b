"""A manager declared as data behaves as one that is written out."""

from __future__ import annotations

from typing import Any

from aiopype import DescriptiveManager, Processor, Source


class Counts(Source):
    def __init__(self, name: str, handler: Any, upto: int) -> None:
        super().__init__(name, handler)
        self.upto = upto

    async def start(self) -> None:
        for number in range(self.upto):
            await self.emit_async("number", number)


class Scales(Processor):
    def __init__(self, name: str, handler: Any, factor: int) -> None:
        super().__init__(name, handler)
        self.factor = factor

    def scale(self, number: int) -> None:
        self.emit("scaled", number * self.factor)


class Keeps(Processor):
    def __init__(self, name: str, handler: Any) -> None:
        super().__init__(name, handler)
        self.got: list[int] = []

    def keep(self, number: int) -> None:
        self.got.append(number)


async def test_processors_and_flows_are_built_and_wired(run: Any, name: str) -> None:
    class Declared(DescriptiveManager):
        processors = {  # noqa: RUF012 - declared as a user would
            "source": {"cls": Counts, "args": [4]},
            "scales": {"cls": Scales, "kwargs": {"factor": 10}},
            "keeps": {"cls": Keeps},
        }
        flows = [  # noqa: RUF012
            {"origin": "source", "event": "number", "target": "scales", "function": "scale"},
            {"origin": "scales", "event": "scaled", "target": "keeps", "function": "keep"},
        ]

    Declared.name = name
    ran = await run(Declared, until=lambda r: len(r.manager.built["keeps"].got) >= 4)
    assert ran.manager.built["keeps"].got == [0, 10, 20, 30]
