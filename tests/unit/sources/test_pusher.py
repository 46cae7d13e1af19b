import asyncio
import json
import time

import pytest

from aiopype.errors import CircuitOpen, ConfigurationError, SourceError
from aiopype.sources.pusher import PusherMessage, PusherSource

from .pusher_servers import PusherServer, frame, nothing, tells
from .websocket_servers import (
    QUICK,
    QuickClock,
    Server,
    closes_after,
    emitted,
    names,
    running,
    sends,
    without_time,
)

TRADE = frame("trade", {"price": 1.5}, "trades")


@pytest.fixture
def follow(recorder):
    """Makes a source that follows a server."""

    def make(server, cls=PusherSource, **options):
        options = QUICK | server.options | {"channels": ["trades"]} | options
        source = cls("m.feed", recorder, "key", options)
        source.clock = QuickClock()
        return source

    return make


def told(recorder):
    return emitted(recorder, "message")


def subscribed(server):
    """Return the channels that each connection subscribed to."""
    return [
        [m["data"]["channel"] for m in received if m["event"] == "pusher:subscribe"]
        for received in server.received
    ]


# --- messages


async def test_it_emits_what_is_sent_on_its_channels(follow, recorder, until):
    async with PusherServer(tells(TRADE)).running() as server, running(follow(server)):
        await until(lambda: told(recorder))

    assert names(recorder) == ["connected", "message"]
    assert told(recorder) == [("trades", "trade", {"price": 1.5})]
    assert subscribed(server) == [["trades"]]


async def test_it_asks_for_the_app_and_the_protocol(follow, until):
    async with PusherServer().running() as server, running(follow(server)):
        await until(lambda: server.connections)

    path = server.connections[0].request.path
    assert path.startswith("/app/key?protocol=7&client=aiopype")


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "wss://ws.pusherapp.com/app/a%2Fb?"),
        ({"cluster": "eu"}, "wss://ws-eu.pusher.com/app/a%2Fb?"),
        ({"host": "soketi", "port": 6001, "secure": False}, "ws://soketi:6001/app/a%2Fb?"),
    ],
)
async def test_the_address_follows_from_the_options(recorder, options, url):
    source = PusherSource("m.feed", recorder, "a/b", options)

    assert (await source.address()).startswith(url)


@pytest.mark.parametrize(
    ("raw", "data"),
    [
        ('{"event":"e","channel":"c","data":"{\\"a\\":1}"}', {"a": 1}),
        ('{"event":"e","channel":"c","data":{"a":1}}', {"a": 1}),
        ('{"event":"e","channel":"c","data":"just text"}', "just text"),
        ('{"event":"e","channel":"c"}', None),
    ],
)
async def test_data_is_parsed_where_it_is_json(follow, recorder, until, raw, data):
    async with PusherServer(tells(raw)).running() as server, running(follow(server)):
        await until(lambda: told(recorder))

    assert told(recorder) == [("c", "e", data)]


async def test_only_the_events_that_were_asked_for_are_emitted(follow, recorder, until):
    frames = [
        frame("other", 1, "trades"),
        frame("pusher_internal:member_removed", {"user_id": 1}, "trades"),
        frame("pusher_internal:member_added", {"user_id": 2}, "trades"),
        TRADE,
    ]
    async with (
        PusherServer(tells(*frames)).running() as server,
        running(follow(server, events=["trade", "pusher:member_added"])),
    ):
        await until(lambda: len(told(recorder)) == 2)

    assert told(recorder) == [
        ("trades", "pusher:member_added", {"user_id": 2}),
        ("trades", "trade", {"price": 1.5}),
    ]


async def test_what_is_no_frame_of_pusher_is_a_dead_letter(follow, recorder, until):
    frames = ["<html>", '{"a": 1}', '{"event": "pusher', TRADE]
    async with PusherServer(tells(*frames)).running() as server, running(follow(server)):
        await until(lambda: told(recorder))

    assert names(recorder) == ["connected", "error", "error", "error", "message"]


async def test_what_the_server_says_of_itself_is_no_sign_of_life(follow, recorder, until):
    async with PusherServer().running() as server:
        source = follow(server, ping_interval=0.01)
        source.heard_at = 7.0
        async with running(source):
            await until(lambda: len(server.received[0]) > 3 if server.received else False)

    assert source.heard_at == 7.0
    assert names(recorder) == ["connected"]


async def test_messages_have_hooks(follow, recorder, until):
    class Hooked(PusherSource):
        def key_of(self, message):
            return message.channel

        def position_of(self, message):
            return message.data["price"]

        async def publish(self, message, key):
            await self.emit_async(message.event, message.data, key=key)

    async with PusherServer(tells(TRADE)).running() as server, running(follow(server, Hooked)):
        await until(lambda: emitted(recorder, "trade"))

    assert ("emit_all", "m.feed.trade", b"trades", b'{"price":1.5}') in recorder.sent
    assert json.loads(recorder.positions["m.feed"])["position"] == 1.5


# --- channels


async def test_channels_are_subscribed_to_at_each_connection(follow, until):
    server = PusherServer(closes_after(0), nothing)
    async with server.running(), running(follow(server, channels=["a", "b"])):
        await until(lambda: subscribed(server)[-1:] == [["a", "b"]] and len(server.received) == 2)


async def test_on_connect_can_subscribe_to_more(follow, until):
    class More(PusherSource):
        async def on_connect(self):
            await self.subscribe("more")

    async with PusherServer().running() as server, running(follow(server, More)):
        await until(lambda: subscribed(server) == [["more", "trades"]])


async def test_channels_that_are_not_public_are_authenticated(follow, until):
    class Authenticated(PusherSource):
        async def authenticate(self, channel, socket_id):
            return {"auth": f"key:{channel}:{socket_id}", "channel_data": '{"user_id":1}'}

    channels = ["private-a", "presence-b", "c"]
    async with (
        PusherServer().running() as server,
        running(follow(server, Authenticated, channels=channels)),
    ):
        await until(lambda: server.received and len(server.received[0]) == 3)

    assert [message["data"] for message in server.received[0]] == [
        {
            "channel": "private-a",
            "auth": "key:private-a:7.1",
            "channel_data": '{"user_id":1}',
        },
        {
            "channel": "presence-b",
            "auth": "key:presence-b:7.1",
            "channel_data": '{"user_id":1}',
        },
        {"channel": "c"},
    ]


async def test_a_channel_that_is_not_public_fails_where_nobody_can_authenticate(follow):
    class More(PusherSource):
        async def on_connect(self):
            await self.subscribe("private-x")

    async with PusherServer().running() as server:
        with pytest.raises(SourceError, match=r"private-x.*authenticate"):
            await asyncio.wait_for(follow(server, More).start(), 5)


async def test_a_channel_that_is_refused_is_an_error_of_the_upstream(follow):
    refused = frame("pusher:subscription_error", {"status": 403}, "trades")
    async with PusherServer(tells(refused)).running() as server:
        with pytest.raises(CircuitOpen, match=r"channel 'trades' is refused.*403"):
            await asyncio.wait_for(follow(server, exception_threshold=2).start(), 5)

    assert len(server.connections) == 2


# --- the connection


async def test_pings_of_the_server_are_answered(follow, recorder, until):
    async with (
        PusherServer(tells(frame("pusher:ping", {}))).running() as server,
        running(follow(server)),
    ):
        await until(lambda: server.received and len(server.received[0]) == 2)

    assert server.received[0][1] == {"event": "pusher:pong", "data": {}}
    assert names(recorder) == ["connected"]


async def test_a_quiet_server_is_pinged_as_often_as_it_says(follow, until):
    server = PusherServer()
    server.activity_timeout = 1
    async with server.running():
        began = time.monotonic()
        async with running(follow(server)):
            await until(lambda: server.received and len(server.received[0]) == 2)

    assert server.received[0][1] == {"event": "pusher:ping", "data": {}}
    assert 0.9 < time.monotonic() - began < 2


async def test_a_server_that_does_not_answer_pings_is_left(follow, recorder, until):
    server = PusherServer()
    server.answers_pings = False
    async with (
        server.running(),
        running(follow(server, ping_interval=0.05, heartbeat_timeout=0.1)),
    ):
        await until(lambda: len(server.connections) == 2)

    assert emitted(recorder, "disconnected") == [("no answer to a ping in 0.1 s",)]


@pytest.mark.parametrize(
    "greeting",
    ["hello", "{}", frame("pusher:connection_established", 5), b"\xff"],
)
async def test_a_server_that_speaks_something_else_is_an_error(recorder, greeting):
    async with Server(sends(greeting)).running() as server:
        host, _, port = server.url.removeprefix("ws://").partition("/")[0].partition(":")
        options = {"host": host, "port": int(port), "secure": False, "exception_threshold": 2}
        source = PusherSource("m.feed", recorder, "key", QUICK | options)
        with pytest.raises(CircuitOpen):
            await asyncio.wait_for(source.start(), 5)


def erring(code):
    """Ways in which a server tells a code."""
    error = frame("pusher:error", {"code": code, "message": "because"})

    async def closing(connection, received):
        await connection.close(code, "because")

    return [tells(error), closing]


@pytest.mark.parametrize("way", [0, 1], ids=["error", "close"])
async def test_a_refusal_is_heeded(follow, way):
    async with PusherServer(erring(4001)[way]).running() as server:
        source = follow(server)
        with pytest.raises(CircuitOpen, match=r"4001.*because.*key"):
            await asyncio.wait_for(source.start(), 5)

    assert len(server.connections) == 1
    assert source.clock.waited == []
    assert source.vitals.ok + source.vitals.failures == 1


@pytest.mark.parametrize("way", [0, 1], ids=["error", "close"])
async def test_after_a_code_that_asks_for_a_delay_it_waits(follow, way):
    async with PusherServer(erring(4100)[way]).running() as server:
        source = follow(server, exception_threshold=3)
        with pytest.raises(CircuitOpen, match="4100"):
            await asyncio.wait_for(source.start(), 5)

    assert source.clock.waited == [1.0, 1.0]


@pytest.mark.parametrize("way", [0, 1], ids=["error", "close"])
async def test_after_a_code_that_asks_for_it_it_connects_at_once_but_not_for_ever(follow, way):
    async with PusherServer(erring(4200)[way]).running() as server:
        source = follow(server, exception_threshold=3)
        with pytest.raises(CircuitOpen, match="4200"):
            await asyncio.wait_for(source.start(), 5)

    first, second = source.clock.waited
    assert first == 0.0
    assert second > 0.0


async def test_an_error_that_ends_nothing_is_logged(follow, recorder, until, caplog):
    error = frame("pusher:error", {"code": None, "message": "client events are off"})
    async with PusherServer(tells(error, TRADE)).running() as server, running(follow(server)):
        await until(lambda: told(recorder))

    assert "client events are off" in caplog.text
    assert len(server.connections) == 1


# --- gaps and recordings


async def test_a_gap_is_filled_with_messages(follow, recorder, until):
    class Filled(PusherSource):
        def position_of(self, message):
            return message.data["price"]

        async def backfill(self, gap):
            yield PusherMessage("trades", "trade", {"price": 2.5})
            yield ["trades", "trade", {"price": 1.5}]
            yield frame("trade", {"price": 3.5}, "trades")

    async def talks_and_ends(connection, received):
        await connection.send(TRADE)
        await connection.close()

    server = PusherServer(talks_and_ends, nothing)
    async with server.running(), running(follow(server, Filled)):
        await until(lambda: emitted(recorder, "gap"))

    assert [data["price"] for _, _, data in told(recorder)] == [1.5, 2.5, 3.5]


async def test_a_recording_leads_to_the_same_events(follow, recorder, until):
    async def talks_and_ends(connection, received):
        await connection.send(TRADE)
        await connection.close()

    taped = []
    server = PusherServer(talks_and_ends, tells(TRADE))
    async with server.running():
        source = follow(server)
        source.tap = lambda _, raw: taped.append(raw)
        async with running(source):
            await until(lambda: len(told(recorder)) == 2)
    live, recorder.sent = recorder.sent, []

    again = PusherSource("m.again", recorder, "key", {"channels": ["trades"]})
    for raw in taped:
        await again.receive(raw)

    assert [without_time(entry) for entry in recorder.sent] == [without_time(e) for e in live]


@pytest.mark.parametrize(
    ("key", "options", "text"),
    [
        ("", {}, "has no key"),
        ("key", {"channel": ["a"]}, "did you mean .channels."),
        ("key", {"channels": ["private-a"]}, "override .async def authenticate"),
        ("key", {"port": 0}, "port=0"),
    ],
)
def test_what_makes_no_sense_is_refused(recorder, key, options, text):
    with pytest.raises(ConfigurationError, match=text):
        PusherSource("m.feed", recorder, key, options)
