"""A real Prometheus of a test's own, and its queries."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Prometheus", "free_ports"]

CONFIGURATION = """
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%s]
scrape_configs:
  - job_name: aiopype
    file_sd_configs: [{files: [targets.json]}]
"""


def free_ports(count: int) -> list[int]:
    """Return ports that are free, and that the system gives to no client meanwhile."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


class Prometheus:
    """Scrapes once a second.

    Arguments:
        program: the executable.
        folder: for its data; it stays when this is over.
        port: that it answers on, on loopback.
        rules: a file of alerts.
    """

    def __init__(self, program: Path, folder: Path, port: int, rules: Path) -> None:
        self._folder = folder
        self._url = f"http://127.0.0.1:{port}/api/v1"
        folder.mkdir(parents=True)
        (folder / "prometheus.yml").write_text(CONFIGURATION % rules)
        self.scrape({})
        with (folder / "log.txt").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--log.level=warn",
                ],
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return (self._folder / "log.txt").read_text()

    def is_up(self) -> bool:
        try:
            self.series("vector(1)")
        except OSError:
            return False
        return True

    def scrape(self, ports: Mapping[str, int]) -> None:
        """Scrape these ports of this machine from now on; the names become `instance`."""
        targets = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": name}}
            for name, port in ports.items()
        ]
        new = self._folder / "targets.new"
        new.write_text(json.dumps(targets))
        new.rename(self._folder / "targets.json")

    def series(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Return what a query gives now: labels and value of each series."""
        found = self._ask("query", query=query)
        return [(one["metric"], float(one["value"][1])) for one in found]

    def value(self, query: str) -> float | None:
        """Return the value of the only series; None without one."""
        found = self.series(query)
        assert len(found) < 2, f"{query} has {len(found)} series: {found}"
        return found[0][1] if found else None

    def range(self, query: str, begin: float, end: float, step: float) -> list[Any]:
        """Return what a query gave from `begin` to `end`, by series."""
        found: list[Any] = self._ask("query_range", query=query, start=begin, end=end, step=step)
        return found

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, path: str, **arguments: object) -> Any:
        url = f"{self._url}/{path}?{urllib.parse.urlencode(arguments)}"
        for left in (2, 1, 0):
            try:
                with urllib.request.urlopen(url, timeout=20) as answer:
                    return json.load(answer)["data"]["result"]
            except urllib.error.HTTPError as error:
                with error:
                    text = error.read().decode()
                if error.code != 503 or not left:  # 503: it is not ready yet
                    raise AssertionError(f"{arguments}: {error.code}: {text}") from error
                time.sleep(0.5)
        raise AssertionError("not reached")
