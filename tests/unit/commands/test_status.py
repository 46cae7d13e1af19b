import asyncio
import contextlib
import io
import itertools
import json
import signal
import time

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from aiopype import AsyncProtocol, DeadLetter, Processor, cli
from aiopype.commands import status, status_counts, status_view
from aiopype.commands.flows import Connection
from aiopype.commands.status_view import StatusView
from aiopype.errors import BrokerError
from aiopype.ownership import Member, SourceState, Stopped, Wish
from aiopype.pipelines import Pipelines
from aiopype.replays import Place, ReplayRequest
from aiopype.topics import Foreign
from aiopype.transport.stored import Extent, Group, Joined, Span, Stored

DATA, ERRORS, REQUESTS = "prices.writer.data", "prices.writer.error", "prices.replays.request"
PARKED = f"{DATA}.parked"
WISHES, STATES = "flow.sources", "flow.source-state"
FEED = "prices.feed"
NOW_MS = int(time.time() * 1000)
SUBSCRIPTION = f"{DATA} -> prices.writer.write"


def ms_ago(seconds):
    """A time that counts from the test's own, not from when this module was imported."""
    return int((time.time() - seconds) * 1000)


class Writer(Processor):
    """Handles `data` of its own, and declares `done`."""

    events = ("done",)

    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.on("data", self.write)

    def write(self, *args):
        pass


class Cluster:
    """What the brokers of a flow tell: a log and its survey.

    Attributes:
        extents: of each partition; one that is not here does not exist.
        leaderless, silent: partitions that nobody leads, or nobody tells of.
        done: before which offset the flow is done, by partition.
        oldest_ms: when the first event of a partition was written; None where there is none.
        kept: the records of topics.
        members: of the groups.
        moves: so many looks until the groups are settled.
        error: what looking raises; once, if `errors` has it.
        looks, reads: how often groups were asked for, and topics read.
    """

    def __init__(self):
        self.extents, self.leaderless, self.silent = {}, set(), set()
        self.done, self.oldest_ms, self.kept = {}, {}, {}
        self.members = {"flow": [], WISHES: []}
        self.moves, self.errors = 0, []
        self.looks, self.reads, self.after_look = 0, [], lambda: None

    # --- what there is

    def topic(self, name, *ends, begin=0):
        for number, end in enumerate(ends):
            self.extents[name, number] = Extent(begin, end, end)

    def work(self, name, *places, client=None, sources=(FEED,)):
        self.members["flow"].append(
            Joined("10.0.0.1", b"", b"", name if client is None else client, f"id-{name}", places)
        )
        said = Member(worker=name, can=(FEED,)).encode()
        self.members[WISHES].append(Joined("10.0.0.1", said, msgspec.json.encode(sources)))

    def state(self, worker, **given):
        facts = {"epoch": 3, "run": "r", "number": 4, "since_ms": NOW_MS, "at_ms": NOW_MS}
        self.put(STATES, SourceState(**facts | {"worker": worker} | given).encode(), key=FEED)

    def put(self, topic, value, key="k", partition=0):
        records = self.kept.setdefault(topic, [])
        offset = sum(record.partition == partition for record in records)
        records.append(Stored(topic, partition, offset, NOW_MS, key.encode(), value))
        begin = self.extents.get((topic, partition), Extent(0, 0, 0)).begin
        self.extents[topic, partition] = Extent(begin, offset + 1, offset + 1)

    def letter(self, **given):
        about = {"component": "prices.writer", "error": "OSError", "message": "full",
                 "traceback": "", "at_ms": NOW_MS, "tries": 1}  # fmt: skip
        self.put(ERRORS, msgspec.json.encode(DeadLetter(**about | given)))

    # --- a log

    async def records(self, topics, since_ms=None, *, after=None):
        topics = list(topics)
        self.reads += topics
        for topic in topics:
            for record in self.kept.get(topic, ()):
                if record.offset >= (after or {}).get((topic, record.partition), 0):
                    yield record

    async def group(self, name):
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        is_settled = self.looks >= self.moves
        self.looks += name == "flow"
        return Group(is_settled, tuple(self.members[name]))

    async def committed(self, group):
        assert group == "flow"
        return self.done

    def survey(self):
        return self

    # --- its survey

    async def places(self, topics):
        topics = set(topics)
        found = {p: p not in self.leaderless for p in sorted(self.extents) if p[0] in topics}
        self.after_look()
        return found

    async def extents_of(self, places):
        unknown = self.leaderless | self.silent
        return {place: self.extents[place] for place in places if place not in unknown}

    async def oldest(self, spans, seconds):
        self.spans = spans
        return {place: self.oldest_ms[place] for place in spans if place in self.oldest_ms}


class Log:
    """The cluster as the command sees it: `extents` is a question there."""

    def __init__(self, cluster):
        self.records, self.group, self.committed = (
            cluster.records, cluster.group, cluster.committed,
        )  # fmt: skip
        self.places, self.oldest = cluster.places, cluster.oldest
        self.extents = cluster.extents_of

    def survey(self):
        return self


@pytest.fixture
def cluster(monkeypatch, declare):
    """The brokers of a flow with the manager `prices` and a source, which nobody runs yet."""
    declare(lambda manager: Writer("prices.writer", manager.handler), name="prices")
    graph = Pipelines(["prices"], AsyncProtocol(), with_replays=True).protocol.graph
    made = Cluster()
    made.graph, made.sources, made.opened = graph, (FEED,), 0
    for name in (DATA, "prices.writer.done"):
        made.topic(name, 10, 10)
    made.topic(REQUESTS, 0, 0)
    made.done = {(DATA, 0): 10, (DATA, 1): 10}

    @contextlib.asynccontextmanager
    async def opened(connection):
        made.opened += 1
        yield Log(made)

    def connection_to(target, broker):
        made.asked = (target, broker)
        security = {"sasl_plain_password": "hunter2"}
        return Connection("flow", "a:1", security, graph, ("prices",), made.sources)

    monkeypatch.setattr(status, "connection_to", connection_to)
    monkeypatch.setattr(status, "open_log", opened)
    monkeypatch.setattr(status, "AGAIN_SECONDS", 0)
    monkeypatch.delenv("COLUMNS", raising=False)
    return made


@pytest.fixture
def running(cluster):
    """Two workers that share the partitions; one of them runs the source."""
    cluster.work("a:1", (DATA, 0), (REQUESTS, 0))
    cluster.work("b:2", (DATA, 1), (REQUESTS, 1), sources=())
    cluster.state("a:1")
    return cluster


@pytest.fixture
def aiopype():
    """Runs `aiopype status flow.py` with these arguments; returns what it said."""

    def run(*arguments, status=0):
        command = ["status", "flow.py", *arguments]
        result = CliRunner().invoke(cli.main, command, catch_exceptions=False)
        assert result.exit_code == status, result.output
        return result.output

    return run


@pytest.fixture
def facts(aiopype):
    """Returns what `--json` tells."""
    return lambda *arguments: json.loads(aiopype("--json", *arguments))


@pytest.fixture
def kinds(facts):
    """Returns of what is wrong the kinds and what they are about."""
    return lambda *arguments: [(t["kind"], t["about"]) for t in facts(*arguments)["troubles"]]


def partitions(told, event=DATA):
    """The partitions of an event, as `--json` tells them."""
    (found,) = [each for each in told["events"] if each["event"] == event]
    return found["partitions"]


# --- a flow that is well


def test_a_flow_that_is_well_is_told_on_one_screen(running, aiopype):
    text = aiopype()

    assert running.asked == ("flow.py", None)
    assert text.startswith("well: flow flow on a:1, ")
    assert "groups of workers: events stable (2), sources stable (2)" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["a:1", "2", "1", "10.0.0.1"] in lines
    assert ["b:2", "2", "0", "10.0.0.1"] in lines
    assert [DATA, "0", "-", "2", "2"] in lines
    assert ["prices.writer.done", "-", "-", "2", "nobody"] in lines
    assert [FEED, "running", "a:1", "3"] in [line[:4] for line in lines]
    assert REQUESTS not in text  # aiopype's own, without lag


def test_a_check_of_a_flow_that_is_well_has_the_status_0(running, aiopype):
    assert aiopype("--check") == "flow flow is well\n"


def test_json_has_all_of_it(running, facts):
    told = facts("--broker", "b:1")

    assert running.asked == ("flow.py", "b:1")
    assert list(told) == [
        "v", "flow", "brokers", "at_ms", "is_well", "troubles", "notes", "groups", "workers",
        "events", "waiting", "sources", "dead_letters", "full_partitions",
    ]  # fmt: skip
    assert (told["v"], told["flow"], told["is_well"], told["troubles"]) == (1, "flow", True, [])
    assert told["groups"]["sources"] == {"name": WISHES, "state": "stable", "members": 2}
    assert told["workers"][0] == {
        "worker": "a:1", "address": "10.0.0.1", "partitions": 2, "sources": 1,
    }  # fmt: skip
    assert partitions(told)[1] == {
        "partition": 1, "owner": "b:2", "has_leader": True, "begin": 0, "end": 10,
        "uncommitted": 0, "committed": 10, "lag": 0, "oldest_ms": None, "lag_seconds": 0.0,
    }  # fmt: skip
    assert (told["sources"][0]["source"], told["sources"][0]["state"]) == (FEED, "running")


def test_secrets_are_not_told(running, aiopype):
    running.letter()
    assert not any("hunter2" in aiopype(*words) for words in ([], ["--json"], ["--partitions"]))


def test_a_line_for_each_partition_where_it_is_wanted(running, aiopype):
    lines = [line.split() for line in aiopype("--partitions").splitlines()]

    assert [f"{DATA}[1]", "0", "-", "10", "10", "b:2"] in lines


def test_a_flow_without_owned_sources_has_no_group_of_sources(running, facts):
    running.sources, running.kept, running.members[WISHES] = (), {}, []

    told = facts()

    assert told["is_well"]
    assert list(told["groups"]) == ["events"]


def test_a_worker_whose_client_does_not_say_its_name_is_called_as_its_group_does(running, facts):
    running.work("c", client="faust-0.15.3")
    running.work("d", client="faust-0.15.3")

    assert {"id-c", "id-d"} <= {worker["worker"] for worker in facts()["workers"]}


# --- lag


def test_lag_is_told_in_offsets_and_seconds(running, facts):
    running.done[DATA, 1] = 4
    running.oldest_ms[DATA, 1] = int(time.time() * 1000) - 20_000

    told = facts()

    assert running.spans == {(DATA, 1): Span(4, 10)}
    (event,) = [each for each in told["events"] if each["event"] == DATA]
    assert event["lag"] == 6
    assert event["lag_seconds"] == pytest.approx(20, abs=5)
    assert told["is_well"]


def test_where_only_markers_are_left_there_is_no_lag(running, facts):
    running.done[DATA, 1] = 9
    running.oldest_ms[DATA, 1] = None

    (_, partition) = partitions(facts())

    assert (partition["lag"], partition["lag_seconds"]) == (0, 0.0)


def test_an_age_that_could_not_be_read_in_time_is_not_guessed(running, facts):
    running.done[DATA, 1] = 4

    (_, partition) = partitions(facts())

    assert (partition["lag"], partition["lag_seconds"]) == (6, None)


def test_what_was_never_handled_counts_from_the_beginning(running, facts):
    running.topic(DATA, 10, 10, begin=3)
    running.done = {}

    facts()

    assert running.spans[DATA, 0] == Span(3, 10)


def test_a_foreign_topic_that_begins_at_its_end_has_no_lag_before(running, facts):
    (topic,) = [topic for topic, _ in running.graph.subscribed() if topic.name == DATA]
    topic.become(Foreign("theirs", begin="latest"))
    running.topic("theirs", 100)

    told = facts()

    (partition,) = partitions(told)
    assert (partition["lag"], partition["committed"]) == (0, None)
    (event,) = [each for each in told["events"] if each["event"] == DATA]
    assert (event["topic"], event["is_foreign"]) == ("theirs", True)


@pytest.mark.parametrize("steps", [0, 2])
def test_of_old_lag_it_is_told_whether_anything_is_handled(running, aiopype, facts, steps):
    running.done[DATA, 1] = 4
    running.oldest_ms[DATA, 1] = ms_ago(200)

    def handle():
        running.done = {**running.done, (DATA, 1): running.done[DATA, 1] + steps}

    running.after_look = handle

    (line,) = aiopype("--check", status=1).splitlines()

    assert line.startswith(
        "behind: prices.writer.data is 4 behind, the oldest by 3." if steps
        else "standing: prices.writer.data is 6 behind, the oldest by 3."
    )  # fmt: skip
    assert ("and none is handled; ask /health/ready of a:1, b:2" in line) is not bool(steps)
    assert ("/s are handled" in line) is bool(steps)


def test_how_old_events_may_be_can_be_said(running, kinds):
    running.done[DATA, 1] = 4
    running.oldest_ms[DATA, 1] = ms_ago(200)

    assert kinds("--max-lag", "1000") == []
    assert kinds() == [("standing", DATA)]


# --- what else is wrong with events


def test_without_a_worker_that_alone_is_told(cluster, aiopype):
    cluster.done[DATA, 1] = 4
    cluster.oldest_ms[DATA, 1] = ms_ago(200)

    text = aiopype()

    assert text.startswith("one thing is wrong: ")
    assert "! no worker runs; 6 wait, the oldest for 3." in text
    assert "  start one: aiopype run flow.py" in text
    assert "no_worker: no worker runs; 6 wait" in aiopype("--check", status=1)


def test_partitions_that_nobody_has_are_told(running, aiopype):
    running.topic(DATA, 10, 10, 10)
    running.done[DATA, 2] = 10

    assert f"not_owned: no worker has {DATA}[2]; " in aiopype("--check", status=1)


def test_workers_that_are_in_one_of_the_groups_only_are_told(running, kinds):
    running.members[WISHES] = []

    assert ("no_worker", "sources") in kinds()


def test_events_that_were_deleted_before_they_were_handled_are_told(running, aiopype):
    running.topic(DATA, 10, 10, begin=7)
    running.done[DATA, 1] = 4
    running.oldest_ms[DATA, 1] = ms_ago(0)

    text = aiopype("--check", status=1)

    assert f"lost: {DATA}[1]: up to 3 events were deleted before they were handled" in text


def test_a_topic_that_was_made_anew_is_told(running, kinds):
    running.topic(DATA, 10, 2)

    assert kinds() == [("beyond", DATA)]


def test_a_topic_that_is_missing_is_told_where_workers_run(running, cluster, kinds):
    for number in (0, 1):
        del running.extents[DATA, number]

    assert kinds() == [("missing", DATA)]


def test_partitions_without_a_leader_are_told(running, aiopype, facts):
    running.leaderless = {(DATA, 0)}

    assert f"no_leader: no broker leads {DATA}[0]; " in aiopype("--check", status=1)
    assert partitions(facts())[0]["end"] is None


def test_partitions_of_which_nothing_is_told_are_noted(running, facts):
    running.silent = {(DATA, 0)}

    told = facts()

    assert told["is_well"]
    assert [(note["kind"], note["about"]) for note in told["notes"]] == [("unknown", DATA)]


# --- a rebalance


def test_a_rebalance_is_noted_and_judges_nobody(running, facts):
    running.moves = 1_000

    told = facts()

    assert (told["is_well"], told["groups"]["events"]["state"]) == (True, "rebalancing")
    assert {note["kind"] for note in told["notes"]} == {"rebalancing"}
    assert told["workers"][0]["partitions"] is None


def test_a_check_waits_for_a_rebalance_to_end(running, aiopype):
    running.moves = 3

    assert aiopype("--check") == "flow flow is well\n"
    assert running.looks == 4


def test_a_rebalance_that_does_not_end_is_told_by_a_check(running, aiopype, monkeypatch):
    monkeypatch.setattr(status, "PATIENCE_SECONDS", 0.05)
    running.moves = 100_000

    assert "rebalancing: the rebalance of the group of events" in aiopype("--check", status=1)


# --- sources


def test_sources_that_stand_still_are_told(running, aiopype):
    stopped = Stopped(state="quarantined", since_ms=NOW_MS, reason="HTTP 503")
    running.state("a:1", stopped=stopped)

    text = aiopype("--check", status=1)

    assert f"source: source {FEED} is quarantined: HTTP 503; look into the log of a:1" in text


@pytest.mark.parametrize("written", [False, True])
def test_a_source_that_no_worker_has_is_told(running, aiopype, written):
    running.members[WISHES] = running.members[WISHES][1:]
    running.kept = running.kept if written else {}

    text = aiopype("--check", status=1)

    assert f"source: source {FEED} is {'nobody' if written else 'not run'}" in text


def test_what_is_stored_of_a_source_and_cannot_be_read_is_told(running, aiopype):
    running.put(STATES, b"garbage", key=FEED)

    assert f"aiopype sources reset flow.py {FEED} --position JSON" in aiopype("--check", status=1)


def test_a_source_that_is_paused_is_noted(running, aiopype, facts):
    running.put(WISHES, Wish(is_paused=True).encode(), key=FEED)

    assert facts()["is_well"]
    assert f"- source {FEED} is paused: aiopype sources resume flow.py {FEED}" in aiopype()


def test_a_source_that_another_program_has_is_noted(running, facts):
    running.put(WISHES, Wish().encode(), key="prices.other")

    told = facts()

    assert told["is_well"]
    assert [(n["kind"], n["about"]) for n in told["notes"]] == [("other_program", "prices.other")]


# --- dead letters and waiting events


def test_dead_letters_are_counted_by_what_became_of_them(running, facts, aiopype):
    for _ in range(3):
        running.letter()
    place = (Place(ERRORS, 0, 1),)
    running.put(REQUESTS, msgspec.json.encode(ReplayRequest(do="discard", letters=place)))

    told = facts()

    assert told["dead_letters"] == [
        {"component": "prices.writer", "letters": 3, "open": 2, "replayed": 0, "discarded": 1}
    ]
    assert [t["kind"] for t in told["troubles"]] == ["dead_letters"]
    assert "prices.writer has open dead letters: 2; aiopype errors list flow.py" in aiopype(
        "--check", status=1
    )


def test_dead_letters_of_which_none_is_open_are_well(running, facts):
    running.letter()
    place = (Place(ERRORS, 0, 0),)
    running.put(REQUESTS, msgspec.json.encode(ReplayRequest(do="discard", letters=place)))

    assert facts()["is_well"]


def test_very_many_dead_letters_are_not_read(running, facts, aiopype):
    running.topic(ERRORS, 1_000_000, 1_000_000)

    told = facts()

    assert ERRORS not in running.reads
    assert told["dead_letters"] == [
        {
            "component": "prices.writer", "letters": 2_000_000,
            "open": None, "replayed": None, "discarded": None,
        }
    ]  # fmt: skip
    assert "about 2,000,000 dead letters" in aiopype()


def test_dead_letters_that_take_long_to_read_are_not_counted(running, facts, monkeypatch):
    monkeypatch.setattr(status_counts, "READ_SECONDS", 0.05)
    running.letter()
    records = running.records

    async def slow(topics, *given, **more):
        if ERRORS in (topics := list(topics)):
            await asyncio.sleep(60)
        async for record in records(topics, *given, **more):
            yield record

    running.records = slow

    (letters,) = facts()["dead_letters"]
    assert (letters["letters"], letters["open"]) == (1, None)


def test_where_there_are_no_dead_letters_none_are_read(running, aiopype):
    aiopype()

    assert not {ERRORS, REQUESTS, PARKED} & set(running.reads)


def test_waiting_events_are_counted_by_subscription(running, facts, aiopype):
    for offset in (4, 5, 6):
        running.put(PARKED, b"entry", key=f"{SUBSCRIPTION} {offset}")
    running.put(PARKED, b"entry", key=f"{SUBSCRIPTION} 5")  # tried again
    running.put(PARKED, None, key=f"{SUBSCRIPTION} 4")

    told = facts()

    assert told["waiting"] == [{"subscription": SUBSCRIPTION, "events": 2, "is_exact": True}]
    assert told["is_well"]
    assert f"- {SUBSCRIPTION}: 2 wait to be tried again" in aiopype()


def test_a_partition_with_too_many_waiting_events_is_told(running, kinds, monkeypatch):
    monkeypatch.setattr(status_counts, "ROOM_EVENTS", 2)
    for offset in (4, 5):
        running.put(PARKED, b"entry", key=f"{SUBSCRIPTION} {offset}", partition=1)

    assert kinds() == [("waiting_full", f"{DATA}[1]")]


# --- brokers that do not answer


def test_brokers_that_do_not_answer_are_an_error(running, aiopype):
    running.errors = [BrokerError("no Kafka broker answers at a:1")]

    assert "Error: no Kafka broker answers at a:1" in aiopype(status=1)


def test_brokers_that_take_too_long_are_an_error(running, aiopype):
    running.committed = lambda group: asyncio.sleep(60)

    text = aiopype("--timeout", "0.05", status=1)

    assert "the brokers at a:1 did not tell all in 0.05 s" in text


# --- watching


@pytest.fixture
def interrupted(running):
    """Ends a watch after so many looks, as Ctrl-C does."""

    def after(looks):
        count = itertools.count(1)

        def look():
            if next(count) >= looks:
                signal.raise_signal(signal.SIGINT)

        running.after_look = look

    return after


def test_a_watch_tells_how_fast_events_are_and_ends_with_ctrl_c(running, aiopype, interrupted):
    interrupted(3)

    text = aiopype("--watch", "0.2")

    first, second = text.split("well: flow flow on a:1")[1:]
    assert "written/s" not in first
    assert "handled/s  written/s" in second


def test_a_watch_in_json_is_a_line_a_look(running, interrupted):
    interrupted(3)

    # The number may be left out, also before the flow.
    for words in (["--watch=0.2", "flow.py"], ["flow.py", "--watch", "0.2"]):
        result = CliRunner().invoke(cli.main, ["status", "--json", *words])
        looks = [json.loads(line) for line in result.stdout.splitlines()]
        assert result.exit_code == 0
        interrupted(3)
    assert [look["is_well"] for look in looks] == [True, True]
    assert looks[1]["events"][0]["written_rate"] == 0


def test_the_seconds_of_a_watch_may_be_left_out(running, interrupted):
    interrupted(1)

    result = CliRunner().invoke(cli.main, ["status", "--watch", "flow.py"])

    assert (result.exit_code, running.asked) == (0, ("flow.py", None))


def test_a_watch_goes_on_over_an_outage_and_connects_anew(running, aiopype, interrupted):
    running.errors = [None, None, BrokerError("no broker answers"), None, None]
    interrupted(4)

    before, error, after = aiopype("--watch", "0.2").partition("since then: no broker answers")

    assert running.opened == 2
    assert (before.count("well: flow flow"), bool(error)) == (2, True)
    assert "well: flow flow" in after


def test_a_watch_waits_for_brokers_that_do_not_answer_yet(running, aiopype, interrupted):
    running.errors = [BrokerError("no broker answers")]
    interrupted(3)

    text = aiopype("--watch", "0.2")

    assert text.startswith("looking again and again: no broker answers")
    assert "well: flow flow" in text


def test_a_watch_reads_letters_again_only_when_there_is_news(running, aiopype, interrupted):
    running.letter()
    interrupted(4)

    aiopype("--watch", "0.2")

    assert running.reads.count(ERRORS) == 1


def test_a_check_cannot_be_watched(running, aiopype):
    assert "either --check or --watch" in aiopype("--check", "--watch", status=2)


# --- on a screen


@pytest.fixture
def drawn(running, facts, monkeypatch):
    """What is drawn in a terminal of this size."""
    seen = []
    monkeypatch.setattr(status_view, "show", lambda facts, **_: seen.append(facts))

    def draw(width, height, **given):
        CliRunner().invoke(cli.main, ["status", "flow.py"], catch_exceptions=False)
        file = io.StringIO()
        Console(file=file, width=width, height=height, force_terminal=False).print(
            StatusView(seen[-1], fits=True, **given)
        )
        return file.getvalue().splitlines()

    return draw


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 16), (40, 12), (20, 8)])
def test_it_fits_into_a_terminal(running, drawn, width, height):
    for number in range(30):
        running.work(f"host-with-a-long-name:{number}", sources=())
    running.letter()

    lines = drawn(width, height)

    assert len(lines) < height
    assert max(len(line.rstrip()) for line in lines) <= width
    assert lines[0].startswith("one thing is")
    assert any(line.startswith("event") for line in lines)


def test_the_worst_events_come_first_where_not_all_fit(running, drawn):
    for n in range(40):
        running.graph.topic("prices.writer", f"e{n}")
        running.topic(f"prices.writer.e{n}", 1)
    running.done[DATA, 1] = 4

    lines = drawn(80, 24)

    rows = lines[next(n for n, line in enumerate(lines) if line.startswith("event")) + 1 :]
    assert rows[0].split()[:2] == [DATA, "6"]
    assert any(line.startswith("and ") and "more" in line for line in rows)


def test_an_error_is_told_above_what_was_seen_last(drawn):
    assert drawn(80, 24, error="no broker answers")[1] == "since then: no broker answers"


@pytest.mark.parametrize(("no_color", "has_colours"), [("", True), ("1", False)])
def test_colours_are_for_terminals_that_want_them(monkeypatch, no_color, has_colours):
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    console = status_view._console()
    assert not console.is_terminal

    forced = Console(file=io.StringIO(), force_terminal=True)
    forced.print("x", style="red")
    assert ("[31m" in forced.file.getvalue()) is has_colours


def test_what_is_piped_is_neither_cut_nor_coloured(running, aiopype):
    name = "prices.writer." + "long" * 30
    running.graph.topic("prices.writer", name.rpartition(".")[2])
    running.topic(name, 1)

    text = aiopype()

    assert name in text
    assert "\x1b" not in text
