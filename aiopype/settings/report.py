"""Settings for people and for other programs: as text, as JSON, as help."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from aiopype.settings.lookup import REQUIRED, Found, Setting

__all__ = ["as_help", "as_json", "as_text"]

_HIDDEN = "****"


def as_text(table: Mapping[str, Setting], found: Mapping[str, Found]) -> str:
    """Return a line a setting: name, value, where it came from; secrets are hidden."""
    rows = [("setting", "value", "from")]
    rows += [(name, _shown(_value(table[name], f)), f.origin) for name, f in found.items()]
    return _aligned(rows)


def as_json(table: Mapping[str, Setting], found: Mapping[str, Found]) -> str:
    """Return the settings as a JSON object of `{"value": ..., "from": ...}`; secrets are hidden."""
    return json.dumps(
        {name: {"value": _value(table[name], f), "from": f.origin} for name, f in found.items()},
        indent=2,
        default=str,
    )


def as_help(table: Mapping[str, Setting]) -> str:
    """Return a line a setting: name, unit, default, reason."""
    rows = [("setting", "unit", "default", "what for")]
    for name, setting in table.items():
        default = "" if setting.default is REQUIRED else _shown(setting.default)
        rows.append((name, setting.unit, default, setting.reason))
    return _aligned(rows)


def _value(setting: Setting, found: Found) -> Any:
    return _HIDDEN if setting.secret and found.value is not None else found.value


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _aligned(rows: list[Any]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Iterable[str], widths: list[int]) -> str:
    cells = zip(row, widths, strict=True)
    return "  ".join(cell.ljust(width) for cell, width in cells).rstrip()
