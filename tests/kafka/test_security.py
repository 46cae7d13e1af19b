"""A flow against a broker that asks for TLS and a login."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aiopype import broker
from aiopype.broker import properties

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
        name = "secure"

        def __init__(self, handler):
            super().__init__(handler)
            self.source = Numbers(self.build_processor_name("source"), handler)
            self.step = Step(self.build_processor_name("step"), handler)
            self.source.on("number", self.step.handle)
            self.step.on("done", self.step.take)

    class Config:
        FLOWS = ["secure"]

    dataflow = AsyncFlow(Config())

    if __name__ == "__main__":
        dataflow.start()
"""

LISTENER = """
listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller_port}},\
SASL_SSL://127.0.0.1:{port}
advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},SASL_SSL://127.0.0.1:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_me="secret";
ssl.keystore.type=PEM
ssl.keystore.location={pem}
"""


class Secure(NamedTuple):
    """A listener and who signed its certificate."""

    address: str
    cafile: Path


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("secure")
    key, certificate, pem = (folder / name for name in ("key.pem", "cert.pem", "both.pem"))
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", str(key), "-out", str(certificate),
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl, which makes the certificate, is not installed")
    pem.write_text(key.read_text() + certificate.read_text())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    plain = [
        line for line in properties._PROPERTIES.splitlines()
        if not line.startswith(("listeners=", "advertised.", "listener.security."))
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        text = "\n".join(plain) + LISTENER.format(port=port, pem=pem)
        patch.setattr(properties, "_PROPERTIES", text)
        with broker.running(folder / "kafka"):
            yield Secure(f"127.0.0.1:{port}", certificate)


def environ(secure: Secure, **others: str) -> dict[str, str]:
    return {
        "AIOPYPE_BROKER": secure.address,
        "AIOPYPE_SECURITY_PROTOCOL": "SASL_SSL",
        "AIOPYPE_SSL_CAFILE": str(secure.cafile),
        "AIOPYPE_SASL_MECHANISM": "PLAIN",
        "AIOPYPE_SASL_USERNAME": "me",
        "AIOPYPE_SASL_PASSWORD": "secret",
    } | others


def test_a_flow_runs_over_tls_with_a_login(secure: Secure, start: Any, wait_until: Any) -> None:
    program = start(PROGRAM, **environ(secure))
    wait_until(lambda: "took 7" in program.text, what="the event is handled")
    program.send(signal.SIGTERM)
    assert program.wait(15) == 0


def test_a_wrong_password_ends_the_worker_and_is_not_shown(secure: Secure, start: Any) -> None:
    program = start(
        PROGRAM,
        command=("-m", "aiopype", "run", "program.py"),
        **environ(secure, AIOPYPE_SASL_PASSWORD="mistaken"),
    )
    assert program.wait(30) == 1
    assert f"no Kafka broker answers at {secure.address}" in program.text
    assert "or the settings of TLS and SASL" in program.text
    assert "mistaken" not in program.text


def test_a_broker_that_is_not_trusted_ends_the_worker(secure: Secure, start: Any) -> None:
    program = start(
        PROGRAM,
        command=("-m", "aiopype", "run", "program.py"),
        **environ(secure, AIOPYPE_SSL_CAFILE=""),
    )
    assert program.wait(30) == 1
    assert f"no Kafka broker answers at {secure.address}" in program.text


def test_tls_is_not_for_the_embedded_broker(secure: Secure, start: Any) -> None:
    program = start(
        PROGRAM,
        command=("-m", "aiopype", "run", "program.py"),
        **environ(secure, AIOPYPE_BROKER=""),
    )
    assert program.wait(30) == 1
    assert "Error: security_protocol SASL_SSL is for a cluster, and none is set" in program.text
