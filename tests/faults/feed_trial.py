"""A websocket source whose upstream has every fault, and two workers of which one runs it."""

from __future__ import annotations

import base64
import re
import time
import uuid
from collections import Counter
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from aiopype.sources import Gap

from .owners import Counts, Written
from .report import Result
from .topics import Topics, read
from .upstream_trial import UpstreamTrial
from .upstreams import Upstream
from .workers import Workers

__all__ = ["ACTS", "FAULTS", "MODES", "PER_SECOND", "FeedTrial"]

#: What is done once to the connection that there is, and ends it.
ACTS = ["breaks_off", "closes_well", "half_open", "no_frame", "large", "large_in_parts"]

#: Modes of the upstream; but `refused` and `frozen`, which are done to its process.
MODES = ["closes", "refuses", "hangs", "refused", "frozen"]

FAULTS = [*ACTS, *MODES, "malformed", "no_history"]

PER_SECOND = 100.0

#: So often one connects to an upstream in a mode before the mode ends.
TRIED = 4

#: So long one is refused or frozen, of which nobody can count that.
HELD_SECONDS = 2.0

#: Frames are under way for less, unless there is a flood.
WAY_SECONDS = 0.5

#: What a worker has at most, of which it has some 60 from the beginning on.
MEMORY_MB = 100.0

PROGRAM = """
    import os

    import aiohttp
    import msgspec
    from aiopype import AsyncFlow, Manager, RestartPolicy
    from aiopype.sources import WebsocketSource

    OPTIONS = {
        "ping_interval": 0.5,
        "heartbeat_timeout": 1,
        "connect_seconds": 1,
        "healthy_seconds": 0.5,
        "first_delay_seconds": 0.05,
        "last_delay_seconds": 0.4,
        "exception_threshold": 6,
        "backfill_seconds": 2,
        "backfill_attempts": 1_000,
    }
    QUICKLY = aiohttp.ClientTimeout(total=2)

    class Plain(WebsocketSource):
        restarts = RestartPolicy(first_quarantine_seconds=0.5, last_quarantine_seconds=1)

        def parse(self, frame):
            number, is_live = msgspec.json.decode(frame)
            return [number, self.epoch, os.getpid(), is_live]

        def position_of(self, message):
            return message[0]

        async def on_connect(self):
            await self.websocket.send({"op": "subscribe"})
            if await self.websocket.receive() != '"subscribed"':
                raise ConnectionRefusedError("it is not subscribed")

    class Filled(Plain):
        async def backfill(self, gap):
            after = gap.position or 0
            url = os.environ["HISTORY"]
            async with aiohttp.ClientSession(timeout=QUICKLY, raise_for_status=True) as session:
                while True:
                    async with session.get(url, params={"after": after}) as answer:
                        page = msgspec.json.decode(await answer.read())
                    if not page:
                        return
                    for number in page:
                        yield f"[{number},0]"
                    after = page[-1]

    class Up(Manager):
        name = os.environ["NAME"]

        def __init__(self, handler):
            super().__init__(handler)
            name, url = self.build_processor_name("source"), os.environ["FEED"]
            source = Filled if "HISTORY" in os.environ else Plain
            source(name, handler, url, OPTIONS)

    class Config:
        FLOWS = [os.environ["NAME"]]
        WEB_PORT = 0

    dataflow = AsyncFlow(Config(), name=os.environ["NAME"] + "-flow")

    if __name__ == "__main__":
        dataflow.start()
"""


class Interruption(NamedTuple):
    """What was done, and between when and when nobody could get anything live."""

    fault: str
    began: float
    ended: float


class FeedTrial(UpstreamTrial):
    """A websocket source; what is done to its upstream, and what comes of it.

    Arguments:
        broker: `host:port`.
        start, wait_until: the fixtures.
        seed: of what is left to chance.
        is_filled: whether the source has a back-fill.
    """

    def __init__(
        self, broker: str, start: Any, wait_until: Any, seed: int, *, is_filled: bool = True
    ) -> None:
        name = f"feed{uuid.uuid4().hex[:8]}"
        self._message, self._gap, self._error = (
            f"{name}.source.{event}" for event in ("message", "gap", "error")
        )
        upstream = Upstream("feed_upstream", start, PER_SECOND)
        env = {"AIOPYPE_BROKER": broker, "NAME": name}
        env["FEED"] = f"ws://127.0.0.1:{upstream.feed_port}/"
        if is_filled:
            env["HISTORY"] = f"http://127.0.0.1:{upstream.port}/history"
        workers = Workers(PROGRAM, start, wait_until, **env)
        super().__init__(seed, upstream, workers, lambda: Topics(broker, self._message, self._gap))
        self._broker = broker
        self._is_filled = is_filled
        self._interruptions: list[Interruption] = []
        self._letters = 0

    def newest(self) -> tuple[int, int]:
        if not self.topics.records[self._message]:
            return 0, 0
        ((number, _, pid, _),) = self.topics.last(self._message)
        return number, pid

    # --- doing it

    def endure(self, fault: str, end: str | None = None) -> None:
        """Have the upstream at fault; `end` says how the source's owner ends meanwhile."""
        self.faults += 1
        began = ended = time.time()
        if fault == "malformed":
            self._letters += 1
            self.upstream.tell(letter=self._letters)
            self.upstream.do(fault)
            self.flows()  # what its owner has not read when it ends is in no history
        elif fault == "no_history":
            self.upstream.tell(history_faults=self.chance.randint(2, 4))
            self.upstream.do("breaks_off")
        elif fault in ACTS:
            self.upstream.do(fault)
        else:
            ended = self._endure_mode(fault, end)
        print(f"{fault} for {ended - began:.1f} s, {end}")
        if fault != "malformed":
            self._interruptions.append(Interruption(fault, began, ended))
        if end is not None and fault not in MODES:
            self.end_owner(end)
        self.flows()
        self.upstream.tell(history_faults=0)

    def end_owner(self, how: str) -> None:
        began = time.time()
        super().end_owner(how)
        self._interruptions.append(Interruption(how, began, began))

    def _endure_mode(self, fault: str, end: str | None) -> float:
        """Return when the upstream was about to be well again."""
        if fault == "refused":
            with self.upstream.killed():
                return self._hold(fault, end)
        if fault == "frozen":
            with self.upstream.frozen():
                return self._hold(fault, end)
        self.upstream.tell(mode=fault)
        self.upstream.do("breaks_off")
        ended = self._hold(fault, end)
        self.upstream.tell(mode="good")
        return ended

    def _hold(self, fault: str, end: str | None) -> float:
        self._try(fault)
        if end is not None:
            self.end_owner(end)
            self._try(fault)
        return time.time()

    def _try(self, fault: str) -> None:
        """Wait until the source has tried to connect to an upstream in this mode some times."""
        if fault in {"refused", "frozen"}:
            time.sleep(HELD_SECONDS)
            return
        wanted = self.upstream.counts.get(fault, 0) + TRIED
        self.until(lambda: self.upstream.counts.get(fault, 0) >= wanted, f"tried while {fault}")

    # --- what came of it

    def finish(self, fault: str) -> Result:
        """Stop the upstream's growth and the workers; return what is to be reported."""
        self.upstream.grow(0)
        self.until(lambda: self.newest()[0] == self.upstream.last, "all messages")
        self.workers.stop()
        print(f"{self.workers.peak_mb:.0f} MB")
        self.topics.settle()
        self._letters_found = read(self._broker, self._error)[self._error]
        self.messages = [
            (Written(*message[:3], record.timestamp / 1000), message[3] == 1)
            for record in self.topics.records[self._message]
            for message in msgspec.json.decode(record.value)
        ]
        self.gaps = [
            msgspec.json.decode(record.value, type=Gap) for record in self.topics.records[self._gap]
        ]
        counts = self._counts()
        return Result(
            fault, "exactly_once", self.seed, self.faults, counts.events, counts.lost,
            counts.repeated, counts.interleaved, len(self._letters_found), 0, self.seconds,
        )  # fmt: skip

    def _counts(self) -> Counts:
        """Count the messages, from the first that came; lost is what is missing in no gap."""
        first = self.messages[0][0].number - 1
        written = [one._replace(number=one.number - first) for one, _ in self.messages]
        lost = sum(not self._is_in_gap(number) for number in self._missing())
        return Counts.of({0: written})._replace(lost=lost)

    def _missing(self) -> list[int]:
        numbers = [one.number for one, _ in self.messages]
        return [n for one, after in pairwise(numbers) for n in range(one + 1, after)]

    def check(self, memory_mb: float = MEMORY_MB) -> None:
        """Fail where anything else came of it than should; `finish` was called before."""
        self._counts().check()
        assert {gap.filled for gap in self.gaps} <= {self._is_filled}
        self._check_filled()
        for interruption in self._interruptions:
            self._check_interruption(interruption)
        self._check_letters()
        assert self.workers.peak_mb < memory_mb, f"{self.workers.peak_mb} MB"

    def _check_filled(self) -> None:
        """With a back-fill nothing is missing; without one nothing comes but live.

        What a back-fill has may have come live too: it fetches what was there after the gap's end.
        """
        filled = [one.number for one, is_live in self.messages if not is_live]
        missing = self._missing()
        print(f"{len(filled)} filled, {len(missing)} missing")
        assert not (missing if self._is_filled else filled)
        for number in filled:
            assert any((gap.position or 0) < number for gap in self.gaps), f"{number}: {self.gaps}"
        assert sum(gap.messages for gap in self.gaps) <= len(filled)

    def _is_in_gap(self, number: int) -> bool:
        """Whether there is a gap behind whose position a message is, and before whose end."""
        born = self.upstream.growth.born(number)
        return any((gap.position or 0) < number and born <= gap.end for gap in self.gaps)

    def _check_interruption(self, interruption: Interruption) -> None:
        """A gap begins before it, or with it, and ends after it."""
        fault, began, ended = interruption
        moments = (began, ended)
        assert all(
            any(gap.start <= moment + WAY_SECONDS and gap.end >= moment for gap in self.gaps)
            for moment in moments
        ), f"{fault} from {began} to {ended} is in none of {self.gaps}"

    def _check_letters(self) -> None:
        """Three malformed frames came each time, and nothing else was."""
        numbers: Counter[int] = Counter()
        for record in self._letters_found:
            value = base64.b64decode(msgspec.json.decode(record.value)["value"])
            found = re.search(rb"letter\"?: (\d+)", value)
            assert found is not None, value
            numbers[int(found[1])] += 1
        assert numbers == dict.fromkeys(range(1, self._letters + 1), 3)
