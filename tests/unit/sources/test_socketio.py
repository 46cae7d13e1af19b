import asyncio
import json
import tracemalloc

import aiohttp
import pytest
from engineio.base_client import connected_clients

from aiopype import SyncProtocol
from aiopype.clock import SYSTEM_CLOCK
from aiopype.errors import CircuitOpen, ConfigurationError, SourceSilent, StateCorrupt
from aiopype.inputs import RawInput
from aiopype.silence import run_unless_silent
from aiopype.sources import SocketIOSource, socketio, socketio_session
from aiopype.sources.connections import ConnectionLost
from aiopype.sources.socketio import SocketIOEvent, SocketIOOptions

from .socketio_server import RawServer, RealServer

QUICK = {"first_delay_seconds": 0.001, "last_delay_seconds": 0.002}


@pytest.fixture
async def server():
    async with RealServer().running() as server:
        yield server


@pytest.fixture
async def raw_server(monkeypatch):
    """Starts a server that follows a script; sources do not wait long for its leave."""
    monkeypatch.setattr(socketio_session, "END_SECONDS", 0.1)
    stack = []

    async def start(script, **options):
        running = RawServer(script, **options).running()
        stack.append(running)
        return await running.__aenter__()

    yield start
    for running in stack:
        await running.__aexit__(None, None, None)


@pytest.fixture
def got():
    """What a source emitted, by event."""
    return {}


@pytest.fixture
async def listening(collector, got):
    """Starts a source; returns its task, which has the source."""
    tasks = []

    def start(url, cls=SocketIOSource, protocol=None, run=None, **options):
        protocol = protocol or SyncProtocol()
        source = cls("m.source", protocol, url, {**QUICK, **options})
        for event in (*source.events, "error", "mine"):
            taking = collector(f"m.{event}", protocol)
            taking.got = got.setdefault(event, [])
            source.on(event, taking.take)
        tasks.append(asyncio.create_task(run(source) if run else source.start()))
        tasks[-1].source = source
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert connected_clients == []


def sends(*frames):
    """Returns a script that lets the client join, sends these, and listens."""

    async def script(server, websocket):
        await server.join(websocket)
        for frame in frames:
            await (websocket.send_bytes if isinstance(frame, bytes) else websocket.send_str)(frame)
        await server.listen(websocket)

    return script


# --- events


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]])
async def test_what_the_server_emits_is_emitted(server, listening, got, until, transports):
    listening(server.url, transports=transports)
    await until(lambda: got["connected"])

    await server.io.send({"a": 1})
    await server.io.emit("price", ("AAPL", 1.5))
    await server.io.emit("beat")

    await until(lambda: len(got["event"]) == 2)
    assert got["connected"] == [()]
    assert got["message"] == [({"a": 1},)]
    assert got["event"] == [("price", "AAPL", 1.5), ("beat",)]
    assert got["gap"] == got["disconnected"] == []


async def test_order_is_kept(server, listening, got, until):
    listening(server.url)
    await until(lambda: got["connected"])

    for number in range(500):
        await server.io.emit("number", number)

    await until(lambda: len(got["event"]) == 500)
    assert got["event"] == [("number", number) for number in range(500)]


async def test_bytes_are_emitted_in_base64(server, listening, got, until):
    listening(server.url)
    await until(lambda: got["connected"])

    await server.io.emit("picture", ({"name": "a", "data": b"\x00\xff"}, b"abc"))

    await until(lambda: got["event"])
    assert got["event"] == [("picture", {"name": "a", "data": "AP8="}, "YWJj")]


async def test_only_the_events_that_are_named_are_taken(server, listening, got, until):
    listening(server.url, events=["price"])
    await until(lambda: got["connected"])

    await server.io.emit("noise", 1)
    await server.io.emit("price", 2)

    await until(lambda: got["event"])
    assert got["event"] == [("price", 2)]


async def test_each_namespace_is_joined_with_the_same_auth(server, listening, got, until):
    listening(server.url, namespaces=["/", "/b"], auth={"token": "t"}, headers={"X-Mine": "1"})
    await until(lambda: got["connected"])

    await server.io.emit("price", 1, namespace="/b")

    await until(lambda: got["event"])
    assert [(namespace, auth) for namespace, _, _, auth in server.connected] == [
        ("/", {"token": "t"}),
        ("/b", {"token": "t"}),
    ]
    assert server.connected[0][2]["HTTP_X_MINE"] == "1"


async def test_hooks_see_the_event(server, listening, got, until):
    class Routed(SocketIOSource):
        def key_of(self, event):
            return event.args[0]

        async def publish(self, event, key):
            await self.emit_async("mine", event.namespace, event.name, key, key=key)

    listening(server.url, Routed, namespaces=["/", "/b"])
    await until(lambda: got["connected"])

    await server.io.emit("price", "AAPL", namespace="/b")

    await until(lambda: got["mine"])
    assert got["mine"] == [("/b", "price", "AAPL")]


async def test_headers_and_auth_may_be_made_for_each_connection(server, listening, got, until):
    class Authorized(SocketIOSource):
        calls = 0

        async def headers(self):
            self.calls += 1
            return {"X-Call": str(self.calls)}

        async def auth(self):
            return {"call": self.calls}

    listening(server.url, Authorized)
    await until(lambda: got["connected"])
    server.drop()

    await until(lambda: len(got["connected"]) == 2)
    assert [(environ["HTTP_X_CALL"], auth) for _, _, environ, auth in server.connected] == [
        ("1", {"call": 1}),
        ("2", {"call": 2}),
    ]


async def test_the_session_to_connect_with_may_be_another(server, listening, got, until):
    class Proxied(SocketIOSource):
        def open_session(self):
            return aiohttp.ClientSession(headers={"X-Session": "mine"})

    listening(server.url, Proxied)

    await until(lambda: got["connected"])
    assert server.connected[0][2]["HTTP_X_SESSION"] == "mine"


# --- to the server


async def test_subscriptions_are_sent_at_each_connection(server, listening, got, until):
    listening(server.url, subscribe=[["join", {"room": "a"}], ["ready"]])
    await until(lambda: len(server.got) == 2)
    server.drop()

    await until(lambda: len(server.got) == 4)
    assert server.got == [("/", "join", {"room": "a"}), ("/", "ready")] * 2


async def test_on_connect_may_send_to_any_namespace_before_the_subscriptions(
    server, listening, until
):
    class Greeting(SocketIOSource):
        async def on_connect(self):
            await self.socket.send("hello", b"\x00", {"deep": b"\x01"}, namespace="/b")

    listening(server.url, Greeting, namespaces=["/", "/b"], subscribe=[["join"]])

    await until(lambda: len(server.got) == 2)
    assert server.got == [("/b", "hello", b"\x00", {"deep": b"\x01"}), ("/", "join")]


async def test_an_event_is_acknowledged_when_it_is_durable(server, listening, got, until):
    flushed = []

    class Flushing(SocketIOSource):
        async def flush(self):
            flushed.append(len(got["event"]))
            await super().flush()

    acknowledged = []

    async def noted(*args):
        acknowledged.append((args, list(flushed)))

    listening(server.url, Flushing)
    await until(lambda: got["connected"])
    await server.io.emit("price", 1, to=server.connected[0][1], callback=noted)

    await until(lambda: acknowledged)
    assert acknowledged == [((), [1])]


async def test_many_events_are_acknowledged_together(raw_server, listening, got, until):
    flushes = []

    class Flushing(SocketIOSource):
        async def flush(self):
            flushes.append(len(got["event"]))
            await asyncio.sleep(0.01)  # meanwhile others come

    server = await raw_server(sends(*[f'42{n}["price",{n}]' for n in range(250)]))
    listening(server.url, Flushing)

    await until(lambda: len(server.got) == 250)
    assert server.got == [f"43{n}[]" for n in range(250)]
    assert len(flushes) < 50


async def test_acknowledging_can_be_left_out(raw_server, listening, got, until):
    server = await raw_server(sends('431["odd"]', '427["price",1]', '42["price",2]', "2"))
    listening(server.url, acknowledge=False)

    await until(lambda: "3" in server.got)
    assert server.got == ["3"]  # the pong


# --- what cannot be used

UNUSABLE = {
    "no JSON": '42["price",',
    "no array": '42{"a":1}',
    "an empty array": "42[]",
    "no name": "42[1,2]",
    "an unknown type": "49[]",
    "an array of nothing known": '4["a"]',
    "half a character": '42["price","\\ud800"]',
    "too deep": "42" + "[" * 100_000,
    "bytes from nowhere": b"\x01\x02",
    "an id without end": "42" + "1" * 200 + '["a"]',
}


@pytest.mark.parametrize("frame", UNUSABLE.values(), ids=UNUSABLE)
async def test_what_is_no_event_is_a_dead_letter_and_the_next_one_is_taken(
    raw_server, listening, got, until, frame
):
    server = await raw_server(sends(frame, '42["price",1]'))
    listening(server.url)

    await until(lambda: got["event"])
    assert got["event"] == [("price", 1)]
    [(letter,)] = got["error"]
    assert letter["error"] == "aiopype.errors.CodecError"
    assert letter["message"].startswith("no packet of Socket.IO: ")
    assert letter["value_bytes"] > 0


async def test_a_text_in_place_of_an_attachment_is_a_dead_letter(raw_server, listening, got, until):
    attached = '451-["price",{"_placeholder":true,"num":0}]'
    wrong = '451-["price",{"_placeholder":true,"num":7}]'
    server = await raw_server(
        sends(attached, '42["price",1]', wrong, b"a", attached, b"b", '42["price",2]')
    )
    listening(server.url)

    await until(lambda: len(got["event"]) == 2)
    assert got["event"] == [("price", "Yg=="), ("price", 2)]
    assert len(got["error"]) == 2


async def test_an_event_that_a_hook_cannot_read_is_a_dead_letter(server, listening, got, until):
    class Keyed(SocketIOSource):
        def key_of(self, event):
            return event.args[0]["symbol"]

    listening(server.url, Keyed)
    await until(lambda: got["connected"])
    await server.io.emit("price", {})
    await server.io.emit("price", {"symbol": "A"})

    await until(lambda: got["event"])
    assert got["event"] == [("price", {"symbol": "A"})]
    assert got["error"][0][0]["error"] == "KeyError"


async def test_what_came_can_be_recorded_and_taken_again(server, listening, got, until, recorder):
    raws = []
    task = listening(server.url)
    task.source.tap = lambda _, raw: raws.append(raw)
    await until(lambda: got["connected"])
    await server.io.emit("price", 1)
    await until(lambda: got["event"])

    again = SocketIOSource("m.source", recorder, server.url)
    for raw in raws:
        await again.take(raw)

    assert [raw.kind for raw in raws] == ["connected", "frame"]
    assert raws[1].data == b'["price",1]'
    assert [(name, value) for _, name, _, value in recorder.sent] == [
        ("m.source.connected", b"[]"),
        ("m.source.event", b'["price",1]'),
    ]


# --- gaps


async def test_the_time_without_a_connection_is_a_gap(server, listening, got, until):
    listening(server.url)
    await until(lambda: got["connected"])
    await server.io.emit("price", 1)
    await until(lambda: got["event"])
    server.drop()

    await until(lambda: got["gap"])
    assert len(got["disconnected"]) == 1
    [(gap,)] = got["gap"]
    assert gap["from"] < gap["to"]
    assert gap["filled"] is False
    assert gap["reason"] == got["disconnected"][0][0]


async def test_another_worker_knows_the_gap_too(server, listening, got, until):
    protocol = SyncProtocol()
    first = listening(server.url, protocol=protocol)
    await until(lambda: got["connected"])
    await server.io.emit("price", 1)
    await until(lambda: got["event"])
    first.cancel()
    await asyncio.wait([first])
    other = SyncProtocol()
    other.checkpoint("m.source", protocol.position("m.source"))
    listening(server.url, protocol=other)

    await until(lambda: got["gap"])
    place = json.loads(protocol.position("m.source"))
    assert got["gap"][0][0]["from"] == place["at"]
    assert got["disconnected"] == []


async def test_a_back_fill_comes_before_what_is_live(server, listening, got, until):
    class Filling(SocketIOSource):
        def position_of(self, event):
            return event.args[0]

        async def backfill(self, gap):
            await server.io.emit("number", 4)
            for number in range(gap.position, 4):
                yield SocketIOEvent("number", [number])

    listening(server.url, Filling)
    await until(lambda: got["connected"])
    await server.io.emit("number", 1)
    await until(lambda: got["event"])
    server.drop()

    await until(lambda: len(got["event"]) == 4)
    assert got["event"] == [("number", number) for number in (1, 2, 3, 4)]
    assert got["gap"][0][0]["filled"] is True


# --- connections that end


async def ends_namespace(server, websocket):
    await server.join(websocket)
    await websocket.send_str("41")
    await server.listen(websocket)


async def refuses(server, websocket):
    await websocket.receive()
    await websocket.send_str('44{"message":"not you"}')
    await server.listen(websocket)


async def never_lets_in(server, websocket):
    await server.listen(websocket)


async def goes(server, websocket):
    await websocket.close()


async def is_too_large(server, websocket):
    await sends('42["price","' + "x" * 2_000 + '"]')(server, websocket)


async def attaches_too_much(server, websocket):
    frames = ['459999999-["price"]', *[b"x" * 100] * 100]
    await sends(*frames)(server, websocket)


async def is_silent(server, websocket):
    await server.join(websocket)
    await server.closing.wait()


ENDINGS = {
    ends_namespace: "the server ended namespace '/'",
    refuses: "the server refused namespace '/': not you",
    never_lets_in: "it was not ready in 0.1 s",
    goes: "Server sent close packet",
    is_too_large: "exceeds",
    attaches_too_much: "the attachments of an event have .* bytes; `largest_bytes` is 1,000",
    is_silent: "no ping of the server in time",
}


@pytest.mark.parametrize(("script", "reason"), ENDINGS.items(), ids=lambda x: str(x)[:30])
async def test_a_lost_connection_is_an_error_and_made_again(
    raw_server, listening, got, script, reason
):
    server = await raw_server(script, ping_seconds=0.05, timeout_seconds=0.05)
    task = listening(
        server.url,
        exception_threshold=2,
        connect_seconds=0.1,
        largest_bytes=1_000,
        heartbeat_timeout=0.05,
    )

    with pytest.raises(
        CircuitOpen, match=f"2 errors in a row, the last: ConnectionLost: .*{reason}"
    ):
        await asyncio.wait_for(task, 10)
    assert server.connections == 2


async def test_a_refused_handshake_is_told_with_its_status(listening, server):
    task = listening(server.url, path="elsewhere", exception_threshold=2)

    with pytest.raises(CircuitOpen, match="the handshake was refused with status 404"):
        await asyncio.wait_for(task, 10)


@pytest.mark.parametrize(
    ("transport", "reason"),
    [("websocket", "ClientConnectorError"), ("polling", "ConnectionError: Cannot connect")],
)
async def test_a_server_that_is_not_there_is_an_error(
    listening, unused_tcp_port, transport, reason
):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    task = listening(url, exception_threshold=2, transports=[transport])

    with pytest.raises(CircuitOpen, match=reason):
        await asyncio.wait_for(task, 10)


async def test_a_poll_that_is_too_large_is_not_read(server, listening, got):
    async def flood(namespace, sid):
        await server.io.emit("price", "x" * 200_000, to=sid)

    server.on_connect = flood
    task = listening(
        server.url, transports=["polling"], largest_bytes=100_000, exception_threshold=2
    )

    with pytest.raises(CircuitOpen, match="Unexpected packet from server"):
        await asyncio.wait_for(task, 10)
    assert got["event"] == []


async def test_a_connection_that_has_died_is_closed(raw_server):
    server = await raw_server(is_silent, ping_seconds=0.05)
    options = SocketIOOptions(heartbeat_timeout=0.05)
    async with aiohttp.ClientSession() as http:
        session = socketio_session.Session(options, SYSTEM_CLOCK, http)
        try:
            await session.open(server.url, {}, None)
            await session.joined()
            with pytest.raises(ConnectionLost, match="no ping of the server in time"):
                await session.read()
        finally:
            await session.close()

    assert session._engine.ws.closed


async def test_nothing_from_the_server_but_pings_is_silence(raw_server, listening):
    async def pings(server, websocket):
        await server.join(websocket)
        while True:
            await websocket.send_str("2")
            await asyncio.sleep(0.01)

    server = await raw_server(pings)
    task = listening(server.url, run=run_unless_silent, expect_every=0.2)

    with pytest.raises(SourceSilent):
        await asyncio.wait_for(task, 10)


async def test_a_cancelled_source_takes_leave_and_leaves_no_task(server, listening, got, until):
    before = asyncio.all_tasks()
    task = listening(server.url)
    await until(lambda: got["connected"])

    task.cancel()
    await asyncio.wait([task], timeout=5)

    assert task.cancelled()
    await until(lambda: not server.io.eio.sockets)
    await until(lambda: {t for t in asyncio.all_tasks() - before if "aiopype" in repr(t)} <= {task})
    assert connected_clients == []


# --- pressure


async def test_a_flood_is_read_no_faster_than_it_is_taken(raw_server, listening, got, until):
    gate = asyncio.Event()

    class Standing(SocketIOSource):
        async def publish(self, event, key):
            if len(got["event"]) >= 1_000:
                await gate.wait()
            await super().publish(event, key)

    async def flood(server, websocket):
        await server.join(websocket)
        frame = f'42["price",{json.dumps("x" * 500)}]'
        while not server.closing.is_set():
            await websocket.send_str(frame)
            server.sent += 1

    server = await raw_server(flood)
    task = listening(server.url, Standing)
    await until(lambda: len(got["event"]) == 1_000)

    tracemalloc.start()
    try:
        before = -1
        while before != server.sent:  # until the server is held up
            before = server.sent
            await asyncio.sleep(0.05)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000

    gate.set()
    await until(lambda: len(got["event"]) > before)
    assert not task.done()


async def test_what_comes_before_all_namespaces_are_joined_is_not_lost(
    raw_server, listening, got, until
):
    async def script(server, websocket):
        for _ in range(2):
            await websocket.receive()
        await websocket.send_str('40{"sid":"n"}')
        for number in range(300):
            await websocket.send_str(f'42["number",{number}]')
        await websocket.send_str('40/b,{"sid":"n"}')
        await server.listen(websocket)

    server = await raw_server(script)
    listening(server.url, namespaces=["/", "/b"])

    await until(lambda: len(got["event"]) == 300)
    assert got["event"] == [("number", number) for number in range(300)]


async def test_that_is_bounded_too(raw_server, listening):
    async def script(server, websocket):
        frame = f'42["number","{"x" * 1_000_000}"]'
        for _ in range(30):
            await websocket.send_str(frame)
        await server.listen(websocket)

    server = await raw_server(script)
    task = listening(server.url, exception_threshold=1)

    with pytest.raises(CircuitOpen, match="too much came before all namespaces were joined"):
        await asyncio.wait_for(task, 10)


# --- options


def test_without_the_extra_it_says_what_to_install(recorder, monkeypatch):
    monkeypatch.setattr(socketio, "find_spec", lambda _: None)

    with pytest.raises(
        ConfigurationError, match=r"'m.source' needs python-socketio: pip install 'aiopype\[soc"
    ):
        SocketIOSource("m.source", recorder, "http://127.0.0.1/")


def test_the_library_is_not_loaded_with_the_sources(python):
    code = "import sys, aiopype.sources; print({'socketio', 'engineio'} & set(sys.modules))"

    assert python("-W", "error", "-c", code).stdout == "set()\n"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("namespaces", []),
        ("namespaces", ["b"]),
        ("namespaces", ["/b?token=1"]),
        ("transports", []),
        ("transports", ["webtransport"]),
        ("subscribe", [[]]),
        ("subscribe", ["join"]),
        ("largest_bytes", 0),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(recorder, option, value):
    with pytest.raises(ConfigurationError, match=f"'m.source': {option}="):
        SocketIOSource("m.source", recorder, "http://127.0.0.1/", {option: value})


def test_a_position_of_another_source_is_refused(recorder):
    recorder.positions["m.source"] = b'"7"'
    source = SocketIOSource("m.source", recorder, "http://127.0.0.1/", SocketIOOptions())

    with pytest.raises(StateCorrupt):
        asyncio.run(source.start())


def test_its_events_have_topics_from_the_start(recorder):
    SocketIOSource("m.source", recorder, "http://127.0.0.1/")

    names = {"connected", "disconnected", "event", "gap", "message"}
    assert {topic.name for topic in recorder.graph.topics()} == {f"m.source.{n}" for n in names}


async def test_a_raw_input_of_a_user_may_leave_out_the_namespace(recorder):
    source = SocketIOSource("m.source", recorder, "http://127.0.0.1/")

    await source.take(RawInput("frame", b'["message",1]', 0.0))

    assert recorder.sent == [("emit_async", "m.source.message", None, b"[1]")]
