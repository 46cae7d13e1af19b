"""The flow under test: two steps, events of 64 keys that are numbered per key."""

from __future__ import annotations

import asyncio
import json
import textwrap
import uuid
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

__all__ = ["KEYS", "PARTITIONS", "PROGRAM", "STEPS", "AdminClient", "Load", "program"]

KEYS = 64
PARTITIONS = 4
STEPS = 2

PROGRAM = """
import os
from aiopype import AsyncFlow, Manager, Processor

class First(Processor):
    def forward(self, key, n):
        self.emit("mid", key, n)

class Last(Processor):
    events = ("out",)

    async def finish(self, key, n):
        self.emit("out", key, n)

class Load(Manager):
    name = os.environ["NAME"]

    def __init__(self, handler):
        super().__init__(handler)
        self.inlet = Processor(self.build_processor_name("inlet"), handler)
        self.first = First(self.build_processor_name("first"), handler)
        self.last = Last(self.build_processor_name("last"), handler)
        self.inlet.on("in", self.first.forward)
        self.first.on("mid", self.last.finish)

class Config:
    FLOWS = [os.environ["NAME"]]

dataflow = AsyncFlow(Config(), name=os.environ["NAME"] + "-flow")

if __name__ == "__main__":
    dataflow.start()
"""


def program(hook: str = "", *, first: str = "", head: str = "", tries: int = 0) -> str:
    """The program, with lines put in front: of the last step, the first one, the whole file.

    With `tries` a failing event is tried so often, at once, before it becomes a dead letter.
    """

    def indented(lines: str) -> str:
        return textwrap.indent(textwrap.dedent(lines).strip() + "\n", " " * 8) if lines else ""

    last = '        self.emit("out", key, n)\n'
    forward = '        self.emit("mid", key, n)\n'
    text = PROGRAM.replace(last, indented(hook) + last)
    text = text.replace(forward, indented(first) + forward)
    if tries:
        retry = f"    retry = Retry(tries={tries}, first_delay_seconds=0.01)\n"
        text = text.replace("Processor):\n", f"Processor):\n{retry}")
        text = text.replace("Processor\n", "Processor, Retry\n", 1)
    return textwrap.dedent(head) + text


class Load:
    """The names of one run's flow, its topics, and what is written to them."""

    def __init__(
        self,
        address: str,
        guarantee: str = "exactly_once",
        *,
        replication: int = 1,
        name: str | None = None,
    ) -> None:
        self.address = address
        self.guarantee = guarantee
        self.replication = replication
        self.name = name or f"load{uuid.uuid4().hex[:8]}"
        self.program = PROGRAM
        self.env = {
            "NAME": self.name,
            "AIOPYPE_BROKER": address,
            "AIOPYPE_GUARANTEE": guarantee,
        }
        self.source = f"{self.name}.inlet.in"
        self.mid = f"{self.name}.first.mid"
        self.out = f"{self.name}.last.out"
        self.group = f"{self.name}-flow"

    def event(self, number: int) -> tuple[str, bytes, bytes]:
        """The event of this number: topic, value, key."""
        key = number % KEYS
        return self.source, json.dumps([key, number // KEYS]).encode(), b"%d" % key

    async def create(self, **configs: dict[str, str]) -> None:
        """Make the topics; settings of one are given under the last part of its name."""
        async with AdminClient(self.address) as admin:
            await admin.create_topics(
                [
                    NewTopic(
                        topic,
                        PARTITIONS,
                        self.replication,
                        topic_configs=configs.get(topic.rpartition(".")[2], {}),
                    )
                    for topic in (self.source, self.mid, self.out)
                ]
            )

    async def write(self, values: list[bytes | None], **options: Any) -> None:
        """Write raw values to the first topic, as a foreign producer would; each has a key.

        Arguments:
            values: of the records.
            options: of aiokafka's producer; `headers` and `key` are those of each record.
        """
        headers, key = options.pop("headers", None), options.pop("key", b"0")
        async with AIOKafkaProducer(
            bootstrap_servers=self.address, max_request_size=100_000_000, **options
        ) as producer:
            sent = [
                await producer.send(self.source, value, key=key, headers=headers)
                for value in values
            ]
            await asyncio.gather(*sent)


class AdminClient:
    """An admin client for an `async with`."""

    def __init__(self, address: str) -> None:
        self._client = AIOKafkaAdminClient(bootstrap_servers=address)

    async def __aenter__(self) -> AIOKafkaAdminClient:
        await self._client.start()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
