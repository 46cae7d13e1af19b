"""The instants of a cron expression in a time zone, also where clocks are changed.

cronsim reads the expression and knows the calendar; it is asked for times without a zone. What
becomes of them when clocks are changed is decided here, as cron of Debian does. cronsim does the
same where clocks change by whole hours, and loses instants where they change by 30 minutes, as at
Lord Howe.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from difflib import get_close_matches
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from aiopype.errors import ConfigurationError

__all__ = ["CronSchedule"]

#: The names that crontab(5) has for some expressions.
NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

#: Clocks are not changed twice within it.
DAY_SECONDS = 86_400

_EPOCH = datetime(1970, 1, 1)
_SECOND = timedelta(seconds=1)


class CronSchedule:
    """The instants of a cron expression.

    One that names its minutes and hours (neither field begins with `*`) is for fixed times: each
    comes once on its day. In an hour that is repeated it comes the first time; in one that is
    skipped it comes when the skipped time ends. One with `*` there goes by what clocks show: in an
    hour that is repeated it comes both times, in one that is skipped it does not come.

    Arguments:
        expression: five fields (minute, hour, day of the month, month, day of the week), six (the
            second in front of them), or a name like `@daily`.
        timezone: whose clocks they are read by; a name of the IANA database.

    Raises:
        ConfigurationError: the expression or the zone makes no sense.
    """

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        self._zone = _read_zone(timezone)
        self._expression = NAMED.get(expression, expression)
        try:
            self._later(0)
        except CronSimError as error:
            raise ConfigurationError(f"cron expression {expression!r}: {error}") from error
        times = self._expression.split()[:-3]
        self._is_fixed = not any(field.startswith("*") for field in times)

    def after(self, instant: int) -> int | None:
        """Return the first one that is later; None when there is none in the next 50 years."""
        return self._fixed_after(instant) if self._is_fixed else self._wild_after(instant)

    def _fixed_after(self, instant: int) -> int | None:
        shown: int | None = instant + self._offset(instant)
        while shown is not None and (shown := self._later(shown)) is not None:
            # In a repeated hour the clock shows again what was an instant the first time.
            if (found := self._first(shown)) > instant:
                return found
        return None

    def _wild_after(self, instant: int) -> int | None:
        since, offset = instant, self._offset(instant)
        while (shown := self._later(instant + offset)) is not None:
            change = self._change(since, shown - offset)
            if change is None:
                return shown - offset
            since, instant, offset = change, change - 1, self._offset(change)
        return None

    def _later(self, shown: int) -> int | None:
        """Return the next time of the expression by a clock without zone, in seconds since 1970."""
        found = next(CronSim(self._expression, _EPOCH + shown * _SECOND), None)
        return None if found is None else (found - _EPOCH) // _SECOND

    def _first(self, shown: int) -> int:
        """Return when clocks first show a time; when they skip it, the end of what they skip."""
        local = (_EPOCH + shown * _SECOND).replace(tzinfo=self._zone)
        found = int(local.timestamp())
        if found + self._offset(found) == shown:
            return found
        change = self._change(int(local.replace(fold=1).timestamp()), found)
        assert change is not None
        return change

    def _offset(self, instant: int) -> int:
        """Return the seconds by which clocks are ahead of UTC."""
        offset = datetime.fromtimestamp(instant, self._zone).utcoffset()
        assert offset is not None
        return offset // _SECOND

    def _change(self, after: int, until: int) -> int | None:
        """Return the first instant after `after`, to `until`, at which the offset is another."""
        offset = self._offset(after)
        while after < until:
            end = min(after + DAY_SECONDS, until)
            if self._offset(end) != offset:
                while end - after > 1:
                    middle = (after + end) // 2
                    if self._offset(middle) == offset:
                        after = middle
                    else:
                        end = middle
                return end
            after = end
        return None


def _read_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        close = get_close_matches(name, available_timezones(), 1)
        hint = f"did you mean {close[0]!r}?" if close else "give one like 'Europe/Lisbon'"
        raise ConfigurationError(f"there is no time zone {name!r}; {hint}") from error
