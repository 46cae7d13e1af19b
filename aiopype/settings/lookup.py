"""Finds a setting: command line, configuration object, environment, pyproject.toml, default."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from aiopype.errors import ConfigurationError
from aiopype.logs import about
from aiopype.settings.files import nearest, project_folder, read_toml

__all__ = ["REQUIRED", "Found", "Places", "Setting", "check", "look_up"]

logger = logging.getLogger(__name__)

_PREFIX = "AIOPYPE_"

#: The default of a setting that has none.
REQUIRED: Any = object()


@dataclass(frozen=True)
class Setting:
    """How a setting is looked up and told of.

    Attributes:
        reason: what it is for, and why one would set it.
        unit: what its value is written in.
        read: makes its value of what was found, or raises ConfigurationError; the folder is what
            a relative path is relative to.
        default: what `read` gets when nothing was found; None stays None.
        in_object: whether the configuration object may have it.
        outside: whether environment and pyproject.toml may have it.
        secret: never shown.
        old_names: further names in the configuration object.
    """

    reason: str
    unit: str
    read: Callable[[Any, Path], Any]
    default: Any = None
    in_object: bool = True
    outside: bool = True
    secret: bool = False
    old_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """The value of a setting, and who said it."""

    value: Any = field(repr=False)
    origin: str


class Places(NamedTuple):
    """Where settings are looked up.

    Attributes:
        given: values that come first, each with its origin.
        config: the configuration object; None when no flow is known.
        environ: the environment.
        folder: the current one; pyproject.toml is looked for from here up.
    """

    given: Mapping[str, tuple[Any, str]]
    config: Any
    environ: Mapping[str, str]
    folder: Path


def check(table: Mapping[str, Setting], places: Places, ignored: Iterable[str] = ()) -> None:
    """Refuse unknown names in the configuration object and in pyproject.toml.

    Unknown variables are only warned of: Kubernetes adds some of its own.

    Arguments:
        table: the settings by their names.
        places: where to look.
        ignored: attributes of the configuration object that are accepted and mean nothing.

    Raises:
        ConfigurationError: there is such a name; the text has it, and the known one it resembles.
    """
    _check_object(table, places.config, ignored)
    _check_pyproject(table, *_pyproject(places.folder))
    _check_environ(table, places.environ)


def look_up(table: Mapping[str, Setting], places: Places) -> dict[str, Found]:
    """Return every setting of a table; None and empty text count as not set.

    Arguments:
        table: the settings by their names.
        places: where to look, in order.

    Raises:
        ConfigurationError: a value is of a wrong form, or missing; the text says where.
    """
    pyproject, file = _pyproject(places.folder)
    found = {}
    for name, setting in table.items():
        candidates = _candidates(name, setting, places, pyproject, file)
        set_ones = (c for c in candidates if c[0] is not None and c[0] != "")
        found[name] = _read(setting, *next(set_ones, _default(name, setting, places)))
    return found


def _candidates(
    name: str, setting: Setting, places: Places, pyproject: Mapping[str, Any], file: Path
) -> Iterator[tuple[Any, str, Path]]:
    if name in places.given:
        yield *places.given[name], places.folder
    if setting.in_object and places.config is not None:
        for attribute in (name.upper(), *setting.old_names):
            yield (
                getattr(places.config, attribute, None),
                _attribute_of(places.config, attribute),
                places.folder,
            )
    if setting.outside:
        variable = _PREFIX + name.upper()
        yield places.environ.get(variable), f"environment {variable}", places.folder
        yield pyproject.get(name), f"[tool.aiopype] {name} in {file}", file.parent


def _default(name: str, setting: Setting, places: Places) -> tuple[Any, str, Path]:
    if setting.default is not REQUIRED:
        return setting.default, "default", places.folder
    if places.config is None:
        return None, "no flow is named", places.folder
    return REQUIRED, _attribute_of(places.config, name.upper()), places.folder


def _read(setting: Setting, raw: Any, origin: str, folder: Path) -> Found:
    if raw is None:
        return Found(None, origin)
    try:
        return Found(setting.read(None if raw is REQUIRED else raw, folder), origin)
    except ConfigurationError as error:
        raise ConfigurationError(f"{origin}: {error}") from None


def _attribute_of(config: Any, attribute: str) -> str:
    if isinstance(config, ModuleType):
        return f"{config.__name__}.{attribute}"
    cls = config if isinstance(config, type) else type(config)
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    known = file and cls.__module__.partition(".")[0] not in sys.stdlib_module_names
    return f"{cls.__name__}.{attribute}" + (f" in {Path(file).name}" if known and file else "")


def _pyproject(folder: Path) -> tuple[dict[str, Any], Path]:
    project = project_folder(folder)
    if project is None:
        return {}, folder / "pyproject.toml"
    file = project / "pyproject.toml"
    tool = read_toml(file).get("tool", {})
    settings = tool.get("aiopype", {})
    if not isinstance(settings, dict):
        raise ConfigurationError(f"{file}: tool.aiopype is {settings!r}; make it a table")
    return settings, file


def _check_object(table: Mapping[str, Setting], config: Any, ignored: Iterable[str]) -> None:
    known = {attribute.upper() for attribute, setting in table.items() if setting.in_object}
    accepted = known.union(ignored, *(setting.old_names for setting in table.values()))
    for attribute in dir(config):
        if attribute.isupper() and not attribute.startswith("_") and attribute not in accepted:
            raise ConfigurationError(
                f"{_attribute_of(config, attribute)} is no setting (a name of your own is written "
                f"in lower case, or begins with '_'); {nearest(attribute, known)}"
            )


def _check_pyproject(table: Mapping[str, Setting], pyproject: Iterable[str], file: Path) -> None:
    known = [name for name, setting in table.items() if setting.outside]
    for name in pyproject:
        if name not in known:
            raise ConfigurationError(
                f"[tool.aiopype] in {file}: {name!r} is no setting; {nearest(name, known)}"
            )


def _check_environ(table: Mapping[str, Setting], environ: Iterable[str]) -> None:
    known = [_PREFIX + name.upper() for name, setting in table.items() if setting.outside]
    for variable in environ:
        if variable.startswith(_PREFIX) and variable not in known:
            logger.warning(
                "%s is ignored: no setting; %s", variable, nearest(variable, known),
                extra=about(apart=variable),
            )  # fmt: skip
