"""What a `WebsocketSource` does about servers, networks and pipelines that are not well."""

import asyncio
import itertools
import json
import socket
import time
import tracemalloc
from contextlib import asynccontextmanager

import pytest

from aiopype.errors import CircuitOpen, StateCorrupt
from aiopype.sources.websocket import WebsocketSource

from .websocket_servers import (
    QUICK,
    QuickClock,
    Server,
    breaks,
    closes,
    emitted,
    freezes,
    messages,
    names,
    running,
    sends,
    stays,
)

#: A connection that is dead is found in a quarter of a second.
WATCHFUL = {"ping_interval": 0.1, "heartbeat_timeout": 0.15}


@pytest.fixture
def follow(recorder):
    """Makes a source that follows a server, with a clock that does not wait."""

    def make(url, cls=WebsocketSource, **options):
        source = cls("m.feed", recorder, url, QUICK | options)
        source.clock = QuickClock()
        return source

    return make


@pytest.fixture
def gate(recorder):
    """Open: the pipeline takes messages. Closed: it does not."""
    gate = asyncio.Event()
    gate.set()
    take = recorder.emit_async

    async def emit_async(topic, key, value):
        if topic.event == "message":
            await gate.wait()
        await take(topic, key, value)

    recorder.emit_async = emit_async
    return gate


@asynccontextmanager
async def raw_server(answer):
    """A server that speaks no websocket: `answer(reader, writer)` for each connection."""

    async def handle(reader, writer):
        calls.append(await reader.readuntil(b"\r\n\r\n"))
        await answer(reader, writer)
        writer.close()

    calls = []
    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", calls


def tasks():
    return {task.get_name() for task in asyncio.all_tasks()}


def reasons(recorder):
    return [reason for (reason,) in emitted(recorder, "disconnected")]


# --- connections that end


async def test_a_connection_that_breaks_off_is_made_again(follow, recorder, until):
    async with (
        Server(sends({"n": 1}, then=breaks), sends({"n": 2})).running() as server,
        running(follow(server.url)),
    ):
        await until(lambda: len(messages(recorder)) == 2)

    assert names(recorder) == [
        "connected", "message", "disconnected", "connected", "gap", "message",
    ]  # fmt: skip
    assert reasons(recorder) == ["it broke off without a close frame (1006)"]


async def test_what_came_before_the_end_of_a_connection_is_emitted(follow, recorder, gate, until):
    gate.clear()
    many = [{"n": n} for n in range(50)]
    async with (
        Server(sends(*many, then=closes), stays).running() as server,
        running(follow(server.url)),
    ):
        await until(lambda: server.connections and server.connections[0].close_code)
        gate.set()
        await until(lambda: len(server.connections) == 2)

    assert messages(recorder) == many


async def test_a_frozen_server_is_found_by_a_ping(recorder, until):
    async with Server(sends({"n": 1}, then=freezes), stays).running() as server:
        source = WebsocketSource("m.feed", recorder, server.url, QUICK | WATCHFUL)
        began = time.monotonic()
        async with running(source):
            await until(lambda: len(server.connections) == 2)

    assert time.monotonic() - began < 1
    assert reasons(recorder) == ["no answer to a ping in 0.15 s"]


async def test_a_server_that_is_only_quiet_keeps_its_connection(recorder, until):
    async with Server(stays).running() as server:
        source = WebsocketSource("m.feed", recorder, server.url, QUICK | {"ping_interval": 0.01})
        async with running(source):
            await asyncio.sleep(0.3)
            assert len(server.connections) == 1
            await server.connections[0].send('{"n": 1}')
            await until(lambda: messages(recorder))

    assert names(recorder) == ["connected", "message"]


async def test_while_the_pipeline_is_slow_silence_says_nothing(recorder, gate, until):
    gate.clear()
    async with Server(sends({"n": 1}, {"n": 2})).running() as server:
        options = QUICK | WATCHFUL | {"heartbeat": "ping", "heartbeat_answer": "pong"}
        source = WebsocketSource("m.feed", recorder, server.url, options, heartbeat_interval=0.05)
        async with running(source):
            await until(lambda: server.received and server.received[0])
            await asyncio.sleep(0.5)
            assert names(recorder) == ["connected"]
            await server.connections[0].send("pong")
            gate.set()
            await until(lambda: len(messages(recorder)) == 2)
            assert len(server.connections) == 1


async def test_a_heartbeat_that_is_not_answered_ends_the_connection(recorder, until):
    async def talks(connection, received):
        while True:
            await connection.send('{"n": 1}')
            await asyncio.sleep(0.001)

    options = QUICK | {"heartbeat": "ping", "heartbeat_answer": "pong", "heartbeat_interval": 0.02}
    async with (
        Server(talks, stays).running() as server,
        running(WebsocketSource("m.feed", recorder, server.url, options)),
    ):
        await until(lambda: len(server.connections) == 2)

    assert reasons(recorder) == ["no answer to the heartbeat in 0.2 s"]


async def test_each_heartbeat_needs_an_answer_of_its_own(recorder, until):
    async def answers_once(connection, received):
        received.append(await connection.recv())
        await connection.send("pong")
        await stays(connection, received)

    options = QUICK | {"heartbeat": "ping", "heartbeat_answer": "pong", "heartbeat_interval": 0.02}
    async with (
        Server(answers_once, stays).running() as server,
        running(WebsocketSource("m.feed", recorder, server.url, options)),
    ):
        await until(lambda: len(server.connections) == 2)

    assert server.received[0] == ["ping", "ping"]
    assert reasons(recorder) == ["no answer to the heartbeat in 0.2 s"]


async def test_a_server_that_takes_nothing_is_found(recorder, until):
    options = QUICK | {"heartbeat": "a" * 1_000_000, "heartbeat_interval": 0.001}
    async with (
        Server(freezes, stays).running() as server,
        running(WebsocketSource("m.feed", recorder, server.url, options)),
    ):
        await until(lambda: len(server.connections) == 2)

    assert reasons(recorder) == ["the other side took nothing for 0.2 s"]


async def test_a_message_that_is_too_large_ends_the_connection(follow, recorder, until):
    fitting, larger = "a" * 8, "a" * 9
    async with (
        Server(sends([fitting], [larger], [1]), sends([2])).running() as server,
        running(follow(server.url, largest_bytes=len(json.dumps([fitting])))),
    ):
        await until(lambda: len(messages(recorder)) == 2)

    assert messages(recorder) == [[fitting], [2]]
    assert "1009" in reasons(recorder)[0] or "exceeds limit" in reasons(recorder)[0]
    assert server.connections[0].close_code == 1009


async def test_a_frame_that_breaks_the_protocol_ends_the_connection(follow, recorder, until):
    async def babbles(connection, received):
        connection.transport.write(b"\xff\xff\xff")
        await stays(connection, received)

    async with (
        Server(babbles, sends([1])).running() as server,
        running(follow(server.url)),
    ):
        await until(lambda: messages(recorder))

    assert "reserved bits" in reasons(recorder)[0]


# --- connections that are not made


async def refused():
    """Return a URL where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"ws://127.0.0.1:{free.getsockname()[1]}"


async def test_where_nobody_listens_the_circuit_opens(follow, recorder, caplog):
    source = follow(
        await refused(), exception_threshold=4, first_delay_seconds=1.0, last_delay_seconds=3.0
    )

    with pytest.raises(CircuitOpen, match=r"4 errors in a row.*Connect"):
        await asyncio.wait_for(source.start(), 5)

    assert [round(seconds / 2**n, 1) for n, seconds in enumerate(source.clock.waited[:2])] == [
        pytest.approx(1, abs=0.21)
    ] * 2
    assert 2.4 <= source.clock.waited[2] <= 3.6
    assert recorder.sent == []
    assert "it connects again in" in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\xff garbage \r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: wrong\r\n\r\n",
        b"",
        b"a" * 100_000,
    ],
    ids=["garbage", "http", "wrong key", "nothing", "endless"],
)
async def test_a_server_that_does_not_shake_hands_is_left_alone(follow, answer):
    async def answers(reader, writer):
        writer.write(answer)

    async with raw_server(answers) as (url, _):
        source = follow(url, exception_threshold=3)
        with pytest.raises(CircuitOpen):
            await asyncio.wait_for(source.start(), 5)

    assert len(source.clock.waited) == 2


async def test_a_server_that_never_answers_is_not_waited_for(follow):
    async def waits(reader, writer):
        await reader.read()

    async with raw_server(waits) as (url, calls):
        source = follow(url, exception_threshold=2, connect_seconds=0.05)
        with pytest.raises(CircuitOpen, match=r"it was not ready in 0.05 s"):
            await asyncio.wait_for(source.start(), 5)

    assert len(calls) == 2


async def test_it_waits_as_long_as_the_server_asks_for(follow, until):
    async def busy(reader, writer):
        writer.write(b"HTTP/1.1 503 Busy\r\nRetry-After: 17\r\nContent-Length: 0\r\n\r\n")

    async with raw_server(busy) as (url, _):
        source = follow(url, exception_threshold=2)
        with pytest.raises(CircuitOpen, match="503"):
            await asyncio.wait_for(source.start(), 5)

    assert source.clock.waited == [17]


async def test_an_on_connect_that_hangs_is_ended(follow):
    class Waiting(WebsocketSource):
        async def on_connect(self):
            await self.websocket.receive()

    async with Server(stays).running() as server:
        source = follow(server.url, Waiting, exception_threshold=2, connect_seconds=0.05)
        with pytest.raises(CircuitOpen, match="not ready"):
            await asyncio.wait_for(source.start(), 5)

    assert len(server.connections) == 2


async def test_a_server_that_closes_at_once_is_an_error(follow, recorder):
    async with Server(closes).running() as server:
        with pytest.raises(CircuitOpen, match=r"3 errors in a row.*1001"):
            await asyncio.wait_for(follow(server.url, exception_threshold=3).start(), 5)

    assert len(server.connections) == 3
    assert names(recorder)[-1] == "disconnected"


async def test_after_a_healthy_connection_it_connects_at_once_and_counts_anew(follow, until):
    async def ages(connection, received):
        await until(lambda: source.websocket)
        source.clock.ahead += 11
        await closes(connection, received)

    async with Server(closes, closes, ages, closes, closes, closes).running() as server:
        source = follow(server.url, exception_threshold=3, first_delay_seconds=0.001)
        with pytest.raises(CircuitOpen):
            await asyncio.wait_for(source.start(), 5)

    assert len(server.connections) == 6
    assert [seconds > 0 for seconds in source.clock.waited] == [True, True, False, True, True]


async def test_connections_and_errors_are_counted(follow, until):
    async with Server(breaks, closes, stays).running() as server:
        source = follow(server.url)
        errors = []
        source.vitals.begin(errors.append)
        async with running(source):
            await until(lambda: len(server.connections) == 3)
            await until(lambda: source.websocket is not None)

    assert (source.vitals.ok, source.vitals.failures, source.vitals.reconnects) == (3, 0, 2)
    assert [type(error).__name__ for error in errors] == ["ConnectionLost", "ConnectionLost"]


async def test_a_healthy_connection_that_is_lost_is_counted_as_an_error_too(follow, until):
    async with Server(closes, stays).running() as server:
        source = follow(server.url, healthy_seconds=1e-9)
        errors = []
        source.vitals.begin(errors.append)
        async with running(source):
            await until(lambda: len(server.connections) == 2 and source.websocket is not None)

    assert len(errors) == 1


async def test_connections_that_are_not_made_are_counted_as_such(follow, unused_tcp_port):
    source = follow(f"ws://127.0.0.1:{unused_tcp_port}/", exception_threshold=3)

    with pytest.raises(CircuitOpen):
        await source.start()

    assert (source.vitals.ok, source.vitals.failures, source.vitals.reconnects) == (0, 3, 0)


async def test_the_position_of_another_kind_of_source_is_refused(follow, recorder):
    recorder.positions["m.feed"] = b"17"

    with pytest.raises(StateCorrupt, match="17"):
        await follow("ws://127.0.0.1:1").start()


# --- back-pressure


async def test_a_server_is_not_read_faster_than_the_pipeline_takes(recorder, gate, until):
    gate.clear()
    block = b"".join(b"\x82\x7e\x04\x00" + b"[%1022d]" % n for n in range(64))
    sent = 0

    async def floods(connection, received):
        nonlocal sent
        while sent < 1_000:
            while connection.transport.get_write_buffer_size() > 65_536:
                await asyncio.sleep(0.001)
            connection.transport.write(block)
            sent += 1
        await stays(connection, received)

    async with (
        Server(floods).running() as server,
        running(WebsocketSource("m.feed", recorder, server.url)),
    ):
        tracemalloc.start()
        try:
            await until(lambda: sent > 1)
            before = None
            while before != sent:
                before = sent
                await asyncio.sleep(0.1)
            held = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert sent < 1_000
    assert held < 4_000_000


async def test_a_flood_and_a_slow_pipeline_lose_nothing_and_keep_their_order(recorder, until):
    count, got, peak = 60_000, [], 0

    async def emit_async(topic, key, value):
        nonlocal peak
        if topic.event == "message":
            got.append(value)
            if len(got) % 200 == 0:
                await asyncio.sleep(0.001)

    recorder.emit_async = emit_async
    frames = [b"\x81\x0c" + b'{"n": %5d}' % n for n in range(count)]

    async def floods(connection, received):
        for start in range(0, count, 500):
            while connection.transport.get_write_buffer_size() > 65_536:
                await asyncio.sleep(0)
            connection.transport.write(b"".join(frames[start : start + 500]))
        await stays(connection, received)

    async with (
        Server(floods).running() as server,
        running(WebsocketSource("m.feed", recorder, server.url)),
    ):
        await until(lambda: len(got) == count)

    assert got == [b'{"n":%d}' % n for n in range(count)]


async def test_others_have_their_turn_while_frames_come_without_end(recorder, until):
    async def floods(connection, received):
        while not connection.transport.is_closing():
            if connection.transport.get_write_buffer_size() < 65_536:
                connection.transport.write(b"\x81\x011" * 10_000)
            await asyncio.sleep(0)

    turns = []

    async def others():
        while True:
            turns.append(len(recorder.sent))
            await asyncio.sleep(0)

    async with (
        Server(floods).running() as server,
        running(WebsocketSource("m.feed", recorder, server.url)),
    ):
        task = asyncio.create_task(others())
        await until(lambda: len(recorder.sent) > 50_000)
        task.cancel()

    assert max(later - turn for turn, later in itertools.pairwise(turns)) < 300


# --- the end


async def test_it_says_goodbye_when_it_is_stopped(follow, until):
    async with Server(stays).running() as server:
        source = follow(server.url)
        async with running(source):
            await until(lambda: source.websocket)
        await until(lambda: server.connections[0].close_code)

    assert server.connections[0].close_code == 1000


async def test_it_stops_while_the_pipeline_does_not_take(follow, recorder, gate, until):
    gate.clear()
    async with Server(sends({"n": 1}, {"n": 2})).running() as server:
        source = follow(server.url)
        async with running(source):
            await until(lambda: source.heard_at and names(recorder) == ["connected"])
        await until(lambda: server.connections[0].close_code)

    assert server.connections[0].close_code == 1000
    assert source.websocket is None


async def test_it_stops_in_time_though_the_server_is_frozen(follow, recorder, gate, until):
    gate.clear()
    async with (
        Server(sends({"n": 1}, {"n": 2}, then=freezes)).running() as server,
        running(follow(server.url)),
    ):
        await until(lambda: server.connections)
        began = time.monotonic()

    assert time.monotonic() - began < 5


async def test_nothing_is_left_running_when_it_is_stopped(follow, until):
    async with Server(stays).running() as server:
        async with running(follow(server.url, heartbeat="ping")):
            await until(lambda: "beside m.feed" in tasks())

        assert not {"beside m.feed", "start"} & tasks()
