"""`aiopype health`: ask a worker's web server, as a container's health check does."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

import click

from aiopype.settings import Settings
from aiopype.settings.values import WEB_PORT

__all__ = ["health"]

#: For the whole answer; a worker under `--workers` that hangs costs the others two seconds.
ANSWER_SECONDS = 5.0

#: Hosts that stand for all addresses of a machine, and how it reaches itself.
_ALL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked, not listened on


@click.command()
@click.argument("what", type=click.Choice(["live", "ready"]), default="ready")
@click.option(
    "--web-port",
    type=click.IntRange(1, 65_535),
    help=f"Where the worker answers, before the setting web_port.  [default: {WEB_PORT}]",
)
def health(what: str, web_port: int | None) -> None:
    """Ask the worker of this machine whether it is live or ready; status 0 is yes.

    Otherwise the status is 1 and the reasons are printed. Host, port and token are those of the
    environment or pyproject.toml (AIOPYPE_WEB_HOST, AIOPYPE_WEB_PORT, AIOPYPE_WEB_TOKEN): the
    flow's own configuration is not read, as its program would run.
    """
    found = Settings.look_up(None, web_port=web_port)
    if found["web_port"].value == 0:
        raise click.ClickException("the port is 0: the worker answers nowhere")
    status, text = _ask(f"/health/{what}", **{name: found[name].value for name in _SETTINGS})
    if status == 200 and what == "ready":
        text = "ready"
    elif status == 503:
        text = _reasons(text)
    click.echo(text.strip())
    raise SystemExit(0 if status == 200 else 1)


_SETTINGS = ("web_host", "web_port", "web_token")


def _ask(path: str, web_host: str, web_port: int | None, web_token: str | None) -> tuple[int, str]:
    """Return status and text of an answer.

    Raises:
        ClickException: there is none.
    """
    host, port = _ALL.get(web_host, web_host), web_port or WEB_PORT
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    try:
        if web_host.startswith("unix:"):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(ANSWER_SECONDS)
            connection.sock.connect(web_host.removeprefix("unix:"))
        headers = {} if web_token is None else {"Authorization": f"Bearer {web_token}"}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        where = web_host if web_host.startswith("unix:") else f"{host}:{port}"
        raise click.ClickException(f"no worker answers at {where}: {error!r}") from error
    finally:
        connection.close()


def _reasons(text: str) -> str:
    """Return a line a problem of a report; the text itself when it is none."""
    try:
        problems: dict[str, Any] = json.loads(text)["problems"]
    except (ValueError, KeyError, TypeError):
        return text
    return "\n".join(
        f"{name}: {problem['reason']}, since {problem['since']}"
        for name, problem in problems.items()
    )
