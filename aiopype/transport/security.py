"""How Kafka clients prove who they are and who the brokers are: TLS and SASL."""

from __future__ import annotations

from typing import Any

from aiokafka.helpers import create_ssl_context

from aiopype.errors import ConfigurationError
from aiopype.settings import Settings

__all__ = ["connection_options"]


def connection_options(settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments for each of aiokafka's clients; none without such settings.

    Raises:
        ConfigurationError: a certificate or key cannot be read.
    """
    protocol = settings.security_protocol
    if protocol is None:
        return {}
    options: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        files = {
            "cafile": settings.ssl_cafile,
            "certfile": settings.ssl_certfile,
            "keyfile": settings.ssl_keyfile,
        }
        try:
            options["ssl_context"] = create_ssl_context(**files)
        except OSError as error:  # ssl.SSLError is one
            names = ", ".join(str(file) for file in files.values() if file is not None)
            raise ConfigurationError(f"reading certificates and key ({names}): {error}") from error
    if protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password,
        }
    return options
