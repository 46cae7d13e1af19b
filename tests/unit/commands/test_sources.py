import contextlib
import json
import time

import msgspec
import pytest
from click.testing import CliRunner

from aiopype import cli
from aiopype.commands import operating, owners, sources
from aiopype.commands.flows import Connection
from aiopype.commands.rendering import local
from aiopype.errors import BrokerError
from aiopype.ownership import RESET, Member, SourceState, Stopped, Wish
from aiopype.settings import Settings
from aiopype.transport.stored import Group, Joined, Stored

NAMES = ("prices.feed", "prices.ticks")
WISHES, STATES = "flow.sources", "flow.source-state"
NOW_MS = int(time.time() * 1000)


class Cluster:
    """What stands in the topics of a flow, who is in its group, and what an operator writes.

    Attributes:
        members: the workers, each with the sources that it was given.
        settles_in: so many looks until the workers have agreed; None is never.
        error: what looking raises.
        obey: called with each source of which something was written; as its worker would.
        wished: what was written, one after the other.
        read_again: how often topics were read from the beginning after they had been read.
    """

    def __init__(self):
        self.records_of = {WISHES: [], STATES: []}
        self.members = {}
        self.settles_in = 0
        self.error = None
        self.obey = lambda name: None
        self.wished = []
        self.was_read, self.read_again = False, 0

    # --- what the broker has

    def put(self, topic, source, value):
        kept = self.records_of[topic]
        kept.append(Stored(topic, 0, len(kept), NOW_MS, source.encode(), value))

    def work(self, worker, *given, can=NAMES, runs=None, host="10.0.0.1"):
        """Let a worker be there, with the sources that it was given."""
        said = Member(worker=worker, can=can, runs=dict(runs or {})).encode()
        self.members[worker] = Joined(host, said, msgspec.json.encode(given))

    def state(self, name, worker, **given):
        """Let a worker write where a source is."""
        facts = {"epoch": 1, "run": "r", "number": 4, "since_ms": NOW_MS, "at_ms": NOW_MS}
        if "position" in given:
            given["position"] = msgspec.Raw(given["position"])
        state = SourceState(**{**facts, "worker": worker, **given})
        self.put(STATES, name, state.encode())

    async def records(self, topics, *, after=None):
        if self.error is not None:
            raise self.error
        self.read_again += self.was_read and not after
        for topic in topics:
            for record in self.records_of[topic]:
                if record.offset >= (after or {}).get((topic, 0), 0):
                    self.was_read = True
                    yield record

    async def group(self, name):
        assert name == WISHES
        if self.settles_in != 0:
            self.settles_in = self.settles_in and self.settles_in - 1
            return Group(False, ())
        return Group(True, tuple(self.members.values()))

    # --- what an operator does

    async def wish(self, wishes):
        self.wished.append(wishes)
        for name, wish in wishes.items():
            self.put(WISHES, name, wish.encode())
            self.obey(name)

    async def put_state(self, source, position, epoch):
        given = {} if position is None else {"position": position}
        self.state(source, "operator", run=f"{RESET}1", epoch=epoch + 1, **given)
        self.wished.append((source, position, epoch + 1))
        return SourceState.decode(source, self.records_of[STATES][-1].value)

    def wish_of(self, name):
        found = [r.value for r in self.records_of[WISHES] if r.key == name.encode()]
        return Wish.decode(found[-1] if found else None)


class Operator:
    def __init__(self, cluster):
        self.wish, self.put = cluster.wish, cluster.put_state


@pytest.fixture
def cluster(monkeypatch):
    """A flow with two sources, which the command line looks into."""
    made = Cluster()
    made.asked = None

    @contextlib.asynccontextmanager
    async def opened(connection):
        yield made

    def connection_to(target, broker):
        made.asked = (target, broker)
        return Connection("flow", "a:1", {}, None, ("prices",), NAMES)

    monkeypatch.setattr(sources, "connection_to", connection_to)
    monkeypatch.setattr(sources, "open_log", opened)
    monkeypatch.setattr(sources, "open_operator", lambda connection: Operator(made))
    for module in (owners, operating):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0)
    monkeypatch.setattr(Settings, "default_flow", lambda: "project.py")
    return made


@pytest.fixture
def running(cluster):
    """Two workers, each with a source that it runs, and that does what is wished."""
    for worker, name in zip(("a:1", "b:2"), NAMES, strict=True):
        cluster.work(worker, name)
        cluster.state(name, worker, position=b"17")

    def obey(name):
        wish = cluster.wish_of(name)
        worker = dict(zip(NAMES, ("a:1", "b:2"), strict=True))[name]
        epoch = max(json.loads(r.value)["epoch"] for r in cluster.records_of[STATES]) + 1
        cluster.state(
            name, worker, position=b"18", is_paused=wish.is_paused, restart=wish.restart,
            epoch=epoch,
        )  # fmt: skip

    cluster.obey = obey
    return cluster


@pytest.fixture
def aiopype():
    """Runs `aiopype sources` with these arguments."""

    def run(*arguments, text=None):
        return CliRunner().invoke(
            cli.main, ["sources", *arguments], catch_exceptions=False, input=text
        )

    return run


def listed(aiopype):
    return {s["source"]: s for s in json.loads(aiopype("list", "--json").output)["sources"]}


# --- list


def test_a_source_that_runs_is_listed_with_its_worker_and_position(aiopype, running):
    result = aiopype("list")

    assert result.exit_code == 0
    line = next(line for line in result.output.splitlines() if line.startswith("prices.feed"))
    assert line.split()[:4] == ["prices.feed", "running", "a:1", "1"]
    assert " ago  17" in line


def test_nothing_is_known_of_a_source_before_its_first_run(aiopype, cluster):
    result = aiopype("list")

    assert result.output.splitlines()[1].split() == ["prices.feed", "never", "run", "none"]
    assert result.output.splitlines()[-1] == "no worker runs"


@pytest.mark.parametrize(
    ("given", "owner", "wish", "standing"),
    [
        ({}, "a:1", Wish(), "running"),
        ({}, None, Wish(), "nobody's"),
        ({"worker": "old:9"}, "a:1", Wish(), "starting"),
        ({"run": "reset-1", "worker": "operator"}, "a:1", Wish(), "starting"),
        ({}, "a:1", Wish(is_paused=True), "paused"),
        ({}, None, Wish(is_paused=True), "paused"),
    ],
)
def test_how_a_source_stands(aiopype, cluster, given, owner, wish, standing):
    cluster.work("a:1", *([NAMES[0]] if owner else []))
    cluster.state(NAMES[0], **{"worker": "a:1", **given})
    cluster.put(WISHES, NAMES[0], wish.encode())

    assert listed(aiopype)[NAMES[0]]["state"] == standing


@pytest.mark.parametrize("state", ["restarting", "quarantined", "ended"])
def test_what_its_worker_says_of_a_source_that_does_not_run_is_listed(aiopype, cluster, state):
    reason = "" if state == "ended" else "feed raised OSError: refused"
    again = None if state == "ended" else NOW_MS + 60_000
    stopped = Stopped(state=state, since_ms=NOW_MS, reason=reason, again_ms=again)
    cluster.work("a:1", NAMES[0])
    cluster.state(NAMES[0], "a:1", stopped=stopped)

    told = listed(aiopype)[NAMES[0]]
    output = aiopype("list").output

    assert told["state"] == state
    assert told["stopped"] == msgspec.to_builtins(stopped)
    assert output.splitlines()[1].split()[:2] == ["prices.feed", state]
    words = f"prices.feed: {state} since {local(NOW_MS)}"
    if again is not None:
        words += f", tried again at {local(again)}: {reason}"
    assert f"\n{words}\n" in output


def test_what_the_last_worker_said_of_a_source_counts_no_more(aiopype, cluster):
    stopped = Stopped(state="quarantined", since_ms=NOW_MS)
    cluster.state(NAMES[0], "a:1", stopped=stopped)
    assert listed(aiopype)[NAMES[0]]["state"] == "nobody's"

    cluster.work("b:2", NAMES[0])
    assert listed(aiopype)[NAMES[0]]["state"] == "starting"

    cluster.state(NAMES[0], "b:2")
    assert listed(aiopype)[NAMES[0]]["state"] == "running"
    assert listed(aiopype)[NAMES[0]]["stopped"] is None


def test_a_source_that_is_down_and_paused_is_paused(aiopype, cluster):
    cluster.work("a:1", NAMES[0])
    cluster.state(NAMES[0], "a:1", stopped=Stopped(state="quarantined", since_ms=NOW_MS))
    cluster.put(WISHES, NAMES[0], Wish(is_paused=True).encode())

    assert listed(aiopype)[NAMES[0]]["state"] == "paused"
    assert "quarantined" not in aiopype("list").output


def test_a_source_that_is_nobodys_is_listed_with_its_last_worker(aiopype, cluster):
    cluster.work("b:2")
    cluster.state(NAMES[0], "a:1")

    assert "none, last a:1" in aiopype("list").output
    assert listed(aiopype)[NAMES[0]]["last_worker"] == "a:1"


@pytest.mark.parametrize(
    ("value", "reason", "epoch"),
    [
        (b"{garbage", "malformed", 3),
        (None, "it has been deleted", 3),
        (b'{"v":2,"epoch":7,"run":1}', "of version 2", 7),
        (b'{"v":2,"epoch":-7}', "of version 2", 3),
        (b'{"v":2,"epoch":1e40}', "of version 2", 3),
        (b'{"v":2,"epoch":99999999999999999999}', "of version 2", 3),
        (b"[" * 5_000, "", 3),
    ],
)
def test_a_state_that_cannot_be_read_is_told_with_the_highest_epoch(
    aiopype, cluster, value, reason, epoch
):
    cluster.state(NAMES[0], "a:1", epoch=3)
    cluster.put(STATES, NAMES[0], value)

    result = aiopype("list")

    found = listed(aiopype)[NAMES[0]]
    assert (found["state"], found["epoch"]) == ("unreadable", epoch)
    assert reason in found["trouble"]
    assert f"aiopype sources reset TARGET {NAMES[0]} --position JSON" in result.output


def test_an_epoch_that_only_a_worker_tells_of_counts(aiopype, cluster):
    cluster.work("a:1", NAMES[0], runs={NAMES[0]: 5})

    assert listed(aiopype)[NAMES[0]]["epoch"] == 5


def test_sources_that_only_the_brokers_know_are_marked(aiopype, cluster):
    cluster.state("prices.gone", "a:1")
    cluster.put(WISHES, "prices.wished", Wish().encode())
    cluster.work("a:1", can=("prices.newer",))

    output = aiopype("list").output

    for name in ("prices.gone", "prices.wished", "prices.newer"):
        assert f"{name} (not in this program)" in output
    assert not any(f"{name} (not" in output for name in NAMES)


def test_where_a_source_is_pinned_is_told_and_whether_that_is_there(aiopype, cluster):
    cluster.work("a:1", *NAMES)
    for name, worker in zip(NAMES, ("a", "c"), strict=True):
        cluster.put(WISHES, name, Wish(worker=worker).encode())

    lines = aiopype("list").output.splitlines()

    assert lines[1].endswith("  a")
    assert lines[2].endswith("  c (not there)")


def test_workers_that_hold_nothing_are_listed_too(aiopype, running):
    running.work("c:3", host="10.0.0.3")

    output = aiopype("list").output

    assert "a:1     10.0.0.1  1" in output
    assert "c:3     10.0.0.3  none, it stands by" in output


def test_a_list_waits_until_the_workers_have_agreed(aiopype, running):
    running.settles_in = 3

    assert listed(aiopype)[NAMES[0]]["worker"] == "a:1"


def test_workers_that_do_not_agree_are_told(aiopype, running, monkeypatch):
    running.settles_in = None
    monkeypatch.setattr(owners.Owners.settled, "__defaults__", (0.0,))

    output = aiopype("list").output

    assert "the workers are agreeing" in output
    assert "none, last a:1" in output


def test_garbage_in_topics_and_group_harms_no_list(aiopype, running):
    running.put(WISHES, NAMES[0], b"{garbage")
    running.members["?"] = Joined("10.0.0.9", b"garbage", b"garbage")
    running.records_of[STATES].append(Stored(STATES, 0, 9, NOW_MS, b"\xff\x1b[2J", b"[]"))
    running.records_of[STATES].append(Stored(STATES, 0, 10, NOW_MS, None, b"[]"))

    result = aiopype("list")

    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert listed(aiopype)[NAMES[0]]["state"] == "running"


def test_a_flow_without_sources_says_so(aiopype, cluster, monkeypatch):
    connection = Connection("flow", "a:1", {}, None, ("prices",))
    monkeypatch.setattr(sources, "connection_to", lambda target, broker: connection)

    assert "no sources" in aiopype("list").output
    assert "no sources" in aiopype("pause", "--all").output


def test_a_position_is_shortened_in_text_and_whole_in_json(aiopype, cluster):
    cluster.state(NAMES[0], "a:1", position=b'"' + b"x" * 100 + b'"')

    assert "…" in aiopype("list").output
    assert listed(aiopype)[NAMES[0]]["position"] == "x" * 100


# --- which sources


def test_target_and_broker_are_handed_on(aiopype, running):
    for words, target in (
        (("pause", *NAMES), None),
        (("pause", "flow.py", NAMES[0]), "flow.py"),
        (("pause", "app:flow", NAMES[0]), "app:flow"),
        (("resume", "pkg.flow", "--all"), "pkg.flow"),
        (("move", NAMES[0], "a:1"), None),
        (("move", "pkg.flow", NAMES[0], "a:1"), "pkg.flow"),
        (("move", "pkg.flow", NAMES[0], "--anywhere"), "pkg.flow"),
        (("reset", NAMES[0], "--beginning", "--yes"), None),
        (("reset", "pkg.flow", NAMES[0], "--beginning", "--yes"), "pkg.flow"),
        (("list", "pkg.flow"), "pkg.flow"),
    ):
        assert aiopype(*words, "--broker", "b:2").exit_code == 0, words
        assert running.asked == (target, "b:2")


def test_without_a_flow_of_the_project_the_first_word_is_the_target(aiopype, running, monkeypatch):
    monkeypatch.setattr(Settings, "default_flow", lambda: None)

    aiopype("pause", "pkg.flow", NAMES[0])

    assert running.asked == ("pkg.flow", None)
    assert list(running.wished[0]) == [NAMES[0]]


@pytest.mark.parametrize("command", ["pause", "resume", "restart"])
@pytest.mark.parametrize("words", [(), ("flow.py",), ("flow.py", "prices.feed", "--all")])
def test_sources_are_named_or_all_are_meant(aiopype, running, command, words):
    result = aiopype(command, *words)

    assert result.exit_code == 2
    assert "name sources, or give --all" in result.output
    assert running.wished == []


def test_patterns_mean_sources_each_once(aiopype, running):
    aiopype("pause", "prices.*", NAMES[0])

    assert [list(wishes) for wishes in running.wished] == [list(NAMES)]


@pytest.mark.parametrize("command", ["pause", "resume", "restart"])
def test_an_unknown_source_is_refused_with_the_nearest_and_nothing_is_done(
    aiopype, running, command
):
    result = aiopype(command, NAMES[1], "prices.fed")

    assert result.exit_code == 1
    assert "there is no source 'prices.fed'; did you mean prices.feed?" in result.output
    assert running.wished == []


def test_a_source_that_only_the_brokers_know_can_be_paused(aiopype, cluster):
    cluster.state("prices.gone", "a:1")

    assert aiopype("pause", "prices.gone").exit_code == 0
    assert cluster.wish_of("prices.gone").is_paused


# --- pause, resume, restart


def test_a_pause_is_told_when_the_worker_says_so_with_where_it_stands(aiopype, running):
    result = aiopype("pause", NAMES[0])

    assert (result.exit_code, result.output) == (0, "prices.feed  is paused at position 18\n")
    assert running.wish_of(NAMES[0]).is_paused


def test_a_pause_leaves_the_rest_of_what_was_wished(aiopype, running):
    running.put(WISHES, NAMES[0], Wish(worker="a", restart=3).encode())

    aiopype("pause", NAMES[0])

    wish = running.wish_of(NAMES[0])
    assert (wish.is_paused, wish.worker, wish.restart) == (True, "a", 3)
    assert wish.at_ms >= NOW_MS


def test_what_is_wished_already_is_not_wished_again(aiopype, running):
    aiopype("pause", NAMES[0])

    result = aiopype("pause", NAMES[0])

    assert (result.exit_code, result.output) == (0, "prices.feed  is paused at position 18\n")
    assert len(running.wished) == 1


def test_a_pause_of_what_nobody_took_over_needs_no_word_of_its_owner(aiopype, cluster):
    cluster.work("a:1", *NAMES)

    result = aiopype("pause", NAMES[0])

    assert (result.exit_code, result.output) == (0, "prices.feed  is paused at its beginning\n")


def test_a_resume_is_told_when_the_worker_runs_it(aiopype, running):
    aiopype("pause", "--all")

    result = aiopype("resume", "--all")

    assert result.exit_code == 0
    assert result.output == "prices.feed  runs on a:1\nprices.ticks  runs on b:2\n"
    assert aiopype("resume", NAMES[0]).output == "prices.feed  runs on a:1\n"


def test_a_resume_is_not_told_before_the_worker_runs_it(aiopype, running):
    aiopype("pause", NAMES[0])
    running.obey = lambda name: None

    result = aiopype("resume", NAMES[0], "--wait", "0.05")

    assert result.exit_code == 1
    assert "not seen to be done" in result.output


def test_while_the_workers_spread_the_sources_anew_nothing_is_told(aiopype, running):
    def obey(name):
        running.settles_in = 2
        running.work("a:1")  # it has given up what it had, and says so no more

    running.obey = obey

    result = aiopype("pause", NAMES[0])

    assert result.output == "prices.feed  is paused at position 17\n"
    assert running.settles_in == 0


def test_workers_that_do_not_agree_in_time_leave_it_open(aiopype, running):
    running.obey = lambda name: setattr(running, "settles_in", None)

    result = aiopype("pause", NAMES[0], "--wait", "0.05")

    assert result.exit_code == 1
    assert "look into the log of the workers" in result.output


def test_topics_are_read_on_from_where_it_stopped(aiopype, running):
    running.obey = lambda name: None
    aiopype("pause", NAMES[0], "--wait", "0.05")

    assert running.read_again == 0


def test_each_restart_is_a_new_one(aiopype, running):
    for number in (1, 2):
        result = aiopype("restart", NAMES[0])

        assert result.output == "prices.feed  is started again on a:1\n"
        assert running.wish_of(NAMES[0]).restart == number


def test_a_restart_of_what_is_paused_is_for_later(aiopype, running):
    aiopype("pause", NAMES[0])
    running.obey = lambda name: None

    result = aiopype("restart", NAMES[0])

    assert result.exit_code == 0
    assert "is paused; it starts again when it is resumed" in result.output


@pytest.mark.parametrize("command", ["pause", "restart"])
def test_what_is_not_seen_to_be_done_in_time_is_told(aiopype, running, command):
    running.obey = lambda name: None

    result = aiopype(command, NAMES[0], "--wait", "0.05")

    assert result.exit_code == 1
    assert "is wished, and not seen to be done after 0.05 s" in result.output
    assert "the log of worker a:1" in result.output


def test_one_that_is_late_hides_no_other(aiopype, running):
    obey = running.obey
    running.obey = lambda name: obey(name) if name == NAMES[1] else None

    result = aiopype("pause", "--all", "--wait", "0.05")

    assert result.exit_code == 1
    assert "prices.ticks  is paused at position 18\nprices.feed  is wished" in result.output


def test_what_cannot_be_read_is_named_as_the_reason(aiopype, running):
    aiopype("pause", NAMES[0])
    running.put(STATES, NAMES[0], None)
    running.obey = lambda name: None

    result = aiopype("resume", NAMES[0], "--wait", "0.05")

    assert result.exit_code == 1
    assert "it has been deleted; say where" in result.output


def test_without_waiting_nothing_is_looked_at(aiopype, running):
    running.obey = lambda name: None

    result = aiopype("pause", NAMES[0], "--wait", "0")

    assert result.exit_code == 0
    assert "is wished; its worker sees it within a second" in result.output


def test_without_a_worker_nothing_is_waited_for(aiopype, cluster):
    result = aiopype("pause", "--all")

    assert result.exit_code == 0
    assert result.output.count("no worker that has it runs now") == 2


def test_a_broker_that_is_gone_after_the_wish_does_not_hide_the_wish(aiopype, running):
    def fail(name):
        running.error = BrokerError("nobody answers")

    running.obey = fail

    result = aiopype("pause", NAMES[0])

    assert result.exit_code == 1
    assert "is wished; what comes of it cannot be seen: nobody answers" in result.output


# --- move


def test_a_source_is_moved_when_it_runs_there(aiopype, running):
    def obey(name):
        running.work("a:1")
        running.work("b:2", *NAMES)
        running.state(name, "b:2")

    running.obey = obey

    result = aiopype("move", NAMES[0], "b")

    assert (result.exit_code, result.output) == (0, "prices.feed  is on b:2, pinned to b\n")
    assert running.wish_of(NAMES[0]).worker == "b"


def test_a_source_that_was_given_away_and_runs_nowhere_is_waited_for(aiopype, running):
    running.obey = lambda name: running.work("b:2", *NAMES)

    result = aiopype("move", NAMES[0], "b:2", "--wait", "0.05")

    assert result.exit_code == 1
    assert "not seen to be done" in result.output


def test_of_a_paused_source_the_owner_is_moved(aiopype, running):
    aiopype("pause", NAMES[0])
    running.work("a:1")
    running.work("b:2", *NAMES)

    result = aiopype("move", NAMES[0], "b:2")

    assert result.output == "prices.feed  is on b:2, pinned to b:2, paused\n"


def test_a_source_is_pinned_no_more(aiopype, running):
    aiopype("move", NAMES[0], "a:1")

    result = aiopype("move", NAMES[0], "--anywhere")

    assert result.output == "prices.feed  is on a:1, and may run anywhere\n"
    assert running.wish_of(NAMES[0]).worker is None


@pytest.mark.parametrize("worker", ["c", "a:2", "a:", "A:1"])
def test_a_worker_that_is_not_there_is_refused_with_those_that_are(aiopype, running, worker):
    result = aiopype("move", NAMES[0], worker)

    assert result.exit_code == 1
    assert f"there is no worker '{worker}'" in result.output
    assert "a:1, b:2" in result.output
    assert running.wished == []


def test_a_worker_whose_program_lacks_the_source_is_refused(aiopype, running):
    running.work("c:3", can=NAMES[1:])

    result = aiopype("move", "prices.*", "c")

    assert result.exit_code == 1
    assert "the program of c has no source 'prices.feed'" in result.output
    assert running.wished == []


def test_nothing_is_moved_without_workers(aiopype, cluster):
    assert "no worker of the flow runs" in aiopype("move", NAMES[0], "a").output


def test_nothing_is_moved_while_the_workers_do_not_agree(aiopype, running, monkeypatch):
    running.settles_in = None
    monkeypatch.setattr(owners.Owners.settled, "__defaults__", (0.0,))

    result = aiopype("move", NAMES[0], "a")

    assert result.exit_code == 1
    assert "try again in a moment" in result.output


@pytest.mark.parametrize(
    "words", [(), ("a",), ("a", "b", "c", "d"), ("--anywhere",), ("a", "b", "c", "--anywhere")]
)
def test_move_wants_a_source_and_a_worker(aiopype, running, words):
    result = aiopype("move", *words)

    assert result.exit_code == 2
    assert "give a SOURCE and a WORKER" in result.output


# --- reset


def test_a_source_is_put_somewhere_else_and_goes_on_from_there(aiopype, running):
    result = aiopype("reset", NAMES[0], "--position", ' {"page": 2}', "--yes")

    assert result.exit_code == 0
    assert running.wished[0] == (NAMES[0], b'{"page":2}', 2)
    assert running.wish_of(NAMES[0]).restart == 1
    assert result.output.splitlines() == [
        "prices.feed: it is at position 17, epoch 1, running",
        'prices.feed  is at position {"page":2}, epoch 2',
        "prices.feed  goes on from there on a:1, epoch 3",
    ]


@pytest.mark.parametrize("goal", [("--beginning",), ("--position", "null")])
def test_a_source_is_put_at_its_beginning(aiopype, running, goal):
    result = aiopype("reset", NAMES[0], *goal, "--yes")

    assert running.wished[0] == (NAMES[0], None, 2)
    assert "prices.feed  is at its beginning, epoch 2" in result.output


def test_nothing_is_put_somewhere_else_without_a_yes(aiopype, running):
    for text in ("n\n", "\n", ""):
        result = aiopype("reset", NAMES[0], "--position", "5", text=text)

        assert result.exit_code == 1
        assert "let it go on from position 5? [y/N]" in result.output
        assert running.wished == []
    assert aiopype("reset", NAMES[0], "--position", "5", text="y\n").exit_code == 0
    assert running.wished


def test_a_state_that_cannot_be_read_is_replaced_with_an_epoch_beyond_all_known(aiopype, running):
    running.state(NAMES[0], "a:1", epoch=6)
    running.put(STATES, NAMES[0], b"{garbage")
    # As its worker does, which reads the state again.
    running.obey = lambda name: running.state(name, "a:1", epoch=8, restart=1)

    result = aiopype("reset", NAMES[0], "--position", "17", "--yes")

    assert result.exit_code == 0
    assert "cannot be read" in result.output.splitlines()[0]
    assert running.wished[0] == (NAMES[0], b"17", 7)


def test_a_reset_is_done_when_an_owner_has_begun_there(aiopype, running):
    running.obey = lambda name: None

    result = aiopype("reset", NAMES[0], "--position", "17", "--yes", "--wait", "0.05")

    assert result.exit_code == 1
    assert "is wished, and not seen to be done" in result.output


def test_a_paused_source_begins_there_when_it_is_resumed(aiopype, running):
    aiopype("pause", NAMES[0])
    running.obey = lambda name: None

    result = aiopype("reset", NAMES[0], "--position", "17", "--yes")

    assert result.exit_code == 0
    assert "is paused; it begins there when it is resumed" in result.output


@pytest.mark.parametrize("text", ["b", "{", "NaN", '"' + "x" * 70_000 + '"', "[" * 5_000])
def test_a_position_that_is_no_json_or_too_large_is_a_wrong_use(aiopype, running, text):
    result = aiopype("reset", NAMES[0], "--position", text, "--yes")

    assert result.exit_code == 2
    assert "cannot be one" in result.output
    assert running.wished == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give one SOURCE"),
        (("a", "b", "c"), "give one SOURCE"),
        ((NAMES[0],), "either --position or --beginning"),
        ((NAMES[0], "--position", "1", "--beginning"), "either --position or --beginning"),
        (("prices.*", "--beginning"), "means 2 sources; give one"),
    ],
)
def test_reset_wants_one_source_and_one_place(aiopype, running, words, says):
    result = aiopype("reset", *words)

    assert result.exit_code == 2
    assert says in result.output
    assert running.wished == []
