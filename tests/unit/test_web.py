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
from aiopype.web import OfWorker, WebServer

TOKEN = "sesame"


@pytest.fixture
def health():
    return Health("quotes")


@pytest.fixture
async def serve(health):
    """Starts a server at a port; stops it at the end."""
    servers = []

    async def start(port=0, host="127.0.0.1", token=None):
        servers.append(WebServer(host, port, OfWorker(health, Metrics()), token))
        await servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        await server.stop()


@pytest.fixture
async def ask():
    """Asks a server for a path; returns status, headers and text."""
    async with aiohttp.ClientSession() as session:

        async def request(server, path, method="GET", **headers):
            async with session.request(method, server.address + path, headers=headers) as answer:
                return answer.status, answer.headers, await answer.text()

        yield request


@pytest.fixture
async def get(serve, ask):
    """Asks a server of its own for a path; returns status, headers and text."""
    server = await serve()
    return lambda path, **options: ask(server, path, **options)


@pytest.fixture
async def guarded(serve, ask):
    """Asks a server of its own that wants a token."""
    server = await serve(token=TOKEN)
    return lambda path, **options: ask(server, path, **options)


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


async def test_the_root_names_what_there_is(get):
    assert (await get("/"))[::2] == (200, "aiopype: /health/live, /health/ready and /metrics\n")


async def test_another_path_is_answered_with_a_line_that_names_those_there_are(get):
    assert (await get("/status"))[::2] == (
        404, "404: nothing is here but /health/live, /health/ready and /metrics\n",
    )  # fmt: skip


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_what_would_change_something_is_refused(get, method):
    status, headers, text = await get("/health/ready", method=method)

    assert (status, text) == (405, "405: this only answers GET and HEAD\n")
    assert headers["Allow"] == "GET,HEAD"


async def test_the_head_of_an_answer_can_be_asked_for(get, health):
    health.add("broker", lambda: Problem("no broker answers"))

    assert (await get("/health/ready", method="HEAD"))[::2] == (503, "")


@pytest.mark.parametrize("path", ["/", "/health/live", "/health/ready", "/metrics", "/none"])
async def test_every_answer_says_that_it_is_not_to_be_kept_or_guessed_at(get, path):
    _, headers, _ = await get(path)

    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Server"] == "aiopype"


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/health/live?" + "x" * 3_000, {}), ("/health/live", {"Much": "x" * 5_000})],
    ids=["line", "header"],
)
async def test_a_request_that_is_too_long_is_refused_quietly(get, path, headers, caplog):
    assert (await get(path, **headers))[0] == 400

    assert caplog.records == []


async def test_a_fault_of_ours_is_one_line_and_in_the_log(get, health, caplog):
    health.detail("managers", lambda: 1 / 0)

    assert (await get("/health/ready"))[::2] == (500, "500: the log of the worker says why\n")
    assert "answering /health/ready" in caplog.text
    assert "ZeroDivisionError" in caplog.text


# --- who is answered


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}], ids=["none", "wrong"])
async def test_without_the_token_it_is_told_that_the_loop_answers(guarded, headers):
    assert (await guarded("/health/live", **headers))[0] == 200


@pytest.mark.parametrize(
    ("problem", "answer"), [(None, (200, "ready\n")), (Problem("secret"), (503, "not ready\n"))]
)
async def test_without_the_token_it_is_told_whether_it_is_ready_and_no_more(
    guarded, health, problem, answer
):
    health.add("broker", lambda: problem)

    assert (await guarded("/health/ready"))[::2] == answer


async def test_without_the_token_there_are_no_metrics(guarded):
    status, headers, text = await guarded("/metrics")

    assert (status, text) == (
        401, "401: send `Authorization: Bearer` with the token of AIOPYPE_WEB_TOKEN\n",
    )  # fmt: skip
    assert headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/metrics", "/health/ready"])
@pytest.mark.parametrize(
    "header",
    ["Bearer wrong", "Bearer sesam", "Bearer sesame2", "Bearer", "Bearer ", "Basic sesame",
     "sesame", "Bearer Sesame", "Bearer s\xe9same"],
)  # fmt: skip
async def test_a_wrong_token_gets_nothing(guarded, path, header):
    assert (await guarded(path, Authorization=header))[0] == 401


@pytest.mark.parametrize("header", ["Bearer sesame", "bearer  sesame"])
async def test_who_has_the_token_gets_all(guarded, health, header):
    health.add("broker", lambda: Problem("no broker answers", 1e9))

    status, _, text = await guarded("/health/ready", Authorization=header)

    assert (status, json.loads(text)) == (503, health.report())
    assert (await guarded("/metrics", Authorization=header))[0] == 200


async def test_a_token_that_nobody_wants_is_no_fault(get):
    assert (await get("/metrics", Authorization="Bearer whatever"))[0] == 200


@pytest.mark.parametrize(
    ("host", "token", "is_said"),
    [("0.0.0.0", None, True), ("0.0.0.0", TOKEN, False), ("127.0.0.1", None, False)],
)
async def test_that_others_get_all_without_a_token_is_said_once(
    serve, caplog, host, token, is_said
):
    await serve(host=host, token=token)

    said = [record.message for record in caplog.records]
    assert len(said) == is_said
    assert all("set AIOPYPE_WEB_TOKEN" in text for text in said)


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
    await WebServer("127.0.0.1", 0, OfWorker(health, Metrics())).stop()


async def test_it_listens_on_a_unix_socket_and_says_nothing(serve, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.chdir(tmp_path)  # the path of a socket has to be short

    server = await serve(None, host="unix:socket")

    assert server.address == "unix:socket"
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector("socket")) as session:
        answer = await session.get("http://worker/health/live")
        assert answer.status == 200
    assert caplog.records == []


async def test_a_socket_that_a_killed_worker_has_left_is_taken_over(serve, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind("socket")

    assert (await serve(host="unix:socket")).address == "unix:socket"


async def test_a_unix_socket_that_cannot_be_made_is_an_error(serve):
    with pytest.raises(WorkerError, match="cannot listen on unix:none/socket: No such file"):
        await serve(host="unix:none/socket")
