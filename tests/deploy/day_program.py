"""The flow of the scripted day; files in its folder say what goes wrong.

orders:  source --order--> check --checked--> store      exactly once
quiet:   feed   --beat---> log                           at least once
frail:   feed   --beat---> log                           its manager fails when it is told to
"""

import asyncio
import itertools
from pathlib import Path

from aiopype import AsyncFlow, Manager, Processor, RestartPolicy, Retry, Source, TemporaryError
from aiopype import worker as worker_module


def is_so(name: str) -> bool:
    return Path(name).exists()


class Orders(Source):
    """A few a second, and under load as many as two workers can do something about."""

    async def start(self):
        number = self.position or 0
        while True:
            for _ in range(100 if is_so("load") else 2):
                self.checkpoint(number + 1)
                await self.emit_async("order", number, key=number % 64)
                number += 1
            self.vitals.succeeded()
            await asyncio.sleep(0.1)


class Feed(Source):
    """A connection that says something all the time, until it does not."""

    expect_every = 3.0

    async def start(self):
        self.vitals.connected()
        for number in itertools.count():
            if not is_so(f"{self.name}.silent"):
                await self.emit_async("beat", number)
            await asyncio.sleep(0.2)


class Step(Processor):
    retry = Retry(tries=3, first_delay_seconds=0.05, last_delay_seconds=5)


class Check(Step):
    async def handle(self, number):
        if number % 50 == 0 and is_so("failing"):
            raise ValueError(f"{number} is wrong")
        if number % 50 == 1 and is_so("waiting"):
            raise TemporaryError(f"{number} has to wait", delay=2)
        if is_so("slow"):
            await asyncio.sleep(0.02)
        self.emit("checked", number)


class Store(Step):
    def write(self, number):
        if number % 50 == 2 and is_so("failing"):
            raise OSError(f"no room for {number}")


class Log(Step):
    def write(self, number):
        if is_so("failing"):
            raise OSError(f"no room for {number}")


class OrdersManager(Manager):
    name = "orders"

    def __init__(self, handler):
        super().__init__(handler)
        named = self.build_processor_name
        self.source = Orders(named("source"), handler)
        self.check = Check(named("check"), handler)
        self.store = Store(named("store"), handler)
        self.source.on("order", self.check.handle)
        self.check.on("checked", self.store.write)


class QuietManager(Manager):
    name = "quiet"
    guarantee = "at_least_once"
    restarts = RestartPolicy(first_delay_seconds=0.5, last_delay_seconds=1, failures=100)

    def __init__(self, handler):
        super().__init__(handler)
        named = self.build_processor_name
        self.source = Feed(named("feed"), handler)
        self.log = Log(named("log"), handler)
        self.source.on("beat", self.log.write)


class FrailManager(QuietManager):
    name = "frail"
    restarts = RestartPolicy(failures=0, first_quarantine_seconds=5, last_quarantine_seconds=5)


class Config:
    FLOWS = ("orders", "quiet", "frail")


def with_a_manager_that_fails(build):
    """What makes a manager fail is rare; here it is a file."""

    def build_app(settings, brokers, pipelines):
        async def fail_when_told():
            while True:
                if is_so("frail.fails"):
                    Path("frail.fails").unlink(missing_ok=True)
                    pipelines.supervisor.fail("frail", OSError("as told"), "it was told to")
                await asyncio.sleep(0.1)

        pipelines.told = asyncio.get_running_loop().create_task(fail_when_told())
        return build(settings, brokers, pipelines)

    return build_app


worker_module.build_app = with_a_manager_that_fails(worker_module.build_app)
dataflow = AsyncFlow(Config(), name="day")
