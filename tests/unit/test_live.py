import asyncio
import io
import logging
import re
import sys

import pytest
from click.testing import CliRunner
from rich.console import Console

from aiopype import AsyncFlow, Flow, Manager, RestartPolicy, SyncProtocol, cli, live
from aiopype.errors import HandlerError
from aiopype.live import EventRow, ManagerRow, Picture, View
from aiopype.pipelines import Pipelines
from aiopype.progress import Trouble
from aiopype.sources import TopicSource

CONTROL = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]")


def screen(width=80, height=24):
    """A terminal that keeps what is written to it."""
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, height=height, markup=False,
        highlight=False,
    )  # fmt: skip


def text_of(console):
    return CONTROL.sub("", console.file.getvalue()).replace("\r", "")


def drawn(picture, **size):
    """The lines of a picture."""
    console = screen(**size)
    console.print(picture)
    return [line.rstrip() for line in text_of(console).splitlines()]


def events(count):
    return [EventRow(f"m.source.event{n}", n, n) for n in range(count)]


@pytest.fixture
def now():
    """The time of the views' clock, which a test moves."""
    return [100.0]


@pytest.fixture
def pipelines(declare, numbers, collector):
    """The pipelines of a manager: a source, its sink, and an event that nobody listens to."""

    def wire(manager):
        named = manager.build_processor_name
        manager.source = numbers(named("source"), manager.handler)
        manager.sink = collector(named("sink"), manager.handler)
        manager.source.on("number", manager.sink.take)
        manager.handler.topic(named("sink"), "unheard")

    declare(wire, Manager, name="quotes")
    return Pipelines(["quotes"], SyncProtocol())


@pytest.fixture
def progress(pipelines):
    return pipelines.protocol.progress


@pytest.fixture
def view(pipelines, now):
    return View("flow", pipelines, screen(), clock=lambda: now[0])


# --- what is drawn


def test_a_picture_has_all_there_is_to_know():
    picture = Picture(
        "flow on broker, up 0:00:05",
        [
            EventRow("m.source.number", 12_345, 1234.5, 0.0123, 7),
            EventRow("m.sink.done", 3, 0.25),
        ],
        [ManagerRow("m", "running", "here"), ManagerRow("n", "quarantined: ValueError")],
        [Trouble(0, "ERROR", "module: text\nand a second line")],
        "1 error",
    )

    lines = drawn(picture)

    assert lines[:10] == [
        "",
        "flow on broker, up 0:00:05",
        "",
        "event               events   events/s        age        lag",
        "m.source.number     12,345      1,234      12 ms          7",
        "m.sink.done              3        0.2          -          -",
        "",
        "manager  state                    sources",
        "m        running                  here",
        "n        quarantined: ValueError  -",
    ]
    assert lines[10:12] == ["", "1 error"]
    assert re.fullmatch(r"\d\d:\d\d:00 ERROR   module: text", lines[12])
    assert len(lines) == 13


@pytest.mark.parametrize("width", [64, 80, 200])
def test_no_line_is_wider_than_the_terminal(width):
    name = "a_manager_with_a_long_name.and_a_component_with_one.event_name"
    picture = Picture(
        "flow" * 30,
        [EventRow(name, 10**9, 10**6, 10**6, 10**6)],
        [ManagerRow("m", "running", "here")],
        [Trouble(0, "WARNING", "long " * 60)],
        "1 warning",
    )

    lines = drawn(picture, width=width)

    assert max(map(len, lines)) <= width
    row = next(line for line in lines if "1,000,000,000" in line)
    assert row.startswith("a_man")
    assert "name " in row


@pytest.mark.parametrize("height", [12, 16, 24])
def test_a_picture_never_is_higher_than_the_terminal(height):
    managers = [ManagerRow(f"m{n}", "running") for n in range(20)]

    lines = drawn(Picture("flow", events(40), managers), height=height)

    assert len(lines) < height
    more = [int(line.split()[1]) for line in lines if line.startswith("and ")]
    shown = sum(line.startswith("m.source") for line in lines)
    assert shown + more[0] == 40
    assert more[1] > 0


def test_in_room_enough_nothing_is_left_out():
    lines = drawn(Picture("flow", events(12), [ManagerRow("m", "running")]), height=24)

    assert sum(line.startswith("m.source") for line in lines) == 12


# --- what a view knows


def test_a_view_counts_what_is_handled_and_where_no_one_listens_what_is_emitted(
    view, progress, now
):
    view.picture()
    now[0] += 2
    progress.emitted("quotes.source.number", 9)
    progress.handled("quotes.source.number", 0, 6, last_timestamp_ms=0, position=6)
    progress.emitted("quotes.sink.unheard", 4)

    number, unheard = view.picture().events

    assert (number.name, number.events, number.rate) == ("quotes.source.number", 6, 3)
    assert number.age_seconds > 0
    assert unheard == EventRow("quotes.sink.unheard", 4, 2)


def test_a_view_shows_the_lag_and_the_partitions_of_this_worker(view, progress):
    assert "partitions" not in view.picture().title
    progress.assign("quotes.source.number", 0)
    progress.fetched("quotes.source.number", 0, position=2, end=9)

    assert view.picture().events[0].lag == 7
    assert view.picture().title == "flow in process, up 0:00:00, 1 partitions"


def test_a_manager_runs_and_its_sources_here_or_elsewhere(view, progress):
    assert view.picture().managers == [ManagerRow("quotes", "running", "not here")]

    progress.sources.add("quotes.source")
    assert view.picture().managers == [ManagerRow("quotes", "running", "here")]


def test_a_manager_whose_source_has_no_owner_just_runs(declare, now):
    declare(lambda manager: TopicSource("orders.feed", manager.handler, "orders"), name="orders")
    view = View("flow", Pipelines(["orders"], SyncProtocol()), screen(), lambda: now[0])

    assert view.picture().managers == [ManagerRow("orders", "running")]


def test_sources_that_have_ended_are_shown_so(view, pipelines):
    pipelines.protocol.end("quotes.source")

    assert view.picture().managers == [ManagerRow("quotes", "running", "ended")]


def test_a_manager_that_has_ended_is_shown_so(view, pipelines):
    pipelines.supervisor.end("quotes")

    assert view.picture().managers == [ManagerRow("quotes", "ended")]


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_manager_that_is_down_is_shown_with_the_error(view, pipelines, wrapped):
    error = LookupError("no")
    if wrapped:
        error = HandlerError("a handler raised")
        error.__cause__ = LookupError("no")

    pipelines.supervisor.fail("quotes", error, "what")

    assert view.picture().managers == [ManagerRow("quotes", "restarting: LookupError")]
    pipelines.supervisor.stop()


async def test_a_source_that_is_down_is_shown_with_the_error(view, pipelines, progress):
    progress.sources.add("quotes.source")
    pipelines.supervisor.add("quotes.source", RestartPolicy(failures=0))

    pipelines.supervisor.fail("quotes.source", LookupError(), "what")

    trouble = "quarantined: LookupError, 1 of 1"
    assert view.picture().managers == [ManagerRow("quotes", "running", trouble)]
    assert view.picture(over=True).managers == [ManagerRow("quotes", f"sources {trouble}")]
    pipelines.supervisor.stop()


# --- while a flow runs


async def test_a_view_draws_until_the_flow_has_ended(view, until):
    ended = asyncio.Event()
    running = asyncio.create_task(view.around(ended.wait(), "a:1"))
    await until(lambda: "quotes.source.number" in text_of(view._console))
    assert "flow on a:1, up 0:00:00" in text_of(view._console)

    ended.set()
    await running

    # What was drawn is erased, and the cursor is back.
    assert view._console.file.getvalue().endswith("\x1b[?25h\r" + "\x1b[1A\x1b[2K" * 9)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_is_printed_and_logged_appears_above_and_the_log_is_as_before(view, until):
    root, stream = logging.getLogger(), sys.stderr
    handler = logging.StreamHandler(stream)
    handler.addFilter(lambda record: "noise" not in record.getMessage())
    root.addHandler(handler)

    async def run():
        await until(lambda: sys.stderr is not stream)
        print("printed [1/2]")
        logging.getLogger("user").warning("logged")
        logging.getLogger("user").warning("noise")

    handlers = list(root.handlers)
    try:
        await view.around(run())
        assert handler.stream is stream
    finally:
        root.removeHandler(handler)

    assert sys.stderr is stream
    assert [h for h in handlers if h is not handler] == root.handlers
    assert "printed [1/2]\n" in text_of(view._console)
    assert "logged\n" in text_of(view._console)
    assert [trouble.text for trouble in view.picture().last] == ["user: logged"]
    assert view.picture().troubles == "1 warning"


async def test_what_the_flow_raises_is_raised_with_the_view_off(view):
    streams = (sys.stdout, sys.stderr)

    async def fail():
        await asyncio.sleep(0)
        raise LookupError("no")

    with pytest.raises(LookupError):
        await view.around(fail())

    assert (sys.stdout, sys.stderr) == streams
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_when_drawing_fails_the_flow_goes_on_and_it_is_logged_once(
    view, monkeypatch, caplog, until
):
    monkeypatch.setattr(live, "REFRESH_SECONDS", 0.001)
    monkeypatch.setattr(view, "picture", lambda: 1 / 0)
    stream = sys.stderr

    async def run():
        await until(lambda: caplog.records)
        await asyncio.sleep(0.02)

    await view.around(run())

    assert [record.getMessage() for record in caplog.records] == [
        "the live view has ended, the flow runs on without"
    ]
    assert sys.stderr is stream


# --- the end


async def test_the_summary_says_what_the_run_has_done(view, progress, now, capsys):
    async def run():
        now[0] += 4
        progress.handled("quotes.source.number", 0, 8, last_timestamp_ms=0, position=8)
        logging.getLogger("user").error("bad")
        logging.getLogger("user").error("worse")

    await view.around(run(), "a:1")
    now[0] += 100
    view.tell()

    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "",
        "flow on a:1, ran 4.0 s",
        "event                    events   events/s",
        "quotes.source.number          8        2.0",
        "quotes.sink.unheard           0          0",
        "manager quotes: no failure",
        "2 errors",
    ]


def test_the_summary_has_every_event(capsys):
    console = Console(file=io.StringIO(), width=80, height=10)

    console.print(*Picture("flow", events(50), []).summary(80), sep="\n")

    assert console.file.getvalue().count("m.source.event") == 50


# --- the command line


@pytest.fixture
def run(monkeypatch):
    """Runs `aiopype run` with these arguments in a terminal; returns whether it was live."""

    def start(flow, *arguments):
        seen = []
        monkeypatch.setattr(cli, "load_flow", lambda target: flow)
        monkeypatch.setattr(cli, "_in_terminal", lambda: True)
        for cls in (Flow, AsyncFlow):
            monkeypatch.setattr(cls, "start", lambda self, **given: seen.append(self.live))
        assert CliRunner().invoke(cli.main, ["run", "quotes.py", *arguments]).exit_code == 0
        return seen

    return start


@pytest.mark.parametrize("options", [[], ["--sync"], ["--broker", "a:1"]])
def test_run_in_a_terminal_is_live(run, options):
    assert run(AsyncFlow(object(), "quotes"), *options) == [True]


@pytest.mark.parametrize("options", [["--plain"], ["--plain", "--sync"]])
def test_run_is_not_live_when_it_shall_be_plain(run, options):
    assert run(AsyncFlow(object(), "quotes"), *options) == [False]


def test_one_of_several_workers_is_not_live(run, monkeypatch):
    monkeypatch.setattr(cli, "stop_with_parent", lambda stop: None)

    assert run(AsyncFlow(object(), "quotes"), "--worker-number", "2") == [False]


@pytest.mark.parametrize(
    ("out", "err", "term", "expected"),
    [
        (True, True, "xterm", True),
        (False, True, "xterm", False),
        (True, False, "xterm", False),
        (True, True, "dumb", False),
    ],
)
def test_a_terminal_is_one_for_what_is_printed_and_for_what_is_logged(
    monkeypatch, out, err, term, expected
):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: out, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: err, raising=False)
    monkeypatch.setenv("TERM", term)

    assert cli._in_terminal() is expected


# --- a flow with and without


@pytest.fixture
def flow(declare, numbers):
    """A flow in process that emits three numbers and ends."""

    def wire(manager):
        manager.source = numbers(manager.build_processor_name("source"), manager.handler)

    name = declare(wire, Manager).name
    return Flow(type("Config", (), {"FLOWS": [name]}), "three")


def test_a_live_flow_ends_with_its_summary(flow, capsys):
    flow.live = True

    flow.start()

    out = capsys.readouterr().out
    assert "three in process, ran " in out
    assert re.search(r"source\.number +3 ", out)
    assert "ended" in out


def test_a_plain_flow_ends_with_a_line_in_the_log(flow, caplog, capsys):
    caplog.set_level("INFO")

    flow.start()

    assert caplog.messages[-1].startswith("0 events handled in ")
    assert capsys.readouterr().out == ""
