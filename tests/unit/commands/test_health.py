"""`aiopype health`, towards real web servers in threads of their own."""

import asyncio
import contextlib
import os
import socket
import threading
import time

import pytest
from click.testing import CliRunner

from aiopype import cli
from aiopype.commands import health as command
from aiopype.health import Health, Problem
from aiopype.metrics import Metrics
from aiopype.web import OfWorker, WebServer

TOKEN = "sesame"


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("AIOPYPE_")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def worker_health():
    return Health("quotes")


@pytest.fixture
def serve(worker_health):
    """Runs a server until the test ends; returns where it listens."""
    with contextlib.ExitStack() as opened:

        def start(host="127.0.0.1", token=None):
            server = WebServer(host, 0, OfWorker(worker_health, Metrics()), token)
            loop = asyncio.new_event_loop()
            loop.run_until_complete(server.start())
            thread = threading.Thread(target=loop.run_forever)
            thread.start()

            def stop():
                loop.call_soon_threadsafe(loop.stop)
                thread.join()
                loop.run_until_complete(server.stop())
                loop.close()

            opened.callback(stop)
            return server.address

        yield start


@pytest.fixture
def ask(monkeypatch):
    """Runs `aiopype health`; returns status and output."""

    def run(*arguments, address="", **variables):
        port = address.rpartition(":")[2]
        if port.isdigit():
            variables["WEB_PORT"] = port
        for name, value in variables.items():
            monkeypatch.setenv(f"AIOPYPE_{name}", value)
        result = CliRunner().invoke(cli.main, ["health", *arguments])
        return result.exit_code, result.output

    return run


def test_a_worker_that_is_live_is_status_0(serve, ask):
    assert ask("live", address=serve()) == (0, "the event loop answers\n")


def test_a_worker_that_is_ready_is_status_0(serve, ask):
    assert ask("ready", address=serve()) == (0, "ready\n")


def test_a_worker_that_is_not_ready_is_status_1_and_a_line_a_reason(serve, ask, worker_health):
    worker_health.add("broker", lambda: Problem("no broker answers", 1e9))
    worker_health.add("worker", lambda: Problem("it stops", 1e9))

    assert ask("ready", address=serve()) == (
        1,
        "broker: no broker answers, since 2001-09-09T01:46:40.000+00:00\n"
        "worker: it stops, since 2001-09-09T01:46:40.000+00:00\n",
    )


def test_without_a_word_it_asks_whether_it_is_ready(serve, ask, worker_health):
    worker_health.add("broker", lambda: Problem("no broker answers", 1e9))

    assert ask(address=serve())[0] == 1


@pytest.mark.parametrize(
    ("token", "answer"),
    [
        (TOKEN, "broker: no broker answers, since 2001-09-09T01:46:40.000+00:00\n"),
        (None, "not ready\n"),
        ("wrong", "401: send `Authorization: Bearer` with the token of AIOPYPE_WEB_TOKEN\n"),
    ],
)
def test_the_reasons_are_for_who_has_the_token(serve, ask, worker_health, token, answer):
    worker_health.add("broker", lambda: Problem("no broker answers", 1e9))
    given = {} if token is None else {"WEB_TOKEN": token}

    assert ask("ready", address=serve(token=TOKEN), **given) == (1, answer)


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_a_worker_that_listens_everywhere_is_asked_on_loopback(serve, ask, host):
    assert ask("live", address=serve(host=host), WEB_HOST=host)[0] == 0


def test_a_worker_on_a_unix_socket_is_asked_there(serve, ask):
    assert ask("live", address=serve(host="unix:socket"), WEB_HOST="unix:socket")[0] == 0


def test_the_port_of_the_command_line_comes_first(serve, ask):
    port = serve().rpartition(":")[2]

    assert ask("live", "--web-port", port, WEB_PORT="1")[0] == 0


def test_a_worker_that_is_not_there_is_status_1(ask):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

    status, output = ask("live", WEB_PORT=str(port))

    assert status == 1
    assert output.startswith(f"Error: no worker answers at 127.0.0.1:{port}: ConnectionRefused")


@pytest.mark.parametrize("says", [b"", b"SSH-2.0-OpenSSH\r\n"], ids=["nothing", "something else"])
def test_who_does_not_answer_in_time_or_is_no_worker_is_status_1(ask, monkeypatch, says):
    monkeypatch.setattr(command, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept():
            with listening.accept()[0] as connection:
                connection.sendall(says)
                time.sleep(0.4)

        thread = threading.Thread(target=accept)
        thread.start()
        status, output = ask("live", WEB_PORT=str(listening.getsockname()[1]))
        thread.join()

    assert status == 1
    assert "no worker answers at 127.0.0.1:" in output


def test_a_worker_that_listens_nowhere_cannot_be_asked(ask):
    assert ask("live", WEB_PORT="0") == (1, "Error: the port is 0: the worker answers nowhere\n")


def test_it_loads_no_web_framework(python):
    result = python(
        "-c", "import sys, aiopype.cli; print([n for n in sys.modules if '.' not in n])"
    )

    assert result.returncode == 0, result.stderr
    for heavy in ("aiohttp", "faust", "prometheus_client"):
        assert f"'{heavy}'" not in result.stdout
