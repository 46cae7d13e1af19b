"""What a broker refuses, or is refused, is told with what to do, in 10 s."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from aiopype.errors import BrokerError

from .secured_kafka import PASSWORD, SecuredKafka, token
from .test_security import COMMANDS, PROGRAM, look, with_token

pytestmark = pytest.mark.kafka


async def refusal(environ: dict[str, str]) -> str:
    """Return what is said of a connection that cannot be made."""
    began = time.monotonic()
    with pytest.raises(BrokerError) as caught:
        await look(environ)
    assert time.monotonic() - began < 10
    return str(caught.value)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_wrong_password(secured: SecuredKafka, mechanism: str) -> None:
    said = await refusal(secured.login("LOGIN", mechanism, sasl_password="mistaken"))

    address = secured.addresses["LOGIN"]
    assert f"the broker at {address} refuses the login of 'me' ({mechanism})" in said
    assert "correct sasl_username and sasl_password" in said
    assert "mistaken" not in said


async def test_a_mechanism_that_the_broker_does_not_have(secured: SecuredKafka) -> None:
    said = await refusal(secured.login("TLSLOGIN", "SCRAM-SHA-256"))

    assert "takes no login by SCRAM-SHA-256" in said
    assert said.endswith("set sasl_mechanism to one of OAUTHBEARER, PLAIN, SCRAM-SHA-512")


async def test_a_token_that_has_expired(secured: SecuredKafka, tmp_path: Path) -> None:
    old = token(seconds=-90)
    (tmp_path / "token").write_text(old)

    said = await refusal(with_token(secured, tmp_path / "token", "LOGIN"))

    assert f"the broker at {secured.addresses['LOGIN']} does not take the token" in said
    assert "it expired 9" in said
    assert old not in said


async def test_a_token_that_is_not_there(secured: SecuredKafka, tmp_path: Path) -> None:
    said = await refusal(with_token(secured, tmp_path / "missing", "LOGIN"))

    assert said.startswith(f"no token to log in with at {secured.addresses['LOGIN']}: ")
    assert f"sasl_token_file {tmp_path / 'missing'}: " in said
    assert "No such file" in said


async def test_a_certificate_that_nobody_known_has_signed(secured: SecuredKafka) -> None:
    said = await refusal(secured.environ("TLS", ssl_cafile=""))

    assert f"the certificate of the broker at {secured.addresses['TLS']} is not trusted" in said
    assert said.endswith("set ssl_cafile to the PEM file of who has signed it")


async def test_a_certificate_for_another_name(secured: SecuredKafka) -> None:
    address = secured.addresses["TLS"].replace("127.0.0.1", "localhost")

    said = await refusal(secured.environ("TLS", broker=address))

    assert f"the certificate of the broker at {address} is not for that name" in said
    assert "give AIOPYPE_BROKER or --broker a name that it has" in said


async def test_a_broker_that_calls_itself_otherwise(secured: SecuredKafka) -> None:
    address = secured.addresses["ELSEWHERE"]
    named = address.replace("127.0.0.1", "localhost")

    said = await refusal(secured.environ("ELSEWHERE"))

    assert said.startswith(f"the broker at {address} calls itself {named}")
    assert "(advertised.listeners)" in said
    assert "is not for that name" in said


async def test_no_certificate_where_one_is_asked_for(secured: SecuredKafka) -> None:
    said = await refusal(secured.environ("MUTUAL"))

    assert f"{secured.addresses['MUTUAL']} does not take this client's certificate" in said
    assert "set ssl_certfile and ssl_keyfile" in said


@pytest.mark.parametrize(
    ("settings_for", "listener", "todo"),
    [
        ("PLAINTEXT", "TLS", "speaks TLS; set security_protocol to SSL"),
        ("TLS", "PLAINTEXT", "speaks without TLS; set security_protocol to PLAINTEXT"),
        ("PLAINTEXT", "LOGIN", "wants a login; set security_protocol to SASL_PLAINTEXT"),
        ("TLS", "TLSLOGIN", "wants a login; set security_protocol to SASL_SSL"),
        ("LOGIN", "TLSLOGIN", "speaks TLS; set security_protocol to SASL_SSL"),
        ("TLSLOGIN", "LOGIN", "speaks without TLS; set security_protocol to SASL_PLAINTEXT"),
        ("LOGIN", "PLAINTEXT", "asks for no login; set security_protocol to PLAINTEXT"),
    ],
)
async def test_a_protocol_that_is_not_the_brokers(
    secured: SecuredKafka, settings_for: str, listener: str, todo: str
) -> None:
    address = secured.addresses[listener]
    kind = secured.login if "LOGIN" in settings_for else secured.environ

    said = await refusal(kind(settings_for, broker=address))

    assert f"the broker at {address} {todo}" in said


def test_a_wrong_password_ends_each_command(secured: SecuredKafka, start: Any) -> None:
    programs = [
        start(
            PROGRAM.format(name="refused"),
            command=("-m", "aiopype", *command, "program.py"),
            **secured.login("LOGIN", sasl_password="mistaken"),
        )
        for command in (("run",), *COMMANDS)
    ]
    for program in programs:
        assert program.wait(60) != 0
        assert "refuses the login of 'me' (PLAIN)" in program.text
        assert "correct sasl_username and sasl_password" in program.text
        assert "Traceback" not in program.text
        assert "mistaken" not in program.text


def test_tls_is_not_for_the_embedded_broker(secured: SecuredKafka, start: Any) -> None:
    program = start(
        PROGRAM.format(name="embedded"),
        command=("-m", "aiopype", "run", "program.py"),
        **secured.login("TLSLOGIN", broker=""),
    )
    assert program.wait(60) == 1
    assert "Error: security_protocol SASL_SSL is for a cluster, and none is set" in program.text
    assert PASSWORD not in program.text
