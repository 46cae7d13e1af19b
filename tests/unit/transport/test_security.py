import logging
import ssl
from pathlib import Path

import pytest
import trustme
from aiokafka.protocol.admin import SaslAuthenticateRequest_v1, SaslHandShakeRequest_v1
from cryptography.hazmat.primitives import serialization

from aiopype.errors import ConfigurationError
from aiopype.settings import Settings
from aiopype.transport import admin as admin_module
from aiopype.transport.admin import Admin
from aiopype.transport.security import connection_options

LOGIN = {"sasl_mechanism": "PLAIN", "sasl_username": "me", "sasl_password": "secret"}


def options(**security):
    return connection_options(Settings(("a",), "flow", "a:1", Path(), **security))


def test_without_settings_there_are_no_options():
    assert options() == {}


def test_tls_has_a_context_that_checks_the_brokers():
    found = options(security_protocol="SSL")

    assert found["security_protocol"] == "SSL"
    assert found["ssl_context"].verify_mode is ssl.CERT_REQUIRED
    assert found["ssl_context"].check_hostname
    assert len(found) == 2


def test_sasl_has_the_login():
    assert options(security_protocol="SASL_PLAINTEXT", **LOGIN) == {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "me",
        "sasl_plain_password": "secret",
    }


def test_both_have_both():
    found = options(security_protocol="SASL_SSL", **LOGIN)

    assert found.keys() >= {"ssl_context", "sasl_mechanism"}


@pytest.mark.parametrize("name", ["ssl_cafile", "ssl_certfile"])
def test_a_file_that_cannot_be_read_is_said_by_its_name(tmp_path, name):
    (tmp_path / "wrong.pem").write_text("no certificate")

    for file in ("missing.pem", "wrong.pem"):
        with pytest.raises(ConfigurationError, match=f"reading certificates and key .*{file}"):
            options(security_protocol="SSL", **{name: tmp_path / file})


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path):
    authority = trustme.CA()
    key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"hidden"),
    )
    (tmp_path / "key.pem").write_bytes(encrypted)
    authority.cert_pem.write_to_path(tmp_path / "cert.pem")

    with pytest.raises(ConfigurationError, match="ssl_keyfile is encrypted; give it without"):
        options(
            security_protocol="SSL",
            ssl_certfile=tmp_path / "cert.pem",
            ssl_keyfile=tmp_path / "key.pem",
        )


async def test_oauthbearer_has_what_gives_tokens(tmp_path):
    (tmp_path / "token").write_text("abc")

    found = options(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="OAUTHBEARER",
        sasl_token_file=tmp_path / "token",
        sasl_extensions=("logicalCluster=lkc-1",),
    )

    assert found.keys() == {"security_protocol", "sasl_mechanism", "sasl_oauth_token_provider"}
    assert await found["sasl_oauth_token_provider"].token() == "abc"
    assert found["sasl_oauth_token_provider"].extensions() == {"logicalCluster": "lkc-1"}


def test_the_endpoint_of_tokens_may_be_signed_by_who_signs_the_brokers(tmp_path):
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")

    found = options(
        security_protocol="SASL_SSL",
        ssl_cafile=tmp_path / "ca.pem",
        sasl_mechanism="OAUTHBEARER",
        sasl_token_url="https://idp/token",
        sasl_username="me",
        sasl_password="secret",
    )

    provider = found["sasl_oauth_token_provider"]
    trusted = provider._fetch.__self__._context.get_ca_certs()
    assert any("trustme" in str(each["subject"]) for each in trusted)


def test_no_log_record_of_aiokafka_has_a_login(caplog):
    options(security_protocol="SASL_PLAINTEXT", **LOGIN)
    logger = logging.getLogger("aiokafka.conn")
    caplog.set_level(logging.DEBUG, logger.name)

    for request in (SaslAuthenticateRequest_v1(b"me\0secret"), SaslHandShakeRequest_v1("PLAIN")):
        logger.debug("Request to %s:%d %d: %s", "a", 1, 2, request)
    logger.warning("words alone")

    assert "secret" not in caplog.text
    assert "SaslHandShakeRequest" in caplog.text
    assert "words alone" in caplog.text


async def test_the_admin_connects_with_them(monkeypatch):
    made = []

    class Client:
        def __init__(self, **given):
            made.append(given)

        async def start(self):
            pass

    monkeypatch.setattr(admin_module, "AIOKafkaAdminClient", Client)

    await Admin("a:1", set(), security={"security_protocol": "SSL"}).on_start()

    assert made[0]["security_protocol"] == "SSL"
