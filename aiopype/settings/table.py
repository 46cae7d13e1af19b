"""The settings of a flow: one table, from which look-up, help and `aiopype config` are made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from aiopype.settings import values
from aiopype.settings.lookup import REQUIRED, Found, Places, Setting, look_up

__all__ = ["Settings"]

#: Attributes of old configurations that mean nothing any more.
_IGNORED = ("VERSION",)


@dataclass(frozen=True)
class Settings:
    """The settings of one flow; the `Setting` beside each field says unit, default and reason.

    In the configuration object a setting is called as here in upper case (`BROKER`), in the
    environment with `AIOPYPE_` before it (`AIOPYPE_BROKER`), in `[tool.aiopype]` of pyproject.toml
    as here.
    """

    flows: Annotated[
        tuple[str, ...],
        Setting(
            reason="the managers to run; every worker of a flow runs the same",
            unit="list of names",
            read=values.manager_names,
            default=REQUIRED,
            outside=False,
        ),
    ]
    name: Annotated[
        str,
        Setting(
            reason="the flow's consumer group, so it is the same under every command; "
            "AsyncFlow(config, name=...) comes first, the name of the flow's file last",
            unit="text",
            read=values.flow_name,
            default=REQUIRED,
            outside=False,
        ),
    ]
    broker: Annotated[
        str | None,
        Setting(
            reason="a Kafka cluster; without one an embedded broker is started",
            unit="host:port,...",
            read=values.addresses,
        ),
    ]
    data_dir: Annotated[
        Path,
        Setting(
            reason="where the embedded broker and the worker keep their files",
            unit="folder",
            read=values.path,
            default=".aiopype",
        ),
    ]
    namespace: Annotated[
        str | None,
        Setting(
            reason="in front of every topic and group of the flow, so that the same flow can run "
            "twice on one cluster",
            unit="text",
            read=values.namespace,
        ),
    ] = None
    flow: Annotated[
        str | None,
        Setting(
            reason="the flow that commands take when none is named",
            unit="file or module:attribute",
            read=values.target,
            in_object=False,
        ),
    ] = None
    sentry_dsn: Annotated[
        str | None,
        Setting(
            reason="where errors will be reported; accepted, not used yet",
            unit="URL",
            read=values.text,
            secret=True,
            old_names=("RAVEN_DSN",),
        ),
    ] = field(default=None, repr=False)

    @property
    def group(self) -> str:
        """The flow's consumer group, and what its own topics begin with."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    @classmethod
    def table(cls) -> dict[str, Setting]:
        """Return how each setting is looked up, in the order of the fields."""
        hints = get_type_hints(cls, include_extras=True)
        return {f.name: get_args(hints[f.name])[-1] for f in fields(cls)}

    @classmethod
    def look_up(
        cls,
        config: Any,
        name: Any = None,
        *,
        environ: Mapping[str, str] = os.environ,
        folder: Path | None = None,
        **given: Any,
    ) -> dict[str, Found]:
        """Return each setting's value and where it came from.

        The order is: `given`, then `config`, `environ`, `[tool.aiopype]` of the nearest
        pyproject.toml, and the default.

        Arguments:
            config: the user's configuration object; None when there is none.
            name: the flow's name as the flow knows it.
            environ: the environment.
            folder: the current one if not given.
            given: what the command line said, by setting; None is nothing.

        Raises:
            ConfigurationError: a setting is missing, of a wrong form, or unknown.
        """
        first = {setting: (value, "command line") for setting, value in given.items()}
        if name is not None and name != getattr(config, "NAME", None):
            first["name"] = (name, "the flow's name= or its file")
        places = Places(first, config, environ, folder or Path.cwd())
        return look_up(cls.table(), places, _IGNORED)

    @classmethod
    def load(cls, config: Any, name: Any = None, **places: Any) -> Settings:
        """Return the settings of a flow; the arguments are those of `look_up`.

        Raises:
            ConfigurationError: a setting is missing, of a wrong form, or unknown.
        """
        found = cls.look_up(config, name, **places)
        return cls(**{setting: value.value for setting, value in found.items()})
