"""The forms of the settings' values: each function makes a field's value of what was found.

The folder is what a relative path is relative to: that of the pyproject.toml it stands in, the
current one otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aiopype.errors import ConfigurationError

__all__ = [
    "addresses",
    "flag",
    "flow_name",
    "manager_names",
    "namespace",
    "one_of",
    "path",
    "port",
    "seconds",
    "target",
    "text",
    "token",
]

#: Where a worker answers that was told no port.
WEB_PORT = 6066

# Kafka's limit for a topic is 249; the flow's own topics are called
# `<namespace>.<name>.<what for>`.
_NAME = re.compile(r"[a-zA-Z0-9._-]{1,200}")
_NAMESPACE = re.compile(r"(?=.{1,40}\Z)[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*")


def manager_names(value: Any, folder: Path) -> tuple[str, ...]:
    """Read `FLOWS`."""
    names = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(
            f"FLOWS is {value!r}; set it to the list of the names of the managers to run"
        )
    return names


def flow_name(value: Any, folder: Path) -> str:
    """Read a flow's name."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigurationError(
            f"flow name {value!r}: use letters, digits, '.', '_' and '-', 200 characters at most"
        )
    return value


def namespace(value: Any, folder: Path) -> str:
    """Read a namespace."""
    if not isinstance(value, str) or not _NAMESPACE.fullmatch(value):
        raise ConfigurationError(
            f"namespace {value!r}: use letters, digits, '_' and '-', with '.' between, "
            "40 characters at most"
        )
    return value


def addresses(value: Any, folder: Path) -> str:
    """Read the addresses of brokers."""
    if not isinstance(value, str):
        raise ConfigurationError(f"broker {value!r}: write host:port,... as text")
    found = [part.strip().removeprefix("kafka://") for part in value.split(",")]
    for address in found:
        host, _, port = address.rpartition(":")
        if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
            raise ConfigurationError(f"broker address {address!r}: write host:port")
    return ",".join(found)


def path(value: Any, folder: Path) -> Path:
    """Read a path."""
    if not isinstance(value, str | Path):
        raise ConfigurationError(f"path {value!r}: write it as text")
    return (folder / value).absolute()


def seconds(value: Any, folder: Path) -> float:
    """Read a time; in the environment it is text."""
    try:
        found = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        found = math.nan
    if not 0 <= found < math.inf:
        raise ConfigurationError(f"{value!r}: write a number of seconds, 0 for never")
    return found


def port(value: Any, folder: Path) -> int:
    """Read a port: a whole number from 0 to 65535."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65_535:
        raise ConfigurationError(f"port {value!r}: give a whole number from 0 to 65535")
    return int(text)


def target(value: Any, folder: Path) -> str:
    """Read a target: the path of a Python file, or `module:attribute`."""
    found = text(value, folder)
    return str((folder / found).resolve()) if found.endswith(".py") else found


def text(value: Any, folder: Path) -> str:
    """Read what has no form of its own."""
    if not isinstance(value, str):
        # It may be a password, so it is not shown.
        raise ConfigurationError(f"a {type(value).__name__} is no text; write it in quotes")
    return value


def token(value: Any, folder: Path) -> str:
    """Read a token that is sent in an HTTP header; blanks around it, a file's last line, go."""
    found = text(value, folder).strip()
    if not re.fullmatch(r"[!-~]+", found):
        raise ConfigurationError("a token is letters, digits and signs of ASCII, without blanks")
    return found


#: What is promised of events, the default first.
GUARANTEES = ("exactly_once", "at_least_once")


def flag(value: Any, folder: Path) -> bool:
    """Read yes or no; in the environment it is text."""
    found = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
    if found is None:
        raise ConfigurationError(f"{value!r}: write true or false")
    return found


def one_of(words: tuple[str, ...]) -> Callable[[Any, Path], str]:
    """Return what reads one of some words, in whatever case."""

    def read(value: Any, folder: Path) -> str:
        found = [word for word in words if str(value).upper() == word.upper()]
        if not found:
            raise ConfigurationError(f"{value!r}: write one of {', '.join(words)}")
        return found[0]

    return read
