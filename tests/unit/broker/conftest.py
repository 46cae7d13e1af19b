"""What the broker's unit tests share; none needs Java or the network."""

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import aiopype.broker


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Waits until the condition holds, for at most ten seconds."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true"
            time.sleep(0.01)

    return wait


@pytest.fixture
def environment() -> dict[str, str]:
    """For a Python child that imports this checkout's package, installed or not."""
    assert aiopype.broker.__file__
    return {**os.environ, "PYTHONPATH": str(Path(aiopype.broker.__file__).parents[2])}


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], str]]:
    """Makes a server that answers each connection's first request, and gives its address."""
    servers: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(server: socket.socket, answer: bytes) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

    def make(answer: bytes) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        threads.append(threading.Thread(target=serve, args=(server, answer)))
        threads[-1].start()
        servers.append(server)
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield make
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
    for thread in threads:
        thread.join()


@pytest.fixture
def metadata() -> Callable[[int, str], bytes]:
    """A broker's answer to the question for its metadata, version 2."""

    def answer(brokers: int, cluster: str = "some-cluster", correlation: int = 1) -> bytes:
        def text(value: str) -> bytes:
            return struct.pack(">h", len(value)) + value.encode()

        broker = struct.pack(">i", 1) + text("127.0.0.1") + struct.pack(">ih", 9092, -1)
        body = struct.pack(">ii", correlation, brokers) + broker * brokers
        body += text(cluster) + struct.pack(">ii", 1, 0)
        return struct.pack(">i", len(body)) + body

    return answer
