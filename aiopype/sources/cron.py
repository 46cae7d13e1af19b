"""A source that ticks as a cron expression says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiopype.emitter import MessageHandler
from aiopype.errors import ConfigurationError
from aiopype.sources.options import read_options
from aiopype.sources.ticks import TickingSource, TickOptions
from aiopype.sources.ticks.cron import CronSchedule

__all__ = ["CronOptions", "CronSource"]


class CronOptions(TickOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be said of a `CronSource`, besides what `TickOptions` has.

    Attributes:
        timezone: whose clocks the expression is read by; a name of the IANA database.
    """

    timezone: str = "UTC"


class CronSource(TickingSource):
    """Ticks as a cron expression says: `CronSource(name, handler, "30 6 * * mon-fri")`.

    Emits `cron(timestamp)`: the scheduled instant, whole seconds since 1970. Once in the cluster,
    over restarts, moves and clocks that are set: docs/sources/cron.md says precisely when. Override
    `run` to do the work of a tick here.

    Arguments:
        name, handler: as for every component.
        expression: five fields (minute, hour, day of the month, month, day of the week); six, with
            the second in front of them; or a name like `@daily`.
        options: as `CronOptions` says: `timezone`, `missed`, `overlap` and others.

    Raises:
        ConfigurationError: the expression, the zone or another option makes no sense.
    """

    options: CronOptions

    def __init__(
        self,
        name: str,
        handler: MessageHandler,
        expression: str,
        options: Mapping[str, Any] | CronOptions | None = None,
    ) -> None:
        read = read_options(name, CronOptions, options)
        try:
            schedule = CronSchedule(expression, read.timezone)
        except ConfigurationError as error:
            raise ConfigurationError(f"source {name!r}: {error}") from error
        super().__init__(name, handler, schedule, read)
        self.expression = expression
