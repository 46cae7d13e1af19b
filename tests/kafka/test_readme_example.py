"""The example of the README, its blocks as they stand, with only the URL changed."""

from __future__ import annotations

import http.server
import json
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kafka

README = Path(__file__).parents[2] / "README.md"
DEAD = "http://finance.yahoo.com/webservice/v1/symbols/{}/quote?format=json&view=detail"


class Quotes(http.server.BaseHTTPRequestHandler):
    """Answers with another price at every request."""

    prices: list[str]

    def do_GET(self) -> None:
        price = f"{100 + len(self.prices)}.500000"
        self.prices.append(price)
        quote = {"list": {"resources": [{"resource": {"fields": {"price": price}}}]}}
        body = json.dumps(quote).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def quotes() -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (Quotes,), {"prices": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    host, port = server.server_address[:2]
    yield f"http://{host}:{port}/{{}}", handler.prices
    server.shutdown()
    server.server_close()
    thread.join()


def example(url: str) -> str:
    blocks = re.findall(r"```py\n(.*?)```", README.read_text(), re.DOTALL)
    text = "\n\n".join(blocks)
    assert DEAD in text
    return text.replace(DEAD, url)


def rows(folder: Path) -> list[str]:
    file = folder / "yahoo_appl.csv"
    return file.read_text().splitlines() if file.exists() else []


async def test_it_runs_on_kafka(
    quotes: Any,
    kafka: str,
    start: Any,
    read_topic: Any,
    committed: Any,
    wait_until: Any,
    tmp_path: Path,
) -> None:
    url, prices = quotes
    # Asked more often than every 30 s, so that there is more than one price.
    text = example(url).replace("'request_interval': 30", "'request_interval': 0.1")
    program = start(text, file="example.py", AIOPYPE_BROKER=kafka)
    wait_until(lambda: len(prices) >= 5, seconds=30, what=program)
    program.send(signal.SIGTERM)
    assert program.wait(15) == 0
    topic = "yahoo_apple.processor.price"
    records = await read_topic(topic)
    emitted = [json.loads(record.value) for record in records]
    # Every price that was emitted; one that was asked for during the stop may be missing.
    assert [price for _, price in emitted] == prices[: len(emitted)]
    assert len(emitted) >= 4
    # The example's writer opens its file anew for each row, so it has the last that was handled.
    done = await committed("example", topic)
    handled = sum(record.offset < (done[record.partition] or 0) for record in records)
    assert handled >= 3
    assert rows(tmp_path) == [";".join(emitted[handled - 1])]


def test_it_runs_in_process(quotes: Any, start: Any, wait_until: Any, tmp_path: Path) -> None:
    url, prices = quotes
    program = start(
        example(url), file="example.py", command=("-m", "aiopype", "run", "example.py", "--sync")
    )
    wait_until(lambda: rows(tmp_path) and "price" not in rows(tmp_path)[0], what=program)
    program.send(signal.SIGTERM)
    assert program.wait(15) == 0
    assert rows(tmp_path)[0].endswith(f";{prices[0]}")
