"""What a flow is configured with, and where each setting comes from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiopype.errors import ConfigurationError

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """The settings of one flow.

    Attributes:
        flows: names of the managers to run, as in the configuration's `FLOWS`.
        name: the flow's name: its consumer group, the same under every command that runs it.
        broker: `host:port,...` of a Kafka cluster; None starts an embedded broker.
        data_dir: where the embedded broker and the worker keep their files.
    """

    flows: tuple[str, ...]
    name: str
    broker: str | None
    data_dir: Path

    @classmethod
    def load(
        cls,
        config: Any,
        name: str,
        *,
        broker: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Settings:
        """Return the settings of a flow: an argument first, then `config`, then `environ`.

        Arguments:
            config: the user's configuration object, with `FLOWS` and optionally `NAME`, `BROKER`
                and `DATA_DIR`.
            name: the flow's name where `config` has no `NAME`.
            broker: what the command line said.
            environ: where `AIOPYPE_BROKER` and `AIOPYPE_DATA_DIR` are looked up.

        Raises:
            ConfigurationError: a setting is missing or of a wrong form.
        """
        found = broker or getattr(config, "BROKER", None) or environ.get("AIOPYPE_BROKER")
        data_dir = getattr(config, "DATA_DIR", None) or environ.get("AIOPYPE_DATA_DIR")
        return cls(
            flows=_flows(config),
            name=_legal_name(getattr(config, "NAME", None) or name),
            broker=_addresses(found) if found else None,
            data_dir=Path(data_dir or ".aiopype").absolute(),
        )


def _flows(config: Any) -> tuple[str, ...]:
    given = getattr(config, "FLOWS", None)
    flows = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else ()
    if not flows or not all(isinstance(flow, str) for flow in flows):
        raise ConfigurationError(
            f"{type(config).__name__}.FLOWS is {given!r}; "
            "set it to the list of the names of the managers to run"
        )
    return flows


def _legal_name(name: Any) -> str:
    # Topics begin with it, so what Kafka takes for a topic counts, with room for a suffix.
    if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z0-9._-]{1,200}", name):
        raise ConfigurationError(
            f"flow name {name!r}: use letters, digits, '.', '_' and '-', 200 characters at most"
        )
    return name


def _addresses(broker: Any) -> str:
    if not isinstance(broker, str):
        raise ConfigurationError(f"broker {broker!r}: write host:port,... as text")
    addresses = [part.strip().removeprefix("kafka://") for part in broker.split(",")]
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
            raise ConfigurationError(f"broker address {address!r}: write host:port")
    return ",".join(addresses)
