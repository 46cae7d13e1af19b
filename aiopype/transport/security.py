"""How Kafka clients prove who they are and who the brokers are: TLS and SASL."""

from __future__ import annotations

import logging
import ssl
from typing import Any

from aiokafka.helpers import create_ssl_context

from aiopype.errors import ConfigurationError
from aiopype.settings import Settings
from aiopype.settings.security import OAUTHBEARER
from aiopype.transport.token_endpoint import Credentials, Endpoint
from aiopype.transport.tokens import Tokens, from_file, from_function

__all__ = ["connection_options"]


def connection_options(settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments for each of aiokafka's clients; none without such settings.

    Passwords and tokens are in none of aiokafka's log records from then on.

    Raises:
        ConfigurationError: a certificate or key cannot be read, or a function not be imported.
    """
    protocol = settings.security_protocol
    if protocol is None:
        return {}
    options: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        options["ssl_context"] = _context(settings)
    if protocol.startswith("SASL"):
        # At DEBUG aiokafka logs every request, those of a login as well.
        logging.getLogger("aiokafka.conn").addFilter(_is_no_login)
        options["sasl_mechanism"] = settings.sasl_mechanism
        if settings.sasl_mechanism == OAUTHBEARER:
            options["sasl_oauth_token_provider"] = _tokens(settings)
        else:
            options["sasl_plain_username"] = settings.sasl_username
            options["sasl_plain_password"] = settings.sasl_password
    return options


def _context(settings: Settings) -> ssl.SSLContext:
    files = {
        "cafile": settings.ssl_cafile,
        "certfile": settings.ssl_certfile,
        "keyfile": settings.ssl_keyfile,
    }
    try:
        # Without a password OpenSSL would ask for one at the terminal.
        context: ssl.SSLContext = create_ssl_context(**files, password=_no_password)
    except OSError as error:  # ssl.SSLError is one
        names = ", ".join(str(file) for file in files.values() if file is not None)
        raise ConfigurationError(f"reading certificates and key ({names}): {error}") from error
    return context


def _no_password() -> str:
    raise ConfigurationError(
        "ssl_keyfile is encrypted; give it without a password, and with rights for its user only: "
        "openssl pkey -in FILE -out NEW"
    )


def _tokens(settings: Settings) -> Tokens:
    extensions = settings.sasl_extensions or ()
    if settings.sasl_token_file is not None:
        origin = f"sasl_token_file {settings.sasl_token_file}"
        return Tokens(from_file(settings.sasl_token_file), origin, extensions)
    if settings.sasl_token_provider is not None:
        origin = f"sasl_token_provider {settings.sasl_token_provider}"
        return Tokens(from_function(settings.sasl_token_provider), origin, extensions)
    assert settings.sasl_token_url is not None
    assert settings.sasl_username is not None
    assert settings.sasl_password is not None
    credentials = Credentials(
        settings.sasl_username, settings.sasl_password, settings.sasl_token_scope
    )
    endpoint = Endpoint(settings.sasl_token_url, credentials, _context_of_web(settings))
    return Tokens(endpoint.fetch, f"sasl_token_url {settings.sasl_token_url}", extensions)


def _context_of_web(settings: Settings) -> ssl.SSLContext:
    """Return whom the token's endpoint may be signed by: the system's, and who signs brokers'."""
    context = ssl.create_default_context()
    if settings.ssl_cafile is not None:
        context.load_verify_locations(settings.ssl_cafile)
    return context


def _is_no_login(record: logging.LogRecord) -> bool:
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any(type(each).__name__.startswith("SaslAuthenticate") for each in arguments)
