import json

import pytest

from aiopype import SyncProtocol
from aiopype.errors import ConfigurationError
from aiopype.sources.pusher_client import PusherClientSource

from .pusher_servers import PusherServer, frame, nothing, tells
from .websocket_servers import QUICK, QuickClock, emitted, running, without_time

TRADE = frame("trade", {"price": 1.5}, "trades")


class Trades(PusherClientSource):
    """As one was written for the first aiopype."""

    def __init__(self, name, handler, **kwargs):
        super().__init__(name, handler, **kwargs)
        self.clock = QuickClock()
        self.greetings = []

    def connect_handler(self, data):
        self.greetings.append(json.loads(data)["socket_id"])
        channel = self.pusher.subscribe("trades")
        channel.bind("trade", self.on_trade)

    def on_trade(self, data):
        price = json.loads(data)["price"]
        self.emit("trade", price)
        self.emit("half", price / 2)


@pytest.fixture
def follow(recorder):
    def make(server, cls=Trades):
        return cls("m.feed", recorder, pusher="key", **QUICK | server.options)

    return make


async def test_it_subscribes_to_what_connect_handler_asks_for_and_calls_what_is_bound(
    follow, recorder, until
):
    async with PusherServer(tells(TRADE)).running() as server, running(follow(server)):
        await until(lambda: emitted(recorder, "half"))

    assert server.received[0] == [{"event": "pusher:subscribe", "data": {"channel": "trades"}}]
    assert emitted(recorder, "trade") == [(1.5,)]
    assert emitted(recorder, "message") == []
    kinds = {kind for kind, name, _, _ in recorder.sent if name in {"m.feed.trade", "m.feed.half"}}
    assert kinds == {"emit_all"}


async def test_connect_handler_is_called_once_at_each_connection(follow, recorder, until):
    async def ends(connection, received):
        await connection.close()

    server = PusherServer(ends, tells(TRADE))
    async with server.running():
        source = follow(server)
        async with running(source):
            await until(lambda: emitted(recorder, "trade"))

    assert source.greetings == ["7.1", "7.2"]
    assert emitted(recorder, "trade") == [(1.5,)]


async def test_coroutine_functions_are_awaited(follow, recorder, until):
    class Modern(Trades):
        async def connect_handler(self, data):
            super().connect_handler(data)

        async def on_trade(self, data):
            await self.emit_async("trade", json.loads(data)["price"])

    async with PusherServer(tells(TRADE)).running() as server, running(follow(server, Modern)):
        await until(lambda: emitted(recorder, "trade"))


async def test_what_nothing_is_bound_to_is_emitted_as_it_came(follow, recorder, until):
    other = frame("other", {"a": 1}, "trades")
    async with PusherServer(tells(other)).running() as server, running(follow(server)):
        await until(lambda: emitted(recorder, "message"))

    assert emitted(recorder, "message") == [("trades", "other", '{"a": 1}')]


async def test_channels_of_the_options_are_followed_too(follow, recorder, until):
    async with PusherServer(nothing).running() as server:
        source = PusherClientSource(
            "m.feed", recorder, pusher="key", channels=["a"], **server.options
        )
        async with running(source):
            await until(lambda: server.received and server.received[0])

    assert server.received[0][0]["data"] == {"channel": "a"}


async def test_a_recording_leads_to_the_same_events(follow, recorder, until):
    taped = []
    async with PusherServer(tells(TRADE)).running() as server:
        source = follow(server)
        source.tap = lambda _, raw: taped.append(raw)
        async with running(source):
            await until(lambda: emitted(recorder, "half"))
    live, recorder.sent = recorder.sent, []

    again = Trades("m.again", recorder, pusher="key")
    for raw in taped:
        await again.receive(raw)

    assert [without_time(entry) for entry in recorder.sent] == [without_time(e) for e in live]
    assert again.greetings == ["7.1"]


def test_the_arguments_of_the_first_aiopype_are_taken():
    source = PusherClientSource("m.feed", SyncProtocol(), pusher="key", heartbeat_timeout=5)

    assert (source.key, source.options.heartbeat_timeout) == ("key", 5)


def test_without_a_key_it_is_refused(recorder):
    with pytest.raises(ConfigurationError, match="has no key"):
        PusherClientSource("m.feed", recorder)
