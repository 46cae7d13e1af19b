"""Why brokers cannot be used: aiokafka only says that they cannot, and logs a part of the reason.

Here a connection is made once more, after it has failed, and looked at step by step: is there
somebody, TLS, certificates, the login, and what the broker calls itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import msgspec
from aiokafka import errors as kafka_errors
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.protocol.admin import SaslAuthenticateRequest, SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from aiopype.errors import BrokerError
from aiopype.settings.security import OAUTHBEARER
from aiopype.transport.tokens import TokenUnavailable

__all__ = ["reason", "unreachable"]

#: For all of it; a wrong password is told of in 10 s.
SECONDS = 4.0

#: So many of the configured addresses are looked at.
ADDRESSES = 3

#: What a failed connection raises; ValueError and EOFError where something else than Kafka answers.
_FAILURES = (kafka_errors.KafkaError, TimeoutError, OSError, ValueError, EOFError, AssertionError)

#: OpenSSL's numbers for a certificate that is for another name, or another address.
_OTHER_NAME = {62, 64}
_EXPIRED = 10


class _Claims(msgspec.Struct):
    exp: float = float("inf")


async def unreachable(
    brokers: str, security: Mapping[str, Any] | None, error: Exception
) -> BrokerError:
    """Return the error to raise when connecting has failed: what, which, what to do. Takes 4 s.

    Arguments:
        brokers: `host:port,...`.
        security: from `connection_options`.
        error: what connecting raised.
    """
    return BrokerError(
        await reason(brokers, security)
        or f"no Kafka broker answers at {brokers}: {str(error) or type(error).__name__}; start "
        "it, or correct AIOPYPE_BROKER or --broker"
        + (", or the settings of TLS and SASL" if security else "")
    )


async def reason(brokers: str, security: Mapping[str, Any] | None) -> str | None:
    """Return what keeps this client from brokers that are there, and what to do; in 4 s.

    None: nothing was found, or nobody is there. The arguments are those of `unreachable`.
    """
    addresses = brokers.split(",")[:ADDRESSES]
    found = await asyncio.gather(*(_looked_at(each, security or {}) for each in addresses))
    return next((each for each in found if each is not None), None)


async def _looked_at(address: str, security: Mapping[str, Any]) -> str | None:
    try:
        async with asyncio.timeout(SECONDS):
            return await _examine(address, security)
    except _FAILURES:
        return None


async def _examine(address: str, security: Mapping[str, Any]) -> str | None:
    try:
        if security.get("sasl_mechanism") == OAUTHBEARER:
            refused = await _refused_token(address, security)
            if refused is not None:
                return _of_login(address, security, refused)
        async with _connected(address, security) as connection:
            metadata = await connection.send(MetadataRequest([]))
    except _FAILURES as error:
        return await _explain(address, security, error)
    for _, host, port, *_ in metadata.brokers:
        named = f"{host}:{port}"
        if named != address:
            try:
                async with _connected(named, security):
                    pass
            except _FAILURES as error:
                why = await _explain(named, security, error) or str(error) or "no answer"
                return (
                    f"the broker at {address} calls itself {named}, where clients go next "
                    f"(advertised.listeners): {why}"
                )
    return None


async def _explain(address: str, security: Mapping[str, Any], error: BaseException) -> str | None:
    causes = list(_causes(error))
    if any(isinstance(c, ConnectionRefusedError | socket.gaierror | TimeoutError) for c in causes):
        return None
    for each in causes:
        told = await _told(address, security, each)
        if told is not None:
            return told
    return await _tried(address, security)


async def _told(address: str, security: Mapping[str, Any], error: BaseException) -> str | None:
    match error:
        case TokenUnavailable():
            told = f"no token to log in with at {address}: {error}"
        case ssl.SSLCertVerificationError():
            told = _of_certificate(address, error)
        case ssl.SSLError() if _is_about_us(error):
            told = (
                f"the broker at {address} does not take this client's certificate "
                f"({error.reason}); set ssl_certfile and ssl_keyfile to one that it trusts"
            )
        case kafka_errors.SaslAuthenticationFailed():
            told = _of_login(address, security, str(error.args[0]) if error.args else "")
        case kafka_errors.UnsupportedSaslMechanismError():
            told = await _of_mechanism(address, security)
        case kafka_errors.IllegalSaslStateError():
            told = (
                f"the broker at {address} asks for no login; set security_protocol to "
                f"{_without_login(security)}, or correct AIOPYPE_BROKER or --broker"
            )
        case _:
            return None
    return told


async def _tried(address: str, security: Mapping[str, Any]) -> str | None:
    """Return why a broker hangs up without a word."""
    plain = {"security_protocol": "PLAINTEXT"}
    has_tls, has_login = "ssl_context" in security, "sasl_mechanism" in security
    if has_tls and await _answers(address, plain):
        right = "SASL_PLAINTEXT" if has_login else "PLAINTEXT"
        return (
            f"the broker at {address} speaks without TLS; set security_protocol to {right}, or "
            "give the port that it speaks TLS on"
        )
    if not has_tls and await _speaks_tls(address):
        right = "SASL_SSL" if has_login else "SSL"
        return f"the broker at {address} speaks TLS; set security_protocol to {right}"
    if has_login or not await _answers(address, _before_login(security)):
        return None
    offered = await _mechanisms(address, security)
    right = "SASL_SSL" if has_tls else "SASL_PLAINTEXT"
    return (
        f"the broker at {address} wants a login; set security_protocol to {right}, and "
        f"sasl_mechanism to one of {', '.join(offered)}"
    )


def _of_certificate(address: str, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _OTHER_NAME:
        what = "is not for that name"
        todo = "give AIOPYPE_BROKER or --broker a name that it has, or have it made for this one"
    elif error.verify_code == _EXPIRED:
        what, todo = "has expired", "have it renewed"
    else:
        what = "is not trusted"
        todo = "set ssl_cafile to the PEM file of who has signed it"
    return f"the certificate of the broker at {address} {what}: {error.verify_message}; {todo}"


def _of_login(address: str, security: Mapping[str, Any], why: str) -> str:
    mechanism = security["sasl_mechanism"]
    if mechanism == OAUTHBEARER:
        return (
            f"the broker at {address} does not take the token (OAUTHBEARER): {why}; look at its "
            "expiry, issuer and audience, and at the settings sasl_token_..."
        )
    user = security["sasl_plain_username"]
    return (
        f"the broker at {address} refuses the login of {user!r} ({mechanism}): {why}; correct "
        "sasl_username and sasl_password"
    )


async def _of_mechanism(address: str, security: Mapping[str, Any]) -> str:
    offered = await _mechanisms(address, security)
    return (
        f"the broker at {address} takes no login by {security['sasl_mechanism']}; set "
        f"sasl_mechanism to one of {', '.join(offered)}"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_about_us(error: ssl.SSLError) -> bool:
    """Return whether a broker has refused our certificate, or the lack of one."""
    told = error.reason or ""
    return "ALERT" in told and any(word in told for word in ("CERTIFICATE", "UNKNOWN_CA"))


def _without_login(security: Mapping[str, Any]) -> str:
    return "SSL" if "ssl_context" in security else "PLAINTEXT"


def _before_login(security: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "security_protocol": _without_login(security),
        "ssl_context": security.get("ssl_context"),
    }


@contextlib.asynccontextmanager
async def _connected(
    address: str, security: Mapping[str, Any]
) -> AsyncIterator[AIOKafkaConnection]:
    host, _, port = address.rpartition(":")
    connection = await create_conn(
        host.strip("[]"), int(port), request_timeout_ms=int(SECONDS * 1000), **security
    )
    try:
        yield connection
    finally:
        connection.close()


async def _answers(address: str, security: Mapping[str, Any]) -> bool:
    try:
        async with _connected(address, security):
            return True
    except _FAILURES:
        return False


async def _speaks_tls(address: str) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # nothing is said, so nobody need be trusted
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def _mechanisms(address: str, security: Mapping[str, Any]) -> list[str]:
    """Return how a broker lets clients log in."""
    async with _connected(address, _before_login(security)) as connection:
        answer = await connection.send(SaslHandShakeRequest("none"))
        return sorted(answer.enabled_mechanisms)


async def _refused_token(address: str, security: Mapping[str, Any]) -> str | None:
    """Return why a broker does not take the token; None if it does.

    RFC 7628, 3.2.3: what is wrong comes as if it were the next step of the login, and only the
    answer to that brings the error. aiokafka takes the login for done, and the error for the
    answer to its first request.
    """
    provider = security["sasl_oauth_token_provider"]
    token = await provider.token()
    more = "".join(f"\x01{name}={value}" for name, value in provider.extensions().items())
    async with _connected(address, _before_login(security)) as connection:
        shaken = await connection.send(SaslHandShakeRequest(OAUTHBEARER))
        if shaken.error_code != 0:
            return None  # which a client is told of
        said = f"n,,\x01auth=Bearer {token}{more}\x01\x01".encode()
        answer = await connection.send(SaslAuthenticateRequest(said))
        if answer.error_code == 0 and answer.sasl_auth_bytes:
            answer = await connection.send(SaslAuthenticateRequest(b"\x01"))
        return f"{answer.error_message}{_age(token)}" if answer.error_code != 0 else None


def _age(token: str) -> str:
    """Return since when a token has been of no use, where it says so itself (RFC 7519)."""
    try:
        claims = token.split(".")[1]
        expiry = msgspec.json.decode(
            base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)), type=_Claims
        ).exp
    except (IndexError, ValueError):  # msgspec's errors and base64's are ValueErrors
        return ""
    late = time.time() - expiry
    return f", it expired {late:.0f} s ago" if late > 0 else ""
