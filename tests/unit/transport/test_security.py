import ssl
from pathlib import Path

import pytest

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
