import asyncio
import json
import logging

import aiohttp
import pytest

from aiopype.errors import ConfigurationError
from aiopype.inputs import RawInput
from aiopype.sources.websocket import WebsocketOptions, WebsocketSource

from .websocket_servers import (
    QUICK,
    QuickClock,
    Server,
    closes,
    closes_after,
    emitted,
    messages,
    names,
    running,
    sends,
    stays,
    without_time,
)


@pytest.fixture
def follow(recorder):
    """Makes a source that follows a server, of a class if need be."""

    def make(url, cls=WebsocketSource, **options):
        source = cls("m.feed", recorder, url, QUICK | options)
        source.clock = QuickClock()
        return source

    return make


async def test_it_emits_what_the_server_sends_in_order(follow, recorder, until):
    async with (
        Server(sends({"n": 1}, {"n": 2}, [3])).running() as server,
        running(follow(server.url)),
    ):
        await until(lambda: len(messages(recorder)) == 3)

    assert names(recorder)[:1] == ["connected"]
    assert messages(recorder) == [{"n": 1}, {"n": 2}, [3]]


# --- connecting


async def test_subscriptions_are_sent_at_each_connection_in_order(follow, recorder, until):
    sent = ["hello", b"\x01", {"op": "subscribe"}]
    server = Server(sends(then=closes_after(3)), stays)
    async with (
        server.running(),
        running(follow(server.url, subscribe=sent)),
    ):
        await until(lambda: [len(got) for got in server.received] == [3, 3])

    assert server.received == [["hello", b"\x01", '{"op":"subscribe"}']] * 2
    assert names(recorder)[:3] == ["connected", "disconnected", "connected"]


async def test_the_subscriptions_can_come_from_a_hook(follow, until):
    class Resuming(WebsocketSource):
        async def subscribe_messages(self):
            return [{"after": None if self.place is None else self.place.position}]

        def position_of(self, message):
            return message["n"]

    server = Server(sends({"n": 7}, then=closes_after(1)), stays)
    async with (
        server.running(),
        running(follow(server.url, Resuming)),
    ):
        await until(lambda: len(server.received) == 2 and server.received[1])

    assert server.received == [['{"after":null}'], ['{"after":7}']]


async def test_on_connect_can_talk_before_the_subscriptions(follow, recorder, until):
    class LoggedIn(WebsocketSource):
        async def on_connect(self):
            await self.websocket.send({"op": "login"})
            self.answer = await self.websocket.receive()

    async def script(connection, received):
        received.append(await connection.recv())
        await connection.send("welcome")
        received.append(await connection.recv())
        await connection.send('{"n": 1}')
        await stays(connection, received)

    server = Server(script)
    async with server.running():
        source = follow(server.url, LoggedIn, subscribe=["all"])
        async with running(source):
            await until(lambda: messages(recorder))

    assert server.received == [['{"op":"login"}', "all"]]
    assert source.answer == "welcome"
    assert messages(recorder) == [{"n": 1}]


async def test_headers_and_subprotocols_are_offered(follow, until):
    class Token(WebsocketSource):
        async def headers(self):
            return {"Authorization": "Bearer fresh"}

    server = Server(stays)
    async with server.running(subprotocols=["v2"]):
        source = follow(server.url, Token, headers={"X-Client": "a"}, subprotocols=["v3", "v2"])
        async with running(source):
            await until(lambda: server.connections)

    (connection,) = server.connections
    assert connection.request.headers["X-Client"] == "a"
    assert connection.request.headers["Authorization"] == "Bearer fresh"
    assert connection.subprotocol == "v2"


async def test_the_session_can_be_one_of_the_users_own(follow, until):
    class Proxied(WebsocketSource):
        def open_session(self):
            sessions.append(aiohttp.ClientSession(headers={"X-From": "here"}))
            return sessions[-1]

    sessions = []
    async with Server(stays).running() as server, running(follow(server.url, Proxied)):
        await until(lambda: server.connections)

    assert server.connections[0].request.headers["X-From"] == "here"
    assert sessions[0].closed


async def test_the_address_can_be_another_one_each_time(recorder, until):
    class Moving(WebsocketSource):
        async def address(self):
            return server.url + "&call=" + str(len(server.connections))

    server = Server(closes, stays)
    async with server.running():
        source = Moving("m.feed", recorder, options=QUICK)
        source.clock = QuickClock()
        async with running(source):
            await until(lambda: len(server.connections) == 2)

    assert [c.request.path[-7:] for c in server.connections] == ["&call=0", "&call=1"]


@pytest.mark.parametrize("compression", [True, False])
async def test_compression_is_offered_where_it_is_wanted(follow, recorder, until, compression):
    server = Server(sends({"text": "a" * 10_000}))
    async with server.running(compression="deflate"):
        async with running(follow(server.url, compression=compression)):
            await until(lambda: messages(recorder))
        extensions = server.connections[0].protocol.extensions

    assert bool(extensions) is compression
    assert messages(recorder) == [{"text": "a" * 10_000}]


async def test_pings_of_the_server_are_answered(follow, until):
    answered = []

    async def script(connection, received):
        waiter = await connection.ping()
        await waiter
        answered.append(True)
        await stays(connection, received)

    async with (
        Server(script).running() as server,
        running(follow(server.url)),
    ):
        await until(lambda: answered)


async def test_what_is_secret_in_the_url_is_not_logged(follow, until, caplog):
    server = Server(closes, stays)
    with caplog.at_level(logging.DEBUG, logger="aiopype"):
        async with (
            server.running(),
            running(follow(server.url)),
        ):
            await until(lambda: len(server.connections) == 2)

    assert "/feed: the other side closed it with 1001: going away" in caplog.text
    assert "secret" not in caplog.text


# --- messages


async def test_parse_gets_text_as_str_and_binary_as_bytes(follow, recorder, until):
    class Repeating(WebsocketSource):
        def parse(self, frame):
            return repr(frame)

    async with (
        Server(sends("ä", b"\xff")).running() as server,
        running(follow(server.url, Repeating)),
    ):
        await until(lambda: len(messages(recorder)) == 2)

    assert messages(recorder) == ["'ä'", "b'\\xff'"]


async def test_json_is_read_from_binary_frames_too(follow, recorder, until):
    async with (
        Server(sends(b'{"n": 1}')).running() as server,
        running(follow(server.url)),
    ):
        await until(lambda: messages(recorder))

    assert messages(recorder) == [{"n": 1}]


async def test_what_parse_says_is_no_message_is_not_emitted(follow, recorder, until):
    class Picky(WebsocketSource):
        def parse(self, frame):
            message = json.loads(frame)
            return message if "n" in message else None

    async with (
        Server(sends({"ack": True}, {"n": 1})).running() as server,
        running(follow(server.url, Picky)),
    ):
        await until(lambda: messages(recorder))

    assert names(recorder) == ["connected", "message"]


async def test_a_frame_that_is_no_json_is_a_dead_letter_and_the_source_goes_on(
    follow, recorder, until
):
    deep = "[" * 100_000
    async with (
        Server(sends("<html>", b'"\xff"', deep, {"n": 1})).running() as server,
        running(follow(server.url)),
    ):
        await until(lambda: messages(recorder))

    letters = [letter for (letter,) in emitted(recorder, "error")]
    assert names(recorder) == ["connected", "error", "error", "error", "message"]
    assert letters[0]["value_bytes"] == len("<html>")
    assert letters[0]["component"] == "m.feed"


@pytest.mark.parametrize("hook", ["parse", "position_of", "key_of"])
async def test_what_a_hook_raises_for_a_message_is_a_dead_letter(follow, recorder, until, hook):
    def failing(self, message):
        calls.append(message)
        if len(calls) == 1:
            raise KeyError("symbol")
        return json.loads(message) if hook == "parse" else 5

    calls = []
    cls = type("Failing", (WebsocketSource,), {hook: failing})
    async with (
        Server(sends({"n": 1}, {"n": 2})).running() as server,
        running(follow(server.url, cls)),
    ):
        await until(lambda: messages(recorder))

    assert names(recorder) == ["connected", "error", "message"]
    assert messages(recorder) == [{"n": 2}]


async def test_a_message_that_its_topic_does_not_take_is_a_dead_letter(follow, recorder, until):
    class Split(WebsocketSource):
        async def publish(self, message, key):
            await self.emit_async("message", message, key=key)

    large = {"text": "a" * 1_100_000}
    async with (
        Server(sends(large, {"n": 1})).running(max_size=None) as server,
        running(follow(server.url, Split)),
    ):
        await until(lambda: messages(recorder))

    assert names(recorder) == ["connected", "error", "message"]


async def test_messages_have_the_key_that_key_of_says(follow, recorder, until):
    class Keyed(WebsocketSource):
        def key_of(self, message):
            return message["symbol"]

    async with (
        Server(sends({"symbol": "ETH"})).running() as server,
        running(follow(server.url, Keyed)),
    ):
        await until(lambda: messages(recorder))

    assert [key for _, name, key, _ in recorder.sent if name == "m.feed.message"] == ["ETH"]


async def test_the_position_of_each_message_is_stored_with_it(follow, recorder, until):
    class Positioned(WebsocketSource):
        def position_of(self, message):
            return message.get("id")

    async with Server(sends({"id": "a"}, {"id": "b"}, {"none": 1})).running() as server:
        source = follow(server.url, Positioned)
        async with running(source):
            await until(lambda: len(messages(recorder)) == 3)

    stored = json.loads(recorder.positions["m.feed"])
    assert stored["position"] == "b"
    assert stored["at"] <= source.clock.time()


async def test_what_becomes_of_one_message_is_emitted_together_with_its_position(
    follow, recorder, until
):
    class Split(WebsocketSource):
        def position_of(self, message):
            return message[-1]

        async def publish(self, message, key):
            for number in message:
                await self.emit_async("number", number, key=key)

    async with (
        Server(sends([1, 2], [3])).running() as server,
        running(follow(server.url, Split)),
    ):
        await until(lambda: len(emitted(recorder, "number")) == 3)

    kinds = [kind for kind, name, _, _ in recorder.sent if name == "m.feed.number"]
    assert kinds == ["emit_all"] * 3
    assert json.loads(recorder.positions["m.feed"])["position"] == 3


async def test_what_publish_raises_fails_the_source(follow):
    class Failing(WebsocketSource):
        async def publish(self, message, key):
            raise LookupError("no such thing")

    async with Server(sends({"n": 1})).running() as server:
        with pytest.raises(LookupError):
            await asyncio.wait_for(follow(server.url, Failing).start(), 5)


async def test_what_on_connect_raises_fails_the_source(follow):
    class Failing(WebsocketSource):
        async def on_connect(self):
            raise LookupError("no such thing")

    async with Server(stays).running() as server:
        with pytest.raises(LookupError):
            await asyncio.wait_for(follow(server.url, Failing).start(), 5)


async def test_an_error_of_the_network_in_on_connect_is_one_of_the_upstream(follow, until):
    class Failing(WebsocketSource):
        async def on_connect(self):
            if len(server.connections) == 1:
                raise ConnectionResetError("the token server is gone")

    server = Server(stays)
    async with server.running():
        source = follow(server.url, Failing)
        async with running(source):
            await until(lambda: len(server.connections) == 2)

    assert len(source.clock.waited) == 1


async def test_the_loss_of_a_connection_is_told(follow, recorder, until):
    class Telling(WebsocketSource):
        async def on_lost_connection(self, reason):
            told.append((reason, names(recorder)[-1]))

    told = []
    async with (
        Server(closes, stays).running() as server,
        running(follow(server.url, Telling)),
    ):
        await until(lambda: told)

    reason = "the other side closed it with 1001: going away"
    assert told == [(reason, "disconnected")]
    assert emitted(recorder, "disconnected") == [(reason,)]


async def test_only_messages_are_signs_of_life(follow, recorder, until):
    async with Server(closes, stays).running() as server:
        source = follow(server.url, expect_every=30)
        source.heard_at = 7.0
        async with running(source):
            await until(lambda: names(recorder).count("connected") == 2)
            assert source.heard_at == 7.0
            await server.connections[1].send('{"n": 1}')
            await until(lambda: messages(recorder))
            assert source.heard_at > 7.0

    assert source.expect_every == 30


async def test_messages_are_taken_no_faster_than_the_rate_limit(follow, recorder, until):
    class Paced(WebsocketSource):
        async def pace(self):
            paces.append(len(messages(recorder)))

    paces = []
    async with Server(sends({"n": 1}, {"n": 2}, {"n": 3})).running() as server:
        source = follow(server.url, Paced, rate_limit=5)
        async with running(source):
            await until(lambda: len(messages(recorder)) == 3)

    assert source.rate_limit == 5
    assert paces[:3] == [0, 1, 2]


# --- the application's heartbeat


async def test_the_heartbeat_is_sent_again_and_again(recorder, until):
    server = Server(stays)
    async with server.running():
        options = {"heartbeat": {"op": "ping"}, "heartbeat_interval": 0.01}
        async with running(WebsocketSource("m.feed", recorder, server.url, options)):
            await until(lambda: server.received and len(server.received[0]) == 3)

    assert server.received == [['{"op":"ping"}'] * 3]
    assert names(recorder) == ["connected"]


@pytest.mark.parametrize(
    ("answer", "frame"),
    [("pong", "pong"), (b"pong", b"pong"), ({"event": "pong"}, '{"event": "pong", "id": 3}')],
)
async def test_the_answer_to_a_heartbeat_is_no_message(recorder, until, answer, frame):
    beats = []

    async def script(connection, received):
        async for message in connection:
            beats.append(message)
            await connection.send('{"n": 1}')
            await connection.send(frame)

    async with Server(script).running() as server:
        options = {"heartbeat": "ping", "heartbeat_interval": 0.01, "heartbeat_answer": answer}
        async with running(WebsocketSource("m.feed", recorder, server.url, options)):
            await until(lambda: len(beats) >= 3)

    assert set(names(recorder)) == {"connected", "message"}
    assert len(server.connections) == 1


# --- recordings


async def test_a_recording_leads_to_the_same_events(follow, recorder, until):
    class Positioned(WebsocketSource):
        def position_of(self, message):
            return message["n"]

    taped = []
    server = Server(sends({"n": 1}, "<html>", then=closes), sends(b'{"n": 2}'))
    async with server.running():
        source = follow(server.url, Positioned)
        source.tap = lambda name, raw: taped.append(raw)
        async with running(source):
            await until(lambda: len(messages(recorder)) == 2)
    live, recorder.sent, recorder.positions = recorder.sent, [], {}

    again = Positioned("m.again", recorder, server.url)
    for raw in taped:
        await again.receive(raw)

    assert [raw.kind for raw in taped] == [
        "connected", "frame", "frame", "disconnected", "connected", "frame",
    ]  # fmt: skip
    assert [without_time(entry) for entry in recorder.sent] == [
        without_time(entry) for entry in live
    ]


async def test_an_event_that_was_recorded_is_emitted_as_it_is(follow, recorder):
    raw = RawInput("emitted", b'{"n":1}', 1.0, {"event": "message", "key": "k"})

    await follow("ws://localhost").take(raw)

    assert recorder.sent == [("emit_async", "m.feed.message", "k", b'{"n":1}')]


# --- as the first aiopype had it, and what makes no sense


async def test_the_names_of_the_first_aiopype_work(recorder, until):
    class Old(WebsocketSource):
        async def on_connect(self):
            await self.websocket.send("hello")

        @staticmethod
        def parse(message):
            return {"old": json.loads(message)}

    async with Server(sends({"n": 1})).running() as server:
        Old.url = server.url
        source = Old("m.feed", recorder, exception_threshold=3, heartbeat_timeout=5)
        async with running(source):
            await until(lambda: messages(recorder))

    assert messages(recorder) == [{"old": {"n": 1}}]
    assert source.options == WebsocketOptions(exception_threshold=3, heartbeat_timeout=5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"subscribes": []}, "did you mean 'subscribe'"),
        ({"subscribe": "all"}, "subscribe='all'"),
        ({"subscribe": [1]}, "give a str, bytes, dict or list"),
        ({"heartbeat": {"a": object()}}, "heartbeat="),
        ({"heartbeat_interval": 0}, "heartbeat_interval=0"),
        ({"heartbeat_answer": "pong"}, "without a heartbeat"),
        ({"url": "ftp://host"}, "'ftp://host' is none of a websocket"),
        ({"url": None}, "url=None is none of a websocket"),
    ],
)
def test_what_makes_no_sense_is_refused(recorder, options, text):
    url = options.pop("url", "ws://host")

    with pytest.raises(ConfigurationError, match=text.replace("'", ".")):
        WebsocketSource("m.feed", recorder, url, options)
