"""Several workers under one command: what each is told, and who answers for them."""

import asyncio
from types import SimpleNamespace

import pytest

from aiopype import fleet
from aiopype.errors import WorkerError
from aiopype.web import WebServer


@pytest.fixture
def settings():
    return SimpleNamespace(name="quotes", web_host="127.0.0.1", web_port=1, web_token=None)


@pytest.fixture
def ran(monkeypatch):
    """The commands that were run, with whether they may end; each run ends with 3."""
    runs = []

    async def run_workers(commands, *, may_end):
        runs.append((commands, may_end))
        return 3

    monkeypatch.setattr(fleet, "run_workers", run_workers)
    return runs


@pytest.fixture
def servers(monkeypatch):
    """What web servers did, in order; they listen nowhere."""
    done = []

    class Server(WebServer):
        def __init__(self, host, port, answers, token):
            super().__init__(host, port, answers, token)
            done.append((host, port, token))

        async def start(self):
            done.append("started")

        async def stop(self):
            done.append("stopped")

    monkeypatch.setattr(fleet, "WebServer", Server)
    return done


async def test_each_worker_answers_at_a_place_of_its_own(settings, ran, servers):
    assert await fleet.run_all(["-m", "x"], 2, settings, may_end=True) == 3

    (((one, two), may_end),) = ran
    assert may_end
    for number, command in enumerate((one, two), 1):
        assert command[:5] == ["-m", "x", "--worker-number", str(number), "--web-host"]
        assert command[5].startswith("unix:")
        assert command[6:] == ["--web-port", "6066"]
    assert one[5] != two[5]


async def test_this_process_answers_where_the_settings_say(settings, ran, servers):
    settings.web_host, settings.web_port, settings.web_token = "0.0.0.0", 7000, "sesame"

    await fleet.run_all([], 2, settings)

    assert servers == [("0.0.0.0", 7000, "sesame"), "started", "stopped"]


async def test_without_a_web_port_nobody_answers(settings, ran, servers):
    settings.web_port = 0

    await fleet.run_all([], 2, settings)

    ((commands, _),) = ran
    assert [command[-2:] for command in commands] == [["--web-port", "0"]] * 2
    assert servers == []


async def test_where_the_port_is_taken_nothing_is_started(settings, ran):
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as listening:
        settings.web_port = listening.sockets[0].getsockname()[1]

        with pytest.raises(WorkerError, match="cannot listen"):
            await fleet.run_all([], 2, settings)

    assert ran == []
