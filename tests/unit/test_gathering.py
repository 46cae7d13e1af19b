"""What several workers answer, with real web servers on sockets as in `aiopype run --workers`."""

import asyncio
import os
import stat
from pathlib import Path

import pytest

from aiopype import gathering
from aiopype.gathering import OfWorkers, Place, places
from aiopype.health import Health, Problem
from aiopype.metrics import Metrics
from aiopype.metrics.merging import WorkerCounts
from aiopype.web import OfWorker, WebServer

#: Of all tests: 2001-09-09T01:46:40Z.
NOW = 1e9


class Hangs(OfWorker):
    """A worker whose answers do not come."""

    async def report(self):
        await asyncio.sleep(3600)

    async def scrape(self, accept):
        await asyncio.sleep(3600)


class Workers:
    """Workers of a flow, each with a health of its own and one metric that has its number."""

    def __init__(self, found, token):
        self.places = found
        self.healths = [Health("quotes") for _ in found]
        self.token = token
        self.servers = []

    async def start(self, number, answers=OfWorker):
        place = self.places[number - 1]
        metrics = Metrics(WorkerCounts("quotes", up=number, down=0))
        told = answers(self.healths[number - 1], metrics)
        self.servers.append(WebServer(place.host, place.port, told, self.token))
        await self.servers[-1].start()
        return self.servers[-1]


@pytest.fixture(params=["sockets", "ports"])
def found(request, monkeypatch):
    """Places of two workers, of either kind."""
    if request.param == "ports":
        monkeypatch.setattr(gathering, "PATH_BYTES", 5)
    with places(2) as made:
        assert made[0].host.startswith("unix:") is (request.param == "sockets")
        yield made


@pytest.fixture
async def workers(found):
    made = Workers(found, "sesame")
    yield made
    for server in made.servers:
        await server.stop()


@pytest.fixture
def gathered(workers):
    return OfWorkers("quotes", workers.places, "sesame", clock=lambda: NOW)


async def test_it_is_ready_when_all_are(workers, gathered):
    await workers.start(1)
    await workers.start(2)

    assert await gathered.report() == {
        "flow": "quotes",
        "is_ready": True,
        "problems": {},
        "workers": {n: {"flow": "quotes", "is_ready": True} for n in ("1", "2")},
    }


async def test_what_a_worker_is_not_ready_for_has_its_number(workers, gathered):
    workers.healths[1].add("broker", lambda: Problem("no broker answers", NOW))
    await workers.start(1)
    await workers.start(2)

    report = await gathered.report()

    assert not report["is_ready"]
    assert report["problems"] == {
        "worker 2: broker": {
            "reason": "no broker answers", "since": "2001-09-09T01:46:40.000+00:00",
        },
    }  # fmt: skip
    assert report["workers"]["2"]["is_ready"] is False


async def test_one_that_does_not_run_is_a_problem_since_it_was_missed(workers, gathered):
    await workers.start(1)

    first = await gathered.report()
    gathered._clock = lambda: NOW + 60
    second = await gathered.report()

    assert first == second
    assert first["problems"] == {
        "worker 2": {
            "reason": "it does not answer: it starts, or has ended",
            "since": "2001-09-09T01:46:40.000+00:00",
        },
    }


async def test_one_that_comes_back_is_ready_and_may_be_missed_anew(workers, gathered):
    await workers.start(1)
    await gathered.report()
    second = await workers.start(2)
    assert (await gathered.report())["is_ready"]

    await second.stop()
    gathered._clock = lambda: NOW + 60

    problem = (await gathered.report())["problems"]["worker 2"]
    assert problem["since"] == "2001-09-09T01:47:40.000+00:00"


async def test_one_that_hangs_is_a_problem_and_does_not_hold_up_the_others(
    workers, gathered, monkeypatch
):
    monkeypatch.setattr(gathering, "ANSWER_SECONDS", 0.3)
    await workers.start(1)
    await workers.start(2, Hangs)

    async with asyncio.timeout(10):
        report = await gathered.report()

    assert report["problems"]["worker 2"]["reason"] == "it does not answer in 0.3 s"
    assert list(report["workers"]) == ["1"]


async def test_the_metrics_are_those_of_all_and_how_many_answered(workers, gathered):
    await workers.start(1)
    await workers.start(2)

    body, content_type = await gathered.scrape("")

    assert content_type.startswith("text/plain")
    assert [line for line in body.decode().splitlines() if not line.startswith("#")] == [
        'aiopype_workers{flow="quotes",state="up"} 2.0',
        'aiopype_workers{flow="quotes",state="down"} 0.0',
        'aiopype_workers{worker="1",flow="quotes",state="up"} 1.0',
        'aiopype_workers{worker="1",flow="quotes",state="down"} 0.0',
        'aiopype_workers{worker="2",flow="quotes",state="up"} 2.0',
        'aiopype_workers{worker="2",flow="quotes",state="down"} 0.0',
    ]


async def test_the_metrics_are_in_the_form_that_is_accepted(workers, gathered):
    await workers.start(1)
    await workers.start(2)

    body, content_type = await gathered.scrape("application/openmetrics-text; version=1.0.0")

    assert content_type.startswith("application/openmetrics-text")
    assert body.decode().endswith("\n# EOF\n")
    assert body.decode().count("# EOF") == 1


async def test_one_that_hangs_is_left_out_of_the_metrics_and_counted(
    workers, gathered, monkeypatch
):
    monkeypatch.setattr(gathering, "ANSWER_SECONDS", 0.3)
    await workers.start(1, Hangs)
    await workers.start(2)

    text = (await gathered.scrape(""))[0].decode()

    assert 'aiopype_workers{flow="quotes",state="down"} 1.0' in text
    assert 'worker="2"' in text
    assert 'worker="1"' not in text


async def test_one_that_wants_another_token_is_a_problem(workers, gathered):
    await workers.start(1)
    workers.token = "another"
    await workers.start(2)

    reason = (await gathered.report())["problems"]["worker 2"]["reason"]

    assert reason.startswith("it answers 401: ")
    assert 'worker="2"' not in (await gathered.scrape(""))[0].decode()


async def test_one_that_gives_no_reasons_without_a_token_is_a_problem(workers):
    await workers.start(1)
    await workers.start(2)

    report = await OfWorkers("quotes", workers.places).report()

    assert {problem["reason"] for problem in report["problems"].values()} == {
        "it gives no reasons: it wants a token that this process lacks"
    }


# --- places


def test_sockets_are_in_a_folder_of_this_users_only_which_goes_at_the_end():
    with places(2) as found:
        one, two = (Path(place.host.removeprefix("unix:")) for place in found)
        assert one != two
        assert stat.S_IMODE(one.parent.stat().st_mode) == 0o700
        one.touch()

    assert not one.parent.exists()


@pytest.mark.parametrize("lacks", ["sockets", "a folder"])
def test_without_sockets_or_a_folder_for_them_there_are_ports(monkeypatch, lacks):
    if lacks == "sockets":
        monkeypatch.delattr("socket.AF_UNIX")
    else:

        def refuse(**_):
            raise FileNotFoundError("no usable temporary directory")

        monkeypatch.setattr(gathering.tempfile, "TemporaryDirectory", refuse)

    with places(3) as found:
        assert {place.host for place in found} == {"127.0.0.1"}
        assert len({place.port for place in found}) == 3


def test_a_path_too_long_for_a_socket_makes_ports(monkeypatch, tmp_path):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(gathering.tempfile, "tempdir", os.fspath(deep))

    with places(1) as found:
        assert found[0].host == "127.0.0.1"


def test_a_worker_is_told_its_place_by_options():
    assert Place("unix:/tmp/1").options == ["--web-host", "unix:/tmp/1", "--web-port", "6066"]
    assert Place("127.0.0.1", 7000).options == ["--web-host", "127.0.0.1", "--web-port", "7000"]
