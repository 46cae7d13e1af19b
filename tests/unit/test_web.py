import asyncio
import json
import logging
import socket

import aiohttp
import pytest

from aiopype import web
from aiopype.errors import WorkerError
from aiopype.health import Health, Problem
from aiopype.metrics import Metrics
from aiopype.web import WebServer


@pytest.fixture
def health():
    return Health("quotes")


@pytest.fixture
async def serve(health):
    """Starts a server at a port; stops it at the end."""
    servers = []

    async def start(port=0, host="127.0.0.1"):
        servers.append(WebServer(host, port, health, Metrics()))
        await servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        await server.stop()


@pytest.fixture
async def get(serve):
    """Asks a server of its own for a path; returns status, headers and text."""
    server = await serve()
    async with aiohttp.ClientSession() as session:

        async def ask(path, **headers):
            async with session.get(server.address + path, headers=headers) as answer:
                return answer.status, answer.headers, await answer.text()

        yield ask


@pytest.fixture
def taken():
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


# --- what it answers


async def test_it_lives_when_the_loop_answers(get, health):
    health.add("broker", lambda: Problem("no broker answers"))

    status, _, text = await get("/health/live")

    assert (status, text) == (200, "the event loop answers\n")


async def test_it_is_ready_without_a_problem(get):
    status, headers, text = await get("/health/ready")

    assert status == 200
    assert headers["Content-Type"].startswith("application/json")
    assert json.loads(text)["is_ready"] is True


async def test_it_is_not_ready_with_one_and_says_which(get, health):
    health.add("broker", lambda: Problem("no broker answers", 1e9))

    status, _, text = await get("/health/ready")

    assert status == 503
    assert json.loads(text) == health.report()


async def test_metrics_come_in_the_form_that_is_accepted(get):
    status, headers, _ = await get("/metrics", Accept="application/openmetrics-text")

    assert status == 200
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert (await get("/metrics"))[1]["Content-Type"].startswith("text/plain")


async def test_other_paths_are_not_there(get):
    assert (await get("/"))[0] == 404


# --- where it listens


async def test_a_port_that_was_given_and_is_taken_is_an_error(serve, taken):
    with pytest.raises(WorkerError, match=rf":{taken}: .*; set AIOPYPE_WEB_PORT"):
        await serve(taken)


async def test_without_a_port_the_next_free_one_is_used_and_said(serve, taken, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(web, "DEFAULT_PORT", taken)

    server = await serve(None)

    port = int(server.address.rpartition(":")[2])
    assert port > taken
    assert f"port {taken} is taken, port {port} is used" in caplog.text


async def test_without_a_port_and_with_none_free_it_is_an_error(serve, taken, monkeypatch):
    monkeypatch.setattr(web, "DEFAULT_PORT", taken)
    monkeypatch.setattr(web, "PORTS", 1)

    with pytest.raises(WorkerError, match="cannot listen"):
        await serve(None)


async def test_a_host_that_is_none_of_this_machine_is_an_error(serve):
    with pytest.raises(WorkerError, match=r"cannot listen on 192\.0\.2\.1:"):
        await serve(None, host="192.0.2.1")


async def test_a_port_can_be_used_again_at_once(serve):
    first = await serve()
    port = int(first.address.rpartition(":")[2])
    async with aiohttp.ClientSession() as session:
        await session.get(first.address + "/health/live")
        await first.stop()

    assert (await serve(port)).address == f"http://127.0.0.1:{port}"


async def test_a_client_that_says_nothing_does_not_hold_up_the_stop(serve):
    server = await serve()
    _, writer = await asyncio.open_connection("127.0.0.1", int(server.address.rpartition(":")[2]))

    await asyncio.wait_for(server.stop(), 3)

    assert server.address is None
    writer.close()


async def test_stopping_what_was_not_started_is_nothing(health):
    await WebServer("127.0.0.1", 0, health, Metrics()).stop()
