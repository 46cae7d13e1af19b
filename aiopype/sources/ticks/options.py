"""The options of the sources that tick."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from aiopype.sources.options import Count, Seconds, SourceOptions

__all__ = ["TickOptions"]

#: A number of seconds from 1 on: the clock is looked at once a second.
Grace = Annotated[float, msgspec.Meta(ge=1)]

#: A position tells of each run that is not over, and has 64 KiB at most.
Concurrency = Annotated[int, msgspec.Meta(ge=1, le=1_000)]


class TickOptions(SourceOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be said of every source that ticks, besides what `SourceOptions` has.

    An instant is missed when it is not ticked within `grace_seconds`: nothing ran, the clock was
    set forward, or what came before took so long.

    Attributes:
        missed: what becomes of missed instants. `skip`: nothing. `one`: one tick makes up for all
            of them, that of the last, and none where a later instant is ticked in time anyhow.
            `all`: each is ticked, in order.
        missed_limit: with `all`, so many at most, the last ones; and so many may wait for a run.
        grace_seconds: how late a tick is still in time. Less than a failover takes (some 15 s) has
            instants missed at each.
        overlap: what becomes of instants that come while the run of an earlier one, an overridden
            `run`, is not over. `skip`: they are missed. `queue`: they wait. `allow`: they run
            beside it.
        concurrency: with `allow`, how many run at once, 1,000 at most, counted from the first that
            is not over.
        run_seconds: how long a run may take; a longer one is cancelled and has failed. None: as
            long as it likes.
    """

    missed: Literal["skip", "one", "all"] = "one"
    missed_limit: Count = 10_000
    grace_seconds: Grace = 60.0
    overlap: Literal["skip", "queue", "allow"] = "skip"
    concurrency: Concurrency = 10
    run_seconds: Seconds | None = None
