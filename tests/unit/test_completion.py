import asyncio
from types import SimpleNamespace

import msgspec
import pytest

from aiopype import completion
from aiopype.completion import Completion, stopped_after, until_played
from aiopype.errors import BrokerError
from aiopype.ownership import SourceState
from aiopype.settings import Settings
from aiopype.topics import Topic
from aiopype.transport.stored import Stored

GROUP = "replay.quotes"
STATES = f"{GROUP}.source-state"


class Topics:
    """What a group has done and what topics have, in place of a reader."""

    def __init__(self):
        self.done, self.logs, self.reads = {}, {}, []
        self.fails = 0

    def put(self, topic, key, value, partition=0):
        log = self.logs.setdefault((topic, partition), [])
        log.append(Stored(topic, partition, len(log), 0, key, value))

    async def committed(self, group):
        assert group == GROUP
        return dict(self.done)

    async def ends(self, topics):
        return {place: len(log) for place, log in self.logs.items() if place[0] in topics}

    async def records(self, topics, *, after=None):
        if self.fails:
            self.fails -= 1
            raise BrokerError("no answer")
        for place, log in self.logs.items():
            if place[0] in topics:
                first = (after or {}).get(place, 0)
                self.reads += [(place, record.offset) for record in log[first:]]
                for record in log[first:]:
                    yield record

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass


@pytest.fixture
def topics():
    return Topics()


@pytest.fixture
def of(topics):
    """Looks at the topics of two events, the second of which has the first's outputs."""
    return Completion(topics, GROUP, [Topic("m.source", "n"), Topic("m.step", "out")])


def state(position, **given):
    raw = msgspec.Raw(msgspec.json.encode(position))
    facts = {"epoch": 1, "run": "r", "number": 0, "worker": "w", "since_ms": 0, "at_ms": 0}
    return SourceState(position=raw, **facts | given).encode()


# --- whether all is handled


async def test_topics_that_do_not_exist_are_handled(of):
    assert await of.is_handled()


async def test_what_the_group_has_not_done_is_not_handled(of, topics):
    topics.put("m.source.n", None, b"[1]")
    topics.put("m.source.n", None, b"[2]", partition=1)
    assert not await of.is_handled()

    topics.done = {("m.source.n", 0): 1}
    assert not await of.is_handled()

    topics.done[("m.source.n", 1)] = 1
    assert await of.is_handled()


async def test_of_later_topics_everything_is_handled_too(of, topics):
    topics.put("m.source.n", None, b"[1]")
    topics.put("m.step.out", None, b"[1]")
    topics.done = {("m.source.n", 0): 1}
    assert not await of.is_handled()

    topics.done[("m.step.out", 0)] = 1
    assert await of.is_handled()


async def test_events_that_nobody_handles_are_not_waited_for(of, topics):
    topics.put("m.step.unhandled", None, b"[1]")

    assert await of.is_handled()


async def test_an_event_that_waits_for_another_try_is_not_handled(of, topics):
    topics.put("m.source.n.parked", b"a 0", b"entry")
    topics.put("m.source.n.parked", b"a 0", b"entry", partition=1)
    topics.put("m.source.n.parked", b"a 0", None)
    assert not await of.is_handled()

    topics.put("m.source.n.parked", b"a 0", None, partition=1)
    assert await of.is_handled()


# --- where sources are


async def test_the_last_position_of_each_source_counts(of, topics):
    topics.put(STATES, b"m.a", state(1))
    topics.put(STATES, b"m.b", state({"next": 7}), partition=3)
    topics.put(STATES, b"m.a", state(2))
    topics.put(STATES, b"m.new", state(None))

    assert await of.positions() == {"m.a": b"2", "m.b": b'{"next":7}', "m.new": None}


async def test_states_are_read_once(of, topics):
    topics.put(STATES, b"m.a", state(1))
    await of.positions()
    topics.put(STATES, b"m.a", state(2))

    assert await of.positions() == {"m.a": b"2"}
    assert topics.reads == [((STATES, 0), 0), ((STATES, 0), 1)]


async def test_a_state_that_cannot_be_read_says_nothing(of, topics):
    topics.put(STATES, b"m.a", state(1))
    topics.put(STATES, b"m.a", b"garbage")

    assert await of.positions() == {}


# --- the end of a replay


@pytest.fixture
def watch(topics, monkeypatch, tmp_path):
    """Waits for the end of a replay that is through at position 3."""
    monkeypatch.setattr(completion, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(completion, "START_SECONDS", 0)
    monkeypatch.setattr(completion, "Reader", lambda brokers, **_: topics)
    graph = SimpleNamespace(subscribed=lambda: [(Topic("m.source", "n"), [])])
    pipelines = SimpleNamespace(protocol=SimpleNamespace(graph=graph))
    playback = SimpleNamespace(is_through=lambda positions: positions.get("m.a") == b"3")
    settings = Settings(("m",), "quotes", "k:1", tmp_path, namespace="replay")
    return lambda: until_played(settings, "k:1", pipelines, playback)


async def test_a_replay_is_over_when_it_is_through_and_all_is_handled(watch, topics, turns):
    topics.put(STATES, b"m.a", state(2))
    watching = asyncio.create_task(watch())
    await turns(50)
    topics.put(STATES, b"m.a", state(3))
    topics.put("m.source.n", None, b"[1]")
    await asyncio.sleep(0.02)
    assert not watching.done()

    topics.done = {("m.source.n", 0): 1}

    await asyncio.wait_for(watching, 5)


async def test_brokers_that_do_not_answer_are_asked_again(watch, topics, caplog):
    topics.fails = 2
    topics.put(STATES, b"m.a", state(3))

    await asyncio.wait_for(watch(), 5)

    assert caplog.text.count("cannot be seen now: no answer") == 2


@pytest.fixture
def worker():
    """A run that ends when it is told to, and what tells it."""
    stopping = asyncio.Event()
    return stopping.wait, stopping.set


async def test_a_worker_is_stopped_when_the_recording_is_through(worker, caplog):
    caplog.set_level("INFO")
    run, stop = worker

    await asyncio.wait_for(stopped_after(asyncio.sleep(0), run(), stop), 5)

    assert "the recording is through, and everything is handled" in caplog.text


async def test_a_worker_that_ends_by_itself_is_not_waited_for(worker):
    async def for_ever():
        await asyncio.Event().wait()

    async def fail():
        raise LookupError

    await asyncio.wait_for(stopped_after(for_ever(), asyncio.sleep(0), worker[1]), 5)
    with pytest.raises(LookupError):
        await asyncio.wait_for(stopped_after(for_ever(), fail(), worker[1]), 5)

    assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []
