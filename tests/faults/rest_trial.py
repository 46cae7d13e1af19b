"""A REST source whose upstream has every fault, two more sources beside it, and two workers."""

from __future__ import annotations

import base64
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import msgspec

from .owners import Counts, Written
from .report import Result
from .topics import Topics, read
from .upstreams import Upstream
from .workers import SESSION_SECONDS, Workers

__all__ = ["FAULTS", "LETTERS", "RestTrial"]

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

#: So often an upstream in a mode is asked before the mode ends.
ASKED = 3

#: So long one is refused or frozen, of which nobody can count that.
HELD_SECONDS = 2.0

FAILOVER_SECONDS = SESSION_SECONDS + 5.0

#: The longest time without an event of a source whose owner lives, and which has one a second.
QUIET_SECONDS = 4.0

#: What a worker has at most: 80 MB from the beginning on.
MEMORY_MB = 140.0

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
        name = "up"

        def __init__(self, handler):
            super().__init__(handler)
            for name in ("items", "steady"):
                url = os.environ[name.upper()]
                Items(self.build_processor_name(name), handler, url, OPTIONS)
            Clock(self.build_processor_name("clock"), handler, 1, {"missed": "all"})

    class Config:
        FLOWS = ["up"]
        WEB_PORT = 0

    dataflow = AsyncFlow(Config(), name="up-flow")

    if __name__ == "__main__":
        dataflow.start()
"""

ITEM, STEADY, TICK = "up.items.item", "up.steady.item", "up.clock.tick"
ERRORS = ("up.items.error", "up.steady.error", "up.clock.error")
STATE = "up-flow.source-state"


class RestTrial:
    """Sources of two upstreams and a clock; what is done to the first, and what comes of it.

    Arguments:
        broker: `host:port`.
        start, wait_until: the fixtures.
        seed: of what is left to chance.
    """

    def __init__(self, broker: str, start: Any, wait_until: Any, seed: int) -> None:
        self.chance = random.Random(seed)
        self.faults = 0
        self.seconds = 0.0
        self._broker = broker
        self._seed = seed
        self._wait_until = wait_until
        self.upstream = Upstream("rest_upstream", start, PER_SECOND)
        self.steady = Upstream("rest_upstream", start, PER_SECOND)
        urls = {
            name: f"http://127.0.0.1:{upstream.port}/items"
            for name, upstream in (("ITEMS", self.upstream), ("STEADY", self.steady))
        }
        self.workers = Workers(PROGRAM, start, wait_until, AIOPYPE_BROKER=broker, **urls)
        self.workers.add(2)
        self.topics = Topics(broker, ITEM, STEADY, TICK, STATE)
        self._flows()
        #: Times at which the upstream gave nothing to be used, each with the last item before.
        self._useless: list[tuple[float, float, int]] = []
        self._letters: list[tuple[int, int]] = []

    # --- doing it

    def endure(self, fault: str, end: str | None = None) -> None:
        """Have the upstream at fault, and if so wished its source's owner end meanwhile."""
        self.faults += 1 if end is None else 2
        with self._upstream(fault):
            last, began = self.upstream.last, time.time()
            self._ask(fault)
            if end is not None:
                self.end_owner(end)
                self._ask(fault)
            ended = time.time()
        print(f"{fault} {end or ''} for {ended - began:.1f} s", flush=True)
        self._useless.append((began, ended, last))
        if fault in LETTERS:
            self._letters.append((1, 1 if end is None else 2))
        self.seconds = max(self.seconds, self._flows())

    def end_owner(self, how: str) -> None:
        """End the worker that runs the source; see `Workers.end`."""
        self.workers.end(how, self.topics.last(ITEM)[2])

    @contextmanager
    def _upstream(self, fault: str) -> Iterator[None]:
        if fault == "refused":
            with self.upstream.killed():
                yield
        elif fault == "frozen":
            with self.upstream.frozen():
                yield
        else:
            self.upstream.tell(mode=fault, letter=len(self._letters) + 1)
            yield
            self.upstream.tell(mode="good")

    def _ask(self, fault: str) -> None:
        """Wait until the source has asked the upstream in this mode some times."""
        if fault in {"refused", "frozen"}:
            time.sleep(HELD_SECONDS)
            return
        wanted = self.upstream.counts.get(fault, 0) + ASKED
        self._until(lambda: self.upstream.counts.get(fault, 0) >= wanted, f"asked while {fault}")

    def _flows(self) -> float:
        """Wait for an item that was not there before now; return how long that took."""
        began, last = time.time(), self.upstream.last
        self._until(
            lambda: self.topics.records[ITEM] and self.topics.last(ITEM)[0] > last, "items flow"
        )
        return time.time() - began

    def _until(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + FAILOVER_SECONDS
        while not condition():
            self.workers.check()
            assert time.monotonic() < deadline, f"{what} (seed {self._seed}):\n{self.workers.text}"
            time.sleep(0.05)

    # --- what came of it

    def finish(self, fault: str) -> Result:
        """Stop the upstreams' growth and the workers; return what is to be reported."""
        upstreams = {ITEM: self.upstream, STEADY: self.steady}
        for topic, upstream in upstreams.items():
            upstream.grow(0)
            last = upstream.last
            self._until(lambda t=topic, n=last: self.topics.last(t)[0] == n, f"all of {topic}")
        self._peaks = self.workers.peaks()
        print(f"memory: {self._peaks} MB")
        self.workers.stop()
        self.topics.settle()
        self.topics.close()
        self._rejected = read(self._broker, *ERRORS)
        counts = Counts.of({n: self.topics.written(topic) for n, topic in enumerate(upstreams)})
        letters = sum(map(len, self._rejected.values()))
        return Result(
            fault, "exactly_once", self._seed, self.faults, counts.events, counts.lost,
            counts.repeated, counts.interleaved, letters, 0, self.seconds,
        )  # fmt: skip

    def check(self) -> None:
        """Fail where anything else came of it than should; `finish` was called before."""
        for topic in (ITEM, STEADY):
            Counts.of({0: self.topics.written(topic)}).check()
        self._check_positions()
        self._check_letters()
        assert self.upstream.counts.get("too soon", 0) == 0, "Retry-After was not heeded"
        for topic in (STEADY, TICK):
            _check_runs_on(topic, self.topics.written(topic))
        instants = [tick.number for tick in self.topics.written(TICK)]
        assert instants == list(range(instants[0], instants[-1] + 1))
        assert max(self._peaks) < MEMORY_MB, f"{self._peaks} MB"

    def _check_positions(self) -> None:
        """An upstream that gives nothing to be used moves nothing."""
        before = 0
        for record in self.topics.records[STATE]:
            if record.key != b"up.items":
                continue
            state = msgspec.json.decode(record.value)
            since = (state["position"] or {}).get("since") or 0
            assert since >= before, f"from {before} back to {since}"
            for began, ended, last in self._useless:
                if began < state["at_ms"] / 1000 < ended:
                    assert since <= last, f"{since} of {last} at {state['at_ms']}"
            before = since

    def _check_letters(self) -> None:
        """There is a letter of each time something malformed came, by each owner that got it."""
        assert [len(self._rejected[topic]) for topic in ERRORS[1:]] == [0, 0]
        found: dict[int, int] = {}
        for record in self._rejected[ERRORS[0]]:
            text = base64.b64decode(msgspec.json.decode(record.value)["value"]).decode()
            number = re.search(r"letter\"?: (\d+)", text)
            assert number is not None, text
            found[int(number[1])] = found.get(int(number[1]), 0) + 1
        assert list(found) == list(range(1, len(self._letters) + 1))
        for count, (least, most) in zip(found.values(), self._letters, strict=True):
            assert least <= count <= most, f"{found}, not {self._letters}"


def _check_runs_on(topic: str, events: list[Written]) -> None:
    """A source whose own upstream is well goes on, unless its own owner ends."""
    for one, after in pairwise(events):
        quiet = after.seconds - one.seconds
        limit = QUIET_SECONDS if one.epoch == after.epoch else FAILOVER_SECONDS
        assert quiet < limit, f"{topic}: nothing for {quiet:.1f} s behind {one}, then {after}"
