"""Reads `topics/<manager>.toml`: what is wanted of the topics of a manager's events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aiopype.errors import ConfigurationError
from aiopype.settings.files import nearest, read_toml
from aiopype.topics.plan import TopicPlan
from aiopype.topics.quantities import milliseconds, octets
from aiopype.topics.topic import TopicSpec, is_legal

__all__ = ["read_plan"]

_DEFAULTS = "defaults"

#: Kafka counts partitions and copies in 32 and 16 bits; a topic of more is a mistake before that.
_MOST_PARTITIONS = 100_000
_MOST_COPIES = 32_767


def read_plan(
    managers: Iterable[str], folders: Iterable[Path], namespace: str | None = None
) -> TopicPlan:
    """Return the plan of the topics of these managers.

    Arguments:
        managers: names; one without a file has nothing said about its topics.
        folders: where `<manager>.toml` may be; the first that has one counts.
        namespace: goes in front of every topic's name.

    Raises:
        ConfigurationError: a file is not TOML, or says what is not known or of a wrong form; the
            text has the file and the key.
    """
    folders = list(folders)
    specs: dict[str, TopicSpec] = {}
    defaults: dict[str, TopicSpec] = {}
    for manager in managers:
        file = next((f for x in folders if (f := x / f"{manager}.toml").is_file()), None)
        if file is None:
            continue
        content = read_toml(file)
        common = defaults[manager] = _spec(file, _DEFAULTS, content.pop(_DEFAULTS, {}))
        for key, table in content.items():
            _check_key(file, key, table)
            specs[f"{manager}.{key}"] = _spec(file, key, table).over(common)
    return TopicPlan(namespace, specs, defaults)


def _check_key(file: Path, key: str, table: Any) -> None:
    if "." in key:
        return
    inner = next(iter(table), "event") if isinstance(table, dict) else "event"
    raise ConfigurationError(
        f"{file}: {key!r} is neither [{_DEFAULTS}] nor component and event; "
        f'those are written in quotes: ["{key}.{inner}"]'
    )


def _spec(file: Path, key: str, table: Any) -> TopicSpec:
    heading = f"[{_DEFAULTS}]" if key == _DEFAULTS else f'["{key}"]'
    if not isinstance(table, dict):
        raise ConfigurationError(f"{file}: {heading} is {table!r}; make it a table")
    fields: dict[str, Any] = {}
    configs: dict[str, str] = {}
    for option, value in table.items():
        where = f"{file}: {heading} {option}"
        if option not in _OPTIONS:
            raise ConfigurationError(f"{where} is not known; {nearest(option, _OPTIONS)}")
        if option == "name" and key == _DEFAULTS:
            raise ConfigurationError(f"{where}: a name is for one event; put it into its table")
        try:
            found = _OPTIONS[option](value)
        except ValueError as error:
            raise ConfigurationError(f"{where} = {value!r}: {error}") from None
        if not isinstance(found, dict):
            fields[option] = found
        elif twice := configs.keys() & found:
            raise ConfigurationError(f"{where}: {', '.join(sorted(twice))} is said twice")
        else:
            configs |= found
    return TopicSpec(**fields, configs=configs, file=file)


def _number(most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise ValueError(f"give a whole number from 1 to {most}")
        return value

    return read


def _name(value: Any) -> str:
    if not isinstance(value, str) or not is_legal(value):
        raise ValueError("use letters, digits, '.', '_' and '-', 249 characters at most")
    return value


def _retention(value: Any) -> dict[str, str]:
    return {"retention.ms": str(milliseconds(str(value)))}


def _retention_bytes(value: Any) -> dict[str, str]:
    return {"retention.bytes": str(octets(f"{value} B" if isinstance(value, int) else str(value)))}


def _cleanup(value: Any) -> dict[str, str]:
    policies = [part.strip() for part in str(value).split(",")]
    if sorted(policies) not in (["compact"], ["delete"], ["compact", "delete"]):
        raise ValueError("write delete, compact, or compact,delete")
    return {"cleanup.policy": ",".join(policies)}


def _config(value: Any) -> dict[str, str]:
    items = value.items() if isinstance(value, dict) else [("", None)]
    if not all(isinstance(item, str | int | float) for _, item in items):
        raise ValueError("make it a table of Kafka's settings, in quotes, and their values")
    return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in items}


#: What may be said of a topic, and how it is read: as a field of TopicSpec, or as Kafka's settings.
_OPTIONS: dict[str, Callable[[Any], int | str | dict[str, str]]] = {
    "partitions": _number(_MOST_PARTITIONS),
    "replication": _number(_MOST_COPIES),
    "name": _name,
    "retention": _retention,
    "retention_bytes": _retention_bytes,
    "cleanup": _cleanup,
    "config": _config,
}
