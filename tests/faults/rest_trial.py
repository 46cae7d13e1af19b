"""A REST source whose upstream has every fault, two more sources beside it, and two workers."""

from __future__ import annotations

import base64
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from .owners import Counts, Written
from .report import Result
from .topics import Topics, read
from .upstream_trial import FAILOVER_SECONDS, UpstreamTrial
from .upstreams import Upstream
from .workers import Workers

__all__ = ["FAULTS", "RestTrial"]

#: Modes of the upstream; but `refused` and `frozen`, which are done to its process.
FAULTS = [
    "status_500", "status_503", "status_410", "status_429", "refused", "frozen", "dropped",
    "no_http", "cut", "cut_in_chunks", "silent", "slow", "malformed", "page_for_people",
    "redirect_loop", "large", "large_in_chunks", "two_gigabytes", "two_gigabytes_in_chunks",
    "two_gigabytes_packed",
]  # fmt: skip

#: Those of which there is a dead letter.
LETTERS = {"malformed", "page_for_people"}

PER_SECOND = 100.0

#: A poll for fewer items than this leaves as a whole.
POLL_ITEMS = 100

#: So long one is refused or frozen, of which nobody can count that.
HELD_SECONDS = 2.0

#: The longest time between two requests to an upstream that does not answer.
ASK_SECONDS = 3.0

#: The longest time without an event of a source whose owner lives, and which has one a second.
QUIET_SECONDS = 4.0

#: What a worker has at most, of which it has some 60 from the beginning on.
MEMORY_MB = 100.0

PROGRAM = """
    import os
    from aiopype import AsyncFlow, Manager, RestartPolicy
    from aiopype.sources import RestSource, TimeSource

    OPTIONS = {
        "request_interval": 0.1,
        "items": "items",
        "pages": 20,
        "connect_seconds": 1,
        "answer_seconds": 1,
        "answer_bytes": 65_536,
        "first_delay_seconds": 0.05,
        "last_delay_seconds": 0.4,
        "exception_threshold": 6,
    }

    class Items(RestSource):
        events = ("item",)
        restarts = RestartPolicy(first_quarantine_seconds=0.5, last_quarantine_seconds=1)

        def since_of(self, data, since):
            return max([since or 0, *data["items"]])

        async def emit_item(self, item, answer):
            await self.emit_async("item", item, self.epoch, os.getpid())

    class Clock(TimeSource):
        events = ("tick",)

        async def run(self, instant):
            await self.emit_async("tick", instant, self.epoch, os.getpid())

    class Up(Manager):
        name = os.environ["NAME"]

        def __init__(self, handler):
            super().__init__(handler)
            for name in ("items", "steady"):
                url = os.environ[name.upper()]
                Items(self.build_processor_name(name), handler, url, OPTIONS)
            Clock(self.build_processor_name("clock"), handler, 1, {"missed": "all"})

    class Config:
        FLOWS = [os.environ["NAME"]]
        WEB_PORT = 0

    dataflow = AsyncFlow(Config(), name=os.environ["NAME"] + "-flow")

    if __name__ == "__main__":
        dataflow.start()
"""


class Spell(NamedTuple):
    """A time in which the upstream gave nothing that can be used.

    Attributes:
        fault: why.
        began, ended: when.
        last: the number of the last item that there was before it.
        too_soon: how often it was asked before it wanted to be.
    """

    fault: str
    began: float
    ended: float
    last: int
    too_soon: int

    def has(self, state: Any) -> bool:
        """Whether a source's state was written in it."""
        return bool(self.began < state["at_ms"] / 1000 < self.ended)


class RestTrial(UpstreamTrial):
    """Sources of two upstreams and a clock; what is done to the first, and what comes of it.

    Arguments:
        broker: `host:port`.
        start, wait_until: the fixtures.
        seed: of what is left to chance.
    """

    def __init__(self, broker: str, start: Any, wait_until: Any, seed: int) -> None:
        name = f"up{uuid.uuid4().hex[:8]}"
        self._source = f"{name}.items"
        self._item, self._steady, self._tick = (
            f"{name}.{event}" for event in ("items.item", "steady.item", "clock.tick")
        )
        self._state = f"{name}-flow.source-state"
        self._errors = [f"{name}.{source}.error" for source in ("items", "steady", "clock")]
        upstream, self.steady = (Upstream("rest_upstream", start, PER_SECOND) for _ in range(2))
        env = {
            "AIOPYPE_BROKER": broker,
            "NAME": name,
            "ITEMS": f"http://127.0.0.1:{upstream.port}/items",
            "STEADY": f"http://127.0.0.1:{self.steady.port}/items",
        }
        workers = Workers(PROGRAM, start, wait_until, **env)
        topics = (self._item, self._steady, self._tick, self._state)
        super().__init__(seed, upstream, workers, lambda: Topics(broker, *topics))
        self._broker = broker
        self._spells: list[Spell] = []
        self._states: list[Any] = []

    def newest(self) -> tuple[int, int]:
        if not self.topics.records[self._item]:
            return 0, 0
        number, _, pid = self.topics.last(self._item)
        return number, pid

    # --- doing it

    def endure(self, fault: str, asked: int = 3, end: str | None = None) -> None:
        """Have the upstream at fault until it was asked so often.

        Arguments:
            end: how the source's owner ends meanwhile.
        """
        self.faults += 1
        if fault == "status_410":
            # In the middle of a poll it is the cursor that is gone: what left before comes again.
            self.until(self._is_between_polls, "it is between two polls")
        with self._upstream(fault):
            last, began = self.upstream.last, time.time()
            self._ask(fault, asked)
            if end is not None:
                self.end_owner(end)
                self._ask(fault, asked)
            ended = time.time()
            too_soon = self.upstream.counts.get("too soon", 0) if fault == "status_429" else 0
        print(f"{fault} for {ended - began:.1f} s, {end}")
        self._spells.append(Spell(fault, began, ended, last, too_soon))
        self.flows()

    def _is_between_polls(self) -> bool:
        """Whether the source has read to the end, and there is no long poll before it."""
        position = self._read_states()[-1]["position"]
        is_near = self.newest()[0] > self.upstream.last - POLL_ITEMS
        return is_near and "middle" not in (position or {})

    @contextmanager
    def _upstream(self, fault: str) -> Iterator[None]:
        if fault == "refused":
            with self.upstream.killed():
                yield
        elif fault == "frozen":
            with self.upstream.frozen():
                yield
        else:
            self.upstream.tell(mode=fault, letter=len(self._spells))
            yield
            self.upstream.tell(mode="good")

    def _ask(self, fault: str, times: int) -> None:
        """Wait until the source has asked the upstream in this mode so often."""
        if fault in {"refused", "frozen"}:
            time.sleep(HELD_SECONDS)
            return
        wanted = self.upstream.counts.get(fault, 0) + times
        self.until(
            lambda: self.upstream.counts.get(fault, 0) >= wanted,
            f"asked while {fault}",
            FAILOVER_SECONDS + times * ASK_SECONDS,
        )

    # --- what came of it

    def finish(self, fault: str) -> Result:
        """Stop the upstreams' growth and the workers; return what is to be reported."""
        upstreams = {self._item: self.upstream, self._steady: self.steady}
        for topic, upstream in upstreams.items():
            upstream.grow(0)
            last = upstream.last
            self.until(lambda t=topic, n=last: self.topics.last(t)[0] == n, f"all of {topic}")
        self.workers.stop()
        print(f"{self.workers.peak_mb:.0f} MB")
        self.topics.settle()
        self._states = self._read_states()
        self._rejected = read(self._broker, *self._errors)
        counts = Counts.of({n: self.topics.written(topic) for n, topic in enumerate(upstreams)})
        letters = sum(map(len, self._rejected.values()))
        return Result(
            fault, "exactly_once", self.seed, self.faults, counts.events, counts.lost,
            counts.repeated, counts.interleaved, letters, 0, self.seconds,
        )  # fmt: skip

    def check(self) -> None:
        """Fail where anything else came of it than should; `finish` was called before."""
        for topic in (self._item, self._steady):
            Counts.of({0: self.topics.written(topic)}).check()
        self._check_positions()
        for spell in self._spells:
            assert spell.too_soon <= self._moves(spell), f"{spell}: Retry-After was not heeded"
        self._check_letters()
        for topic in (self._steady, self._tick):
            _check_runs_on(topic, self.topics.written(topic))
        instants = [tick.number for tick in self.topics.written(self._tick)]
        assert instants == list(range(instants[0], instants[-1] + 1))
        assert self.workers.peak_mb < MEMORY_MB, f"{self.workers.peak_mb} MB"

    def _read_states(self) -> list[Any]:
        return [
            msgspec.json.decode(record.value)
            for record in list(self.topics.records[self._state])
            if record.key == self._source.encode()
        ]

    def _moves(self, spell: Spell) -> int:
        """How often the source had a new owner in a spell."""
        before = [state for state in self._states if state["at_ms"] / 1000 <= spell.began][-1]
        epochs = {state["epoch"] for state in self._states if spell.has(state)}
        return len(epochs - {before["epoch"]})

    def _check_positions(self) -> None:
        """An upstream that gives nothing to be used moves nothing."""
        before = 0
        for state in self._states:
            since = (state["position"] or {}).get("since") or 0
            assert since >= before, f"from {before} back to {since}"
            before = since
            for spell in self._spells:
                assert since <= spell.last or not spell.has(state), f"{since} in {spell}"

    def _check_letters(self) -> None:
        """There is a letter of each spell of something malformed, by each owner that got it."""
        assert [len(self._rejected[topic]) for topic in self._errors[1:]] == [0, 0]
        found: Counter[int] = Counter()
        for record in self._rejected[self._errors[0]]:
            text = base64.b64decode(msgspec.json.decode(record.value)["value"]).decode()
            number = re.search(r"letter\"?: (\d+)", text)
            assert number is not None, text
            found[int(number[1])] += 1
        malformed = [n for n, spell in enumerate(self._spells) if spell.fault in LETTERS]
        assert list(found) == malformed
        for number, count in found.items():
            assert count <= 1 + self._moves(self._spells[number]), f"{count} of {number}"


def _check_runs_on(topic: str, events: list[Written]) -> None:
    """A source whose own upstream is well goes on, unless its own owner ends."""
    for one, after in pairwise(events):
        quiet = after.seconds - one.seconds
        limit = QUIET_SECONDS if one.epoch == after.epoch else FAILOVER_SECONDS
        assert quiet < limit, f"{topic}: nothing for {quiet:.1f} s behind {one}, then {after}"
