"""A password, a token and a client's secret are shown nowhere, whatever the level of the log."""

from __future__ import annotations

import base64
import gzip
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from .secured_kafka import PASSWORD, SecuredKafka, token
from .test_security import PROGRAM, with_token

pytestmark = pytest.mark.kafka

#: Logs all there is to log, and fails for Sentry to hear of it.
TALKATIVE = """
    import logging
    import sys
    from aiopype.errors import PermanentError
    log = logging.getLogger()
    log.addHandler(logging.StreamHandler(sys.stderr))
    for name in (None, "aiokafka", "aiokafka.conn", "aiohttp", "asyncio", "faust", "mode"):
        logging.getLogger(name).setLevel(1)
""" + PROGRAM.replace('print("took", n)', 'raise PermanentError("for Sentry")')


class Sentry:
    """Takes reports, and keeps what they say."""

    def __init__(self) -> None:
        self.reports: list[str] = []
        told = self.reports

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                told.append(body.decode())
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://key@127.0.0.1:{self.server.server_port}/1"


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    found = Sentry()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


def forms(secret: str) -> list[str]:
    """How the beginning of a secret may look when it is shown; aiokafka cuts what is long."""
    begin = secret[:60]
    encoded = base64.b64encode(begin.encode()).decode().rstrip("=")
    return [begin, encoded[:-1], begin.encode().hex()]


def shown(text: str, secret: str) -> list[str]:
    return [line for line in text.splitlines() if any(form in line for form in forms(secret))]


@pytest.mark.parametrize("mechanism", ["PLAIN", "OAUTHBEARER"])
def test_no_log_report_or_command_shows_a_secret(
    secured: SecuredKafka,
    start: Any,
    wait_until: Any,
    sentry: Sentry,
    tmp_path: Path,
    mechanism: str,
) -> None:
    name = f"silent-{mechanism.lower()}"
    if mechanism == "PLAIN":
        secret, environ = PASSWORD, secured.login("LOGIN")
    else:
        secret = token()
        (tmp_path / "token").write_text(secret)
        environ = with_token(secured, tmp_path / "token", "LOGIN")
    environ |= {"AIOPYPE_SENTRY_DSN": sentry.dsn, "PYTHONASYNCIODEBUG": "1"}
    program = start(
        TALKATIVE.format(name=name),
        command=("-m", "aiopype", "run", "program.py"),
        **environ,
    )
    wait_until(lambda: sentry.reports, seconds=60, what=program)
    asked = [
        start(
            TALKATIVE.format(name=name),
            command=("-m", "aiopype", *command, "program.py"),
            **environ,
        )
        for command in (("config",), ("config", "--json"), ("graph",), ("status", "--json"))
    ]
    for process in asked:
        process.wait(60)
    program.send(signal.SIGTERM)
    assert program.wait(30) == 0

    assert "Request to 127.0.0.1" in program.text  # it was as talkative as can be
    assert "sasl_mechanism" in asked[0].text
    assert any("for Sentry" in report for report in sentry.reports)
    for text in (program.text, *(process.text for process in asked), *sentry.reports):
        assert shown(text, secret) == []


def test_a_login_that_fails_is_reported_without_its_password(
    secured: SecuredKafka, start: Any, sentry: Sentry
) -> None:
    program = start(
        TALKATIVE.format(name="refused"),
        command=("-m", "aiopype", "run", "program.py"),
        **secured.login("LOGIN", sasl_password="mistaken-battery", sentry_dsn=sentry.dsn),
    )
    assert program.wait(60) == 1
    assert "refuses the login of 'me'" in program.text
    assert sentry.reports
    for text in (program.text, *sentry.reports):
        assert shown(text, "mistaken-battery") == []


def test_what_looks_for_secrets_finds_them() -> None:
    for form in forms(PASSWORD):
        assert shown(f"first\nRequest: auth={form}\nlast", PASSWORD) == [f"Request: auth={form}"]
