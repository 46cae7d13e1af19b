"""A Kafka that asks who is there: a listener for each way to say so, and an authorizer."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from aiopype import broker
from aiopype.broker import properties

#: Of the user `me`, who may do everything, and of `guest`, who may do nothing.
PASSWORD = "correct-horse-battery"

_LOGIN_MODULE = "org.apache.kafka.common.security"

_FORMAT = properties.format_command

#: By name: the protocol, and the host that clients are sent to.
_LISTENERS = {
    "LOGIN": ("SASL_PLAINTEXT", "127.0.0.1"),
    "TLS": ("SSL", "127.0.0.1"),
    "MUTUAL": ("SSL", "127.0.0.1"),
    "TLSLOGIN": ("SASL_SSL", "127.0.0.1"),
    "ELSEWHERE": ("SSL", "localhost"),
}

_PROPERTIES = """
sasl.enabled.mechanisms=PLAIN
listener.name.login.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.tlslogin.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER
listener.name.mutual.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
ssl.principal.mapping.rules=RULE:^CN=([^,]+),.*$/$1/,DEFAULT
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:me
"""

_JAAS = """
listener.name.{name}.plain.sasl.jaas.config=\
{module}.plain.PlainLoginModule required user_me="{password}" user_guest="{password}";
listener.name.{name}.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;
listener.name.{name}.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;
listener.name.{name}.oauthbearer.sasl.jaas.config=\
{module}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="kafka";
"""


@dataclass(frozen=True)
class SecuredKafka:
    """Where it is, and what proves who it is and who we are.

    Attributes:
        addresses: by listener; PLAINTEXT is the one that asks nothing.
        folder: for files of a test.
        cafile: who has signed the broker's certificate, and the clients'.
        certfile, keyfile: of the client `me`.
    """

    addresses: dict[str, str]
    folder: Path
    cafile: Path
    certfile: Path
    keyfile: Path

    def environ(self, listener: str, **others: str) -> dict[str, str]:
        """The settings that lead to a listener; `others` are by name without AIOPYPE_."""
        found = {"AIOPYPE_BROKER": self.addresses[listener], "AIOPYPE_WEB_PORT": "0"}
        if listener != "PLAINTEXT":
            found["AIOPYPE_SECURITY_PROTOCOL"] = protocol = _LISTENERS[listener][0]
            if protocol.endswith("SSL"):
                found["AIOPYPE_SSL_CAFILE"] = str(self.cafile)
        return found | {f"AIOPYPE_{name.upper()}": value for name, value in others.items()}

    def login(self, listener: str, mechanism: str = "PLAIN", **others: str) -> dict[str, str]:
        """The settings of `me` with a password."""
        who = {"sasl_mechanism": mechanism, "sasl_username": "me", "sasl_password": PASSWORD}
        return self.environ(listener, **who | others)


def token(subject: str = "me", seconds: float = 3600.0) -> str:
    """A token that Kafka's validator for development takes: nobody has signed it."""
    now = time.time()
    # From a little before now: the clocks of two processes are read, not at the same time.
    claims = {"sub": subject, "iat": now - 1, "exp": now + seconds}
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "none"}, claims)
    ]
    return ".".join(parts) + "."


@contextlib.contextmanager
def running(folder: Path) -> Iterator[SecuredKafka]:
    """Run one; of the embedded broker's own, with listeners of ours beside its own."""
    authority = trustme.CA()
    of_broker = authority.issue_cert("127.0.0.1")
    of_client = authority.issue_cert("me.test", common_name="me")  # Java reads no empty names
    files = {name: folder / f"{name}.pem" for name in ("ca", "broker", "client", "client-key")}
    authority.cert_pem.write_to_path(files["ca"])
    files["broker"].write_bytes(_pkcs8(of_broker) + of_broker.cert_chain_pems[0].bytes())
    of_client.cert_chain_pems[0].write_to_path(files["client"])
    of_client.private_key_pem.write_to_path(files["client-key"])
    ports = _free_ports(len(_LISTENERS))
    text = _properties(dict(zip(_LISTENERS, ports, strict=True)), files["broker"], files["ca"])
    with contextlib.ExitStack() as opened:
        # Only while it starts: other tests' brokers are as they always are.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(properties, "_PROPERTIES", text)
            patch.setattr(properties, "format_command", _format_command)
            embedded = opened.enter_context(broker.running(folder / "kafka"))
        addresses = {n: f"127.0.0.1:{p}" for n, p in zip(_LISTENERS, ports, strict=True)}
        yield SecuredKafka(
            addresses | {"PLAINTEXT": embedded.address},
            folder,
            files["ca"],
            files["client"],
            files["client-key"],
        )


def _properties(ports: dict[str, int], keystore: Path, truststore: Path) -> str:
    own = properties._PROPERTIES.splitlines()
    for number, line in enumerate(own):
        name, _, value = line.partition("=")
        if name == "listeners":
            added = [f"{n}://127.0.0.1:{port}" for n, port in ports.items()]
        elif name == "advertised.listeners":
            added = [f"{n}://{_LISTENERS[n][1]}:{port}" for n, port in ports.items()]
        elif name == "listener.security.protocol.map":
            added = [f"{n}:{_LISTENERS[n][0]}" for n in ports]
        else:
            continue
        own[number] = f"{name}={','.join([value, *added])}"
    more = _PROPERTIES.format(keystore=keystore, truststore=truststore)
    for name in ("login", "tlslogin"):
        more += _JAAS.format(name=name, module=_LOGIN_MODULE, password=PASSWORD)
    return "\n".join(own) + more


def _pkcs8(certificate: trustme.LeafCert) -> bytes:
    """The key in the one form that Kafka reads."""
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _format_command(*arguments: Any) -> list[str]:
    """The command that makes a folder Kafka's, and knows the user from the start."""
    users = [f"SCRAM-SHA-{bits}=[name=me,password={PASSWORD}]" for bits in (256, 512)]
    return [*_FORMAT(*arguments), *(word for user in users for word in ("--add-scram", user))]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as opened:
        free = [opened.enter_context(socket.socket()) for _ in range(count)]
        for each in free:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in free]
