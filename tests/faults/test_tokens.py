"""A token that expires closes connections; events and positions do not care."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kafka import secured_kafka
from tests.kafka.secured_kafka import SecuredKafka

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.long]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with secured_kafka.running(tmp_path_factory.mktemp("secured")) as kafka:
        yield kafka


TICKER = """
    import asyncio
    from aiopype import AsyncFlow, Manager, Processor, Source

    class Numbers(Source):
        async def start(self):
            for number in range((self.position or 0) + 1, 801):
                self.checkpoint(number)
                await self.emit_async("number", number)
                await asyncio.sleep(0.01)
            await self.flush()
            print("all are out", flush=True)

    class Step(Processor):
        def handle(self, n):
            self.emit("done", n)

    class Line(Manager):
        name = "ticker"

        def __init__(self, handler):
            super().__init__(handler)
            self.source = Numbers(self.build_processor_name("source"), handler)
            self.step = Step(self.build_processor_name("step"), handler)
            self.source.on("number", self.step.handle)
            self.step.on("done", self.step.idle)

    Step.idle = lambda self, n: None

    class Config:
        FLOWS = ["ticker"]
        NAME = "ticker"

    dataflow = AsyncFlow(Config())
"""


async def test_nothing_is_lost_or_repeated_when_tokens_expire(
    secured: SecuredKafka, start: Any, wait_until: Any, tmp_path: Path, records: Any
) -> None:
    (tmp_path / "login.py").write_text(
        "import json\nfrom time import time\nfrom base64 import urlsafe_b64encode as b\n"
        "def short():\n"
        "    now = time()\n"
        "    claims = {'sub': 'me', 'iat': now - 1, 'exp': now + 3}\n"
        "    parts = [b(json.dumps(p).encode()).decode().rstrip('=')\n"
        "             for p in ({'alg': 'none'}, claims)]\n"
        "    return '.'.join(parts) + '.'\n"
    )
    program = start(
        TICKER,
        command=("-m", "aiopype", "run", "program.py"),
        **secured.environ("LOGIN", sasl_mechanism="OAUTHBEARER", sasl_token_provider="login:short"),
    )
    wait_until(lambda: "all are out" in program.text, seconds=90, what=program)
    address, found = secured.addresses["PLAINTEXT"], []
    async with asyncio.timeout(60):
        while len(found) < 800:
            found = await records(address, "ticker.step.done")
            await asyncio.sleep(0.2)
    assert "closed" in program.text  # brokers have ended connections whose token had expired
    program.send(signal.SIGTERM)
    assert program.wait(30) == 0
    found = await records(address, "ticker.step.done")
    assert sorted(json.loads(record.value)[0] for record in found) == list(range(1, 801))
