"""aiopype, with nothing in it but what a user would write.

The quotes come from outside: they are written into the topic of the source's `raw` event.
"""

from typing import Any

from aiopype import AsyncFlow, Manager, Processor
from benchmarks.workload import Job, parse, row

JOB = Job.from_environ()


class Quotes(Processor):
    events = ("raw",)


class Parse(Processor):
    def handle(self, quote) -> None:
        self.emit("price", parse(quote))


class Row(Processor):
    events = ("row",)

    def handle(self, price) -> None:
        self.emit("row", row(price))


class Prices(Manager):
    name = JOB.name

    def __init__(self, handler: Any) -> None:
        super().__init__(handler)
        self.quotes = Quotes(self.build_processor_name("source"), handler)
        self.parse = Parse(self.build_processor_name("parse"), handler)
        self.row = Row(self.build_processor_name("row"), handler)

        self.quotes.on("raw", self.parse.handle)
        self.parse.on("price", self.row.handle)


class Config:
    FLOWS = (JOB.name,)
    NAME = JOB.name
    BROKER = JOB.broker
    GUARANTEE = JOB.guarantee


if __name__ == "__main__":
    AsyncFlow(Config()).start()
