"""What operators change about sources, and how they see that it has happened.

A wish is a record that each worker reads within a moment; what its owner has done of it stands in
the state of the source. A wish is read, changed and written: of two operators who change the same
source at the same moment the last one wins.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from aiopype.commands.owners import LOOK_SECONDS, Owners, Picture, SourceFacts
from aiopype.commands.rendering import one_line
from aiopype.errors import AiopypeError, BrokerError
from aiopype.ownership import SourceState, Wish, is_meant
from aiopype.settings.files import nearest

__all__ = [
    "Change", "Move", "Operator", "Outcome", "Pause", "Reset", "Restart", "Resume",
    "UnknownWorker", "carry_out", "check_move", "place", "position",
]  # fmt: skip


class UnknownWorker(AiopypeError):
    """A name that no live worker has, or one whose program lacks the source."""


class Operator(Protocol):
    """What writes; `transport.operating.Operator` is one."""

    async def wish(self, wishes: Mapping[str, Wish]) -> None:
        """Write what is wished, by source."""

    async def put(self, source: str, position: bytes | None, epoch: int) -> SourceState:
        """Say where a source is."""


class Outcome(NamedTuple):
    """What became of a change of a source.

    Attributes:
        name: the source.
        is_well: whether it has happened, or will as soon as it can.
        text: says it in words.
    """

    name: str
    is_well: bool
    text: str


class Change(Protocol):
    """One kind of change."""

    def wish(self, source: SourceFacts) -> Wish | None:
        """Return what is to be wished of a source from now on; None if that is wished already."""

    def is_seen(self, source: SourceFacts) -> bool:
        """Say whether a source, of which it is wished, is as it shall be."""

    def tell(self, source: SourceFacts) -> str:
        """Say how a source is of which it is seen, or was wished before."""


class Pause:
    """It runs no more until it is resumed."""

    def wish(self, source: SourceFacts) -> Wish | None:
        """Return the wish with the pause."""
        return None if source.wish.is_paused else _changed(source.wish, is_paused=True)

    def is_seen(self, source: SourceFacts) -> bool:
        """Say whether nobody runs it: its owner says so, or it has none that took over."""
        return not source.is_running or source.state is None or source.state.is_paused

    def tell(self, source: SourceFacts) -> str:
        """Say where it stands still."""
        return f"is paused at {place(source)}"


class Resume:
    """It runs again."""

    def wish(self, source: SourceFacts) -> Wish | None:
        """Return the wish without the pause."""
        return _changed(source.wish, is_paused=False) if source.wish.is_paused else None

    def is_seen(self, source: SourceFacts) -> bool:
        """Say whether its owner runs it."""
        return source.is_running and source.state is not None and not source.state.is_paused

    def tell(self, source: SourceFacts) -> str:
        """Say where it runs."""
        return f"runs on {source.owner}" if source.is_running else "is not paused"


class Restart:
    """Its owner stops it, and starts it again from where the brokers say it is."""

    def wish(self, source: SourceFacts) -> Wish | None:
        """Return the wish with one more restart."""
        return _changed(source.wish, restart=source.wish.restart + 1)

    def is_seen(self, source: SourceFacts) -> bool:
        """Say whether its owner has; of a paused one nothing is seen before it is resumed."""
        if source.wish.is_paused:
            return True
        has = source.state.restart if source.state is not None else 0
        return source.is_running and has >= source.wish.restart

    def tell(self, source: SourceFacts) -> str:
        """Say where it was started."""
        if source.wish.is_paused:
            return "is paused; it starts again when it is resumed"
        return f"is started again on {source.owner}"


@dataclass(frozen=True)
class Move:
    """It runs on a certain worker as long as that is there; anywhere if that is None."""

    worker: str | None

    def wish(self, source: SourceFacts) -> Wish | None:
        """Return the wish with the worker."""
        same = source.wish.worker == self.worker
        return None if same else _changed(source.wish, worker=self.worker)

    def is_seen(self, source: SourceFacts) -> bool:
        """Say whether it is there, and runs there unless it is paused."""
        if self.worker is None:
            return True
        is_there = source.owner is not None and is_meant(source.owner, self.worker)
        return is_there and (source.wish.is_paused or source.is_running)

    def tell(self, source: SourceFacts) -> str:
        """Say where it is."""
        now = f"is on {source.owner}" if source.owner else "is nobody's now"
        pinned = "and may run anywhere" if self.worker is None else f"pinned to {self.worker}"
        paused = ", paused" if source.wish.is_paused else ""
        return f"{now}, {pinned}{paused}"


class Reset(Restart):
    """It was put somewhere else, and is started again there.

    Done when a worker writes, as its owner, that it has: what an operator writes is nobody's.
    """

    def tell(self, source: SourceFacts) -> str:
        """Say who goes on from there."""
        if source.wish.is_paused:
            return "is paused; it begins there when it is resumed"
        return f"goes on from there on {source.owner}, epoch {source.epoch}"


def check_move(picture: Picture, sources: Sequence[SourceFacts], worker: str) -> None:
    """Refuse to move sources to where they cannot run.

    Raises:
        UnknownWorker: there is no such worker, or its program does not have one of them.
    """
    if not picture.is_settled:
        raise UnknownWorker("the workers are agreeing on who runs what; try again in a moment")
    meant = [each for each in picture.workers if is_meant(each.name, worker)]
    if not meant:
        names = sorted(each.name for each in picture.workers)
        hint = f"{nearest(worker, names)} There are {', '.join(names)}" if names else (
            "no worker of the flow runs"
        )  # fmt: skip
        raise UnknownWorker(f"there is no worker {worker!r}; {hint}")
    for source in sources:
        if not any(source.name in each.can for each in meant):
            raise UnknownWorker(f"the program of {worker} has no source {source.name!r}")


async def carry_out(
    change: Change,
    names: Sequence[str],
    owners: Owners,
    operator: Operator,
    seconds: float,
) -> AsyncIterator[Outcome]:
    """Wish a change of sources, and tell of each what became of it.

    Arguments:
        names: of the sources.
        seconds: how long it is waited for; 0 is not.

    Raises:
        BrokerError: it cannot be wished; part of it may be.
    """
    picture = await owners.settled()
    wishes = {name: change.wish(picture.sources[name]) for name in names}
    new = {name: wish for name, wish in wishes.items() if wish is not None}
    if new:
        await operator.wish(new)
    for name in names:
        if name not in new:
            yield Outcome(name, True, change.tell(picture.sources[name]))
    async for outcome in _outcomes(change, new, owners, seconds):
        yield outcome


async def _outcomes(
    change: Change, new: Mapping[str, Wish], owners: Owners, seconds: float
) -> AsyncIterator[Outcome]:
    deadline = time.monotonic() + seconds
    left = dict.fromkeys(new, "is wished; its worker sees it within a second")
    is_late = not seconds
    while left and not is_late:
        try:
            picture = await owners.settled(max(0.0, deadline - time.monotonic()))
        except BrokerError as error:
            left = dict.fromkeys(left, f"is wished; what comes of it cannot be seen: {error}")
            break
        is_late = time.monotonic() >= deadline
        for name in list(left):
            outcome = _outcome(change, picture, name)
            if outcome is not None:
                del left[name]
                yield outcome
            elif is_late:
                left[name] = _late(picture.sources[name], seconds)
        if left and not is_late:
            await asyncio.sleep(LOOK_SECONDS)
    for name, text in left.items():
        yield Outcome(name, not seconds, text)


def _outcome(change: Change, picture: Picture, name: str) -> Outcome | None:
    """Return what became of a change; None if that is not to be said yet."""
    source = picture.sources[name]
    if not picture.is_settled:
        return None
    if not any(name in worker.can for worker in picture.workers):
        return Outcome(name, True, "is wished; no worker that has it runs now, the next one obeys")
    return Outcome(name, True, change.tell(source)) if change.is_seen(source) else None


def _late(source: SourceFacts, seconds: float) -> str:
    if source.trouble is not None:
        return f"is wished, but does not run: {source.trouble}"
    who = f"worker {source.owner}" if source.owner else "the workers"
    return f"is wished, and not seen to be done after {seconds:g} s; look into the log of {who}"


def _changed(wish: Wish, **values: object) -> Wish:
    return msgspec.structs.replace(wish, at_ms=int(time.time() * 1000), **values)


def place(source: SourceFacts) -> str:
    """Say where a source is."""
    if source.trouble is not None:
        return "a position that cannot be read"
    raw = None if source.state is None else source.state.raw_position
    return position(raw)


def position(raw: bytes | None) -> str:
    """Say a position in words."""
    return "its beginning" if raw is None else f"position {one_line(raw.decode(errors='replace'))}"
