"""TOML files: where they are, what they say, and which known name an unknown one resembles."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from aiopype.errors import ConfigurationError

__all__ = ["nearest", "project_folder", "read_toml"]


def project_folder(start: Path) -> Path | None:
    """Return the nearest folder at or above `start` that has a pyproject.toml."""
    start = start.absolute()
    return next((f for f in (start, *start.parents) if (f / "pyproject.toml").is_file()), None)


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file says.

    Raises:
        ConfigurationError: it cannot be read, or is not TOML; the text has file and line.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"reading {path}: {error}") from error


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name: the known one it resembles, or all that are known."""
    names = sorted(known)
    close = get_close_matches(name, names, 1)
    if close:
        return f"did you mean {close[0]}?"
    return f"there are {', '.join(names)}" if names else "there are none"
