"""The settings of TLS and SASL: how brokers are reached, and which of the settings fit together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from aiopype.errors import ConfigurationError
from aiopype.settings import values
from aiopype.settings.lookup import Setting

__all__ = ["MECHANISMS", "OAUTHBEARER", "PROTOCOLS", "SecuritySettings"]

#: Kafka's names for: as it is, encrypted, with a login, both.
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")

#: The login with a token; the others are with a name and a password.
OAUTHBEARER = "OAUTHBEARER"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", OAUTHBEARER)

_LOGIN = ("sasl_username", "sasl_password")
_TOKENS = ("sasl_token_file", "sasl_token_provider", "sasl_token_url")

# RFC 7628, 3.1: what a token may be sent with.
_EXTENSION = re.compile(r"(?!auth=)([A-Za-z]+)=([\x20-\x7e]+)")


def _function(value: Any, folder: Path) -> str:
    found = values.text(value, folder)
    if not re.fullmatch(r"[\w.]+:[\w.]+", found):
        raise ConfigurationError(f"function {found!r}: write module:function")
    return found


def _endpoint(value: Any, folder: Path) -> str:
    found = values.text(value, folder)
    try:
        parts = urlsplit(found)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname)
        inside = parts.username is not None or parts.password is not None
    except ValueError:
        known = inside = False
    if inside:  # and so not shown
        raise ConfigurationError("a login inside the URL is not taken; set " + " and ".join(_LOGIN))
    if not known:
        raise ConfigurationError(f"URL {found!r}: write https://host/path, or http://")
    return found


def _extensions(value: Any, folder: Path) -> tuple[str, ...]:
    found = tuple(part.strip() for part in values.text(value, folder).split(","))
    for each in found:
        if not _EXTENSION.fullmatch(each):
            raise ConfigurationError(f"extension {each!r}: write name=value,..., names of letters")
    return found


@dataclass(frozen=True, kw_only=True)
class SecuritySettings:
    """The settings of TLS and SASL, which are for a cluster."""

    security_protocol: Annotated[
        str | None,
        Setting(
            reason="how the brokers of a cluster are spoken to; in the clear without it",
            unit=" | ".join(PROTOCOLS),
            read=values.one_of(PROTOCOLS),
        ),
    ] = None
    ssl_cafile: Annotated[
        Path | None,
        Setting(
            reason="certificates of who signs the brokers'; those of the system without it",
            unit="PEM file",
            read=values.path,
        ),
    ] = None
    ssl_certfile: Annotated[
        Path | None,
        Setting(
            reason="this client's certificate, where brokers ask for one",
            unit="PEM file",
            read=values.path,
        ),
    ] = None
    ssl_keyfile: Annotated[
        Path | None,
        Setting(reason="the key of ssl_certfile", unit="PEM file", read=values.path),
    ] = None
    sasl_mechanism: Annotated[
        str | None,
        Setting(
            reason="how this client logs in",
            unit=" | ".join(MECHANISMS),
            read=values.one_of(MECHANISMS),
        ),
    ] = None
    sasl_username: Annotated[
        str | None,
        Setting(
            reason="who logs in; at sasl_token_url the client's id", unit="text", read=values.text
        ),
    ] = None
    sasl_password: Annotated[
        str | None,
        Setting(
            reason="with what; at sasl_token_url the client's secret",
            unit="text",
            read=values.text,
            secret=True,
        ),
    ] = field(default=None, repr=False)
    sasl_token_file: Annotated[
        Path | None,
        Setting(
            reason="the token of OAUTHBEARER, read anew for each connection",
            unit="file",
            read=values.path,
        ),
    ] = None
    sasl_token_provider: Annotated[
        str | None,
        Setting(
            reason="what returns the token of OAUTHBEARER, called for each connection",
            unit="module:function",
            read=_function,
        ),
    ] = None
    sasl_token_url: Annotated[
        str | None,
        Setting(
            reason="where a token of OAUTHBEARER is asked for (OpenID Connect, client credentials)",
            unit="URL",
            read=_endpoint,
        ),
    ] = None
    sasl_token_scope: Annotated[
        str | None,
        Setting(reason="the scope asked for at sasl_token_url", unit="text", read=values.text),
    ] = None
    sasl_extensions: Annotated[
        tuple[str, ...] | None,
        Setting(
            reason="what brokers want to know beside the token of OAUTHBEARER",
            unit="name=value,...",
            read=_extensions,
        ),
    ] = None

    def __post_init__(self) -> None:
        """Refuse settings of TLS and SASL that do not fit together.

        Raises:
            ConfigurationError: one does nothing, or lacks another; the text says which.
        """
        given = {name: getattr(self, name) for name in SecuritySettings.__annotations__}
        given = {name: value for name, value in given.items() if value is not None}
        protocol = given.pop("security_protocol", None)
        _check_protocol(protocol, given)
        if "ssl_keyfile" in given and "ssl_certfile" not in given:
            raise ConfigurationError("ssl_keyfile is the key of ssl_certfile; set both")
        if protocol is not None and protocol.startswith("SASL"):
            _check_login(protocol, given)


def _check_protocol(protocol: str | None, given: Mapping[str, Any]) -> None:
    for kind, what in (("ssl", "SSL or SASL_SSL"), ("sasl", "SASL_SSL or SASL_PLAINTEXT")):
        idle = sorted(name for name in given if name.startswith(f"{kind}_"))
        if idle and kind.upper() not in (protocol or "").split("_"):
            raise ConfigurationError(
                f"{', '.join(idle)} does nothing with security_protocol {protocol}; "
                f"set it to {what}"
            )


def _check_login(protocol: str, given: Mapping[str, Any]) -> None:
    mechanism = given.get("sasl_mechanism")
    needed = ["sasl_mechanism"]
    allowed = {"sasl_mechanism"}
    if mechanism == OAUTHBEARER:
        ways = [name for name in _TOKENS if name in given]
        if len(ways) != 1:
            raise ConfigurationError(
                f"sasl_mechanism {OAUTHBEARER} needs to know where its token is from; "
                f"set one of {', '.join(_TOKENS)}" + (f", not {' and '.join(ways)}" if ways else "")
            )
        allowed |= {*ways, "sasl_extensions"}
        if ways == ["sasl_token_url"]:
            allowed.add("sasl_token_scope")
            needed += _LOGIN
        what = f"sasl_mechanism {OAUTHBEARER} and {ways[0]}"
    else:
        needed += _LOGIN
        what = (
            f"security_protocol {protocol}" if mechanism is None else f"sasl_mechanism {mechanism}"
        )
    missing = [name for name in needed if name not in given]
    if missing:
        raise ConfigurationError(f"{what} needs {', '.join(missing)} as well")
    idle = [n for n in given if n.startswith("sasl_") and n not in allowed.union(needed)]
    if idle:
        raise ConfigurationError(f"{', '.join(sorted(idle))} does nothing with {what}; take it out")
