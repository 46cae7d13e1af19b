"""A flow, and the commands that look at it, against a broker that asks who is there."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from aiopype.settings import Settings
from aiopype.transport.reading import Reader
from aiopype.transport.security import connection_options

from .secured_kafka import SecuredKafka, token

pytestmark = pytest.mark.kafka

PROGRAM = """
    from aiopype import AsyncFlow, Manager, Processor, Source

    class Numbers(Source):
        async def start(self):
            await self.emit_async("number", 7)

    class Step(Processor):
        def handle(self, n):
            self.emit("done", n)

        def take(self, n):
            print("took", n)

    class Line(Manager):
        name = "{name}"

        def __init__(self, handler):
            super().__init__(handler)
            self.source = Numbers(self.build_processor_name("source"), handler)
            self.step = Step(self.build_processor_name("step"), handler)
            self.source.on("number", self.step.handle)
            self.step.on("done", self.step.take)

    class Config:
        FLOWS = ["{name}"]
        NAME = "{name}"

    dataflow = AsyncFlow(Config())

    if __name__ == "__main__":
        dataflow.start()
"""

#: How the commands are run.
COMMANDS = (
    ("errors", "list"),
    ("sources", "list"),
    ("status", "--json"),
)


async def look(environ: dict[str, str]) -> dict[str, int]:
    """Connect as the commands do, and ask for something."""
    config = SimpleNamespace(FLOWS=["any"], NAME="any")
    settings = Settings.load(config, environ=environ)
    assert settings.broker is not None
    async with Reader(settings.broker, security=connection_options(settings)) as reader:
        return await reader.partitions(["no-such-topic"])


def with_token(secured: SecuredKafka, file: Path, listener: str) -> dict[str, str]:
    return secured.environ(listener, sasl_mechanism="OAUTHBEARER", sasl_token_file=str(file))


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(token() + "\n")
    return file


@pytest.mark.parametrize(
    ("listener", "mechanism"),
    [
        ("LOGIN", "PLAIN"),
        ("LOGIN", "SCRAM-SHA-256"),
        ("LOGIN", "SCRAM-SHA-512"),
        ("TLSLOGIN", "PLAIN"),
        ("TLSLOGIN", "SCRAM-SHA-512"),
    ],
)
async def test_a_password_is_taken(secured: SecuredKafka, listener: str, mechanism: str) -> None:
    assert await look(secured.login(listener, mechanism)) == {}


@pytest.mark.parametrize("listener", ["LOGIN", "TLSLOGIN"])
async def test_a_token_is_taken(secured: SecuredKafka, token_file: Path, listener: str) -> None:
    assert await look(with_token(secured, token_file, listener)) == {}


async def test_a_token_of_an_endpoint_is_taken(secured: SecuredKafka) -> None:
    async def give(_: web.Request) -> web.Response:
        return web.json_response({"access_token": token(), "expires_in": 3600})

    app = web.Application()
    app.router.add_post("/token", give)
    async with TestServer(app) as server:
        assert (
            await look(
                secured.environ(
                    "LOGIN",
                    sasl_mechanism="OAUTHBEARER",
                    sasl_token_url=str(server.make_url("/token")),
                    sasl_username="client",
                    sasl_password="secret",
                )
            )
            == {}
        )


async def test_tls_without_a_login_is_taken(secured: SecuredKafka) -> None:
    assert await look(secured.environ("TLS")) == {}


def of_client(secured: SecuredKafka) -> dict[str, str]:
    files = {"ssl_certfile": str(secured.certfile), "ssl_keyfile": str(secured.keyfile)}
    return secured.environ("MUTUAL", **files)


async def test_a_certificate_of_the_client_is_taken(secured: SecuredKafka) -> None:
    assert await look(of_client(secured)) == {}


def test_a_flow_runs_with_each_and_its_commands_too(
    secured: SecuredKafka, start: Any, wait_until: Any, token_file: Path
) -> None:
    ways = {
        "by_login": secured.login("TLSLOGIN", "SCRAM-SHA-512"),
        "by_certificate": of_client(secured),
        "by_token": with_token(secured, token_file, "LOGIN"),
    }
    programs = [
        start(PROGRAM.format(name=name), file=f"{name}.py", **environ)
        for name, environ in ways.items()
    ]
    for program in programs:
        wait_until(lambda: "took 7" in program.text, seconds=60, what=program)  # noqa: B023
        program.send(signal.SIGTERM)
    assert [program.wait(30) for program in programs] == [0, 0, 0]
    asked = [
        start("", command=("-m", "aiopype", *command, "by_login.py"), **ways["by_login"])
        for command in COMMANDS
    ]
    errors, sources, status = asked
    assert [process.wait(60) for process in (errors, sources)] == [0, 0]
    status.wait(60)  # which says by its status that no worker runs
    assert "no dead letters" in errors.text
    assert "by_login.source" in sources.text
    assert "by_login.source" in status.text
