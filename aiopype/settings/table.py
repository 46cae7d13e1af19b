"""The settings of a flow: one table, from which look-up, help and `aiopype config` are made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from aiopype.logs import FORMATS, LEVELS
from aiopype.settings import values
from aiopype.settings.lookup import REQUIRED, Found, Places, Setting, check, look_up
from aiopype.settings.security import SecuritySettings

__all__ = ["Settings"]

#: Attributes of old configurations that mean nothing any more.
_IGNORED = ("VERSION",)


@dataclass(frozen=True)
class Settings(SecuritySettings):
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
            reason="the consumer group, the same under every command; AsyncFlow(name=...) comes "
            "before it, the name of the flow's file after it",
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
            reason="in front of every topic and group, so that a flow runs twice on one cluster",
            unit="text",
            read=values.namespace,
        ),
    ] = None
    guarantee: Annotated[
        str,
        Setting(
            reason="what is promised of each event; a manager's own `guarantee` comes before it",
            unit=" | ".join(values.GUARANTEES),
            read=values.one_of(values.GUARANTEES),
            default=values.GUARANTEES[0],
        ),
    ] = values.GUARANTEES[0]
    flow: Annotated[
        str | None,
        Setting(
            reason="the flow that commands take when none is named",
            unit="file or module:attribute",
            read=values.target,
            in_object=False,
        ),
    ] = None
    web_port: Annotated[
        int | None,
        Setting(
            reason="where a worker answers for health and metrics; 0 is nowhere, and without it "
            f"{values.WEB_PORT}, or the next free one",
            unit="port",
            read=values.port,
        ),
    ] = None
    web_host: Annotated[
        str,
        Setting(
            reason="the address it answers on; 0.0.0.0 where others shall reach it",
            unit="host | unix:PATH",
            read=values.text,
            default="127.0.0.1",
        ),
    ] = "127.0.0.1"
    web_token: Annotated[
        str | None,
        Setting(
            reason="without it nobody gets metrics, nor why a worker is not ready",
            unit="text",
            read=values.token,
            secret=True,
        ),
    ] = field(default=None, repr=False)
    log_format: Annotated[
        str,
        Setting(
            reason="the form of a log line: for people, or an object for what collects them",
            unit=" | ".join(FORMATS),
            read=values.one_of(FORMATS),
            default=FORMATS[0],
        ),
    ] = FORMATS[0]
    log_level: Annotated[
        str,
        Setting(
            reason="what is logged: this level and those above it",
            unit=" | ".join(LEVELS),
            read=values.one_of(LEVELS),
            default="INFO",
        ),
    ] = "INFO"
    tracing: Annotated[
        bool,
        Setting(
            reason="whether events are traced from source to last handler (OpenTelemetry; needs "
            "the extra `tracing`)",
            unit="true | false",
            read=values.flag,
            default=False,
        ),
    ] = False
    sentry_dsn: Annotated[
        str | None,
        Setting(
            reason="where errors are reported to (Sentry; needs the extra `sentry`)",
            unit="URL",
            read=values.text,
            secret=True,
            old_names=("RAVEN_DSN",),
        ),
    ] = field(default=None, repr=False)
    watchdog_loop_seconds: Annotated[
        float,
        Setting(
            reason="a worker whose event loop is blocked for so long ends itself; after 10 s its "
            "partitions are others' anyway",
            unit="seconds; 0: never",
            read=values.seconds,
            default=60,
        ),
    ] = 60.0
    watchdog_batch_seconds: Annotated[
        float,
        Setting(
            reason="a worker ends itself when a batch is in work for so long; longer than the "
            "longest handler call",
            unit="seconds; 0: never",
            read=values.seconds,
            default=300,
        ),
    ] = 300.0
    watchdog_fetch_seconds: Annotated[
        float,
        Setting(
            reason="a worker ends itself when it could fetch and does not for so long, while the "
            "brokers answer",
            unit="seconds; 0: never",
            read=values.seconds,
            default=120,
        ),
    ] = 120.0
    watchdog_group_seconds: Annotated[
        float,
        Setting(
            reason="a worker ends itself when it is out of its group for so long, while the "
            "brokers answer",
            unit="seconds; 0: never",
            read=values.seconds,
            default=180,
        ),
    ] = 180.0

    @property
    def group(self) -> str:
        """The flow's consumer group, and what its own topics begin with."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    @classmethod
    def table(cls) -> dict[str, Setting]:
        """Return how each setting is looked up; those of TLS and SASL are the last."""
        hints = get_type_hints(cls, include_extras=True)
        names = sorted((f.name for f in fields(cls)), key=lambda n: n not in cls.__annotations__)
        return {name: get_args(hints[name])[-1] for name in names}

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
            first["name"] = (name, "AsyncFlow(name=...), or the name of its file")
        places = Places(first, config, environ, folder or Path.cwd())
        check(cls.table(), places, _IGNORED)
        return look_up(cls.table(), places)

    @classmethod
    def default_flow(
        cls, environ: Mapping[str, str] = os.environ, folder: Path | None = None
    ) -> str | None:
        """Return the target that commands take when none is named.

        Raises:
            ConfigurationError: it is no text.
        """
        places = Places({}, None, environ, folder or Path.cwd())
        target: str | None = look_up({"flow": cls.table()["flow"]}, places)["flow"].value
        return target

    @classmethod
    def of_logs(
        cls,
        config: Any,
        *,
        environ: Mapping[str, str] = os.environ,
        folder: Path | None = None,
        log_level: str | None = None,
    ) -> tuple[str, str]:
        """Return `log_format` and `log_level`, before anything else is looked at and logged.

        Arguments:
            log_level: what the command line said.

        Raises:
            ConfigurationError: one of them is no such word.
        """
        table = {name: cls.table()[name] for name in ("log_format", "log_level")}
        given = {"log_level": (log_level, "command line")}
        found = look_up(table, Places(given, config, environ, folder or Path.cwd()))
        return found["log_format"].value, found["log_level"].value

    @classmethod
    def load(cls, config: Any, name: Any = None, **places: Any) -> Settings:
        """Return the settings of a flow; the arguments are those of `look_up`.

        Raises:
            ConfigurationError: a setting is missing, of a wrong form, or unknown.
        """
        found = cls.look_up(config, name, **places)
        return cls(**{setting: value.value for setting, value in found.items()})
