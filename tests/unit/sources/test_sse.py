import asyncio
import json
import logging
import re
import socket
import tracemalloc

import aiohttp
import pytest

from aiopype import SyncProtocol
from aiopype.errors import (
    CircuitOpen,
    ConfigurationError,
    OutputTooLarge,
    SourceSilent,
    StateCorrupt,
)
from aiopype.inputs import RawInput
from aiopype.silence import run_unless_silent
from aiopype.sources import SSEOptions, SSESource, sse_connection
from aiopype.sources.event_stream import ENDLESS

from .sse_server import HandClock, Server, running


@pytest.fixture
async def server():
    server = Server()
    async with running(server):
        yield server


@pytest.fixture
def sink():
    """What a source emitted."""
    return []


@pytest.fixture
def letters():
    """What it could not use."""
    return []


@pytest.fixture
def protocol():
    return SyncProtocol()


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
async def following(server, protocol, clock, collector, sink, letters):
    """Starts a source on the server; returns its task, which has the source."""
    tasks = []

    def start(cls=SSESource, url=None, protocol=protocol, run=None, **options):
        source = cls("m.source", protocol, url or server.url, options)
        source.clock = clock
        taking = collector("m.sink", protocol)
        taking.got = sink
        source.on("message", taking.take)
        failing = collector("m.errors", protocol)
        failing.got = letters
        source.on("error", failing.take)
        tasks.append(asyncio.create_task(run(source) if run else source.start()))
        tasks[-1].source = source
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# --- events


async def test_an_event_is_emitted_with_its_data_name_and_id(following, server, sink, until):
    server.modes = [b'id: 7\nevent: price\ndata: {"last":\ndata: 1.5}\n\ndata: 2\n\n']
    following()

    await until(lambda: len(sink) == 2)
    assert sink == [({"last": 1.5}, "price", "7"), (2, "message", "7")]


async def test_an_event_may_come_in_pieces(following, server, sink, until):
    server.modes = ["slow"]
    following()

    await until(lambda: sink)
    assert sink == [("€", "message", "")]


async def test_text_is_emitted_as_it_is(following, server, sink, until):
    server.modes = ["event: a\ndata: {€\xe9\ndata:\n\n".encode() + b"data: \xff\n\n"]
    following(content="text")

    await until(lambda: len(sink) == 2)
    assert sink == [("{€\xe9\n", "a", ""), ("\ufffd", "message", "")]


async def test_only_the_events_that_are_named_are_taken(following, server, sink, protocol, until):
    server.modes = [b"event: a\ndata: 1\n\ndata: 2\n\nid: 3\nevent: b\ndata: 3\n\ndata: 4\n\n"]
    task = following(events=["a", "message"])

    await until(lambda: len(sink) == 3)
    assert [data for data, _, _ in sink] == [1, 2, 4]
    assert task.source.position == "3"


async def test_a_key_is_taken_from_the_event(recorder, server):
    class Keyed(SSESource):
        def key_of(self, data, event, last_id):
            return f"{event}-{data}-{last_id}"

    source = Keyed("m.source", recorder, server.url)
    await source.take(RawInput("event", b"5", 0.0, {"event": "a", "id": "7"}))

    assert recorder.sent == [("emit_async", "m.source.message", "a-5-7", b'[5,"a","7"]')]


async def test_what_came_can_be_recorded_and_taken_again(following, server, sink, until, recorder):
    raws = []
    server.modes = [b'id: 7\ndata: "a"\n\ndata: nothing\n\n']
    following().source.tap = lambda name, raw: raws.append((name, raw))
    await until(lambda: len(raws) == 2)

    again = SSESource("m.source", recorder, server.url)
    for _, raw in raws:
        await again.take(raw)

    assert raws[0] == (
        "m.source",
        RawInput("event", b'"a"', 1_000_000.0, {"event": "message", "id": "7"}),
    )
    assert [topic for _, topic, _, _ in recorder.sent] == ["m.source.message", "m.source.error"]
    assert recorder.positions == {"m.source": b'"7"'}


# --- what cannot be used


@pytest.mark.parametrize("data", [b"nothing", b"\xff", b"[" * 100_000, b"[1e400]"])
async def test_what_is_no_json_is_a_dead_letter_and_the_next_event_is_taken(
    following, server, sink, letters, until, data
):
    server.modes = [b"id: 1\ndata: " + data + b"\n\nid: 2\ndata: 2\n\n"]
    task = following()

    await until(lambda: sink)
    assert sink == [(2, "message", "2")]
    [(letter,)] = letters
    assert letter["value_bytes"] == len(data)
    assert task.source.position == "2"


async def test_a_dead_letter_moves_the_position(following, server, letters, until):
    server.modes = [b"id: 1\ndata: nothing\n\n"]
    task = following()

    await until(lambda: letters)
    assert task.source.position == "1"


@pytest.mark.parametrize("key", [lambda data: data["id"], lambda data: 1.5])
async def test_an_event_without_a_usable_key_is_a_dead_letter(
    following, server, sink, letters, until, key
):
    class Keyed(SSESource):
        def key_of(self, data, event, last_id):
            return "a" if data == 2 else key(data)

    server.modes = [b"data: {}\n\ndata: 2\n\n"]
    following(Keyed)

    await until(lambda: sink)
    assert len(letters) == 1


async def test_an_event_that_is_too_large_is_a_dead_letter(following, server, sink, letters, until):
    server.modes = [b'id: 1\ndata: "' + b"x" * 5_000 + b'"\n\ndata: 2\n\n']
    following(largest_bytes=1_000)

    await until(lambda: sink)
    assert sink == [(2, "message", "1")]
    [(letter,)] = letters
    assert "an event has 5,002 bytes, and the largest that is taken 1,000" in letter["message"]
    assert letter["value_bytes"] == 1_000


async def test_an_event_that_its_topic_does_not_take_is_a_dead_letter(recorder, server):
    class Small(type(recorder)):
        async def emit_async(self, topic, key, value):
            if topic.event == "message":
                raise OutputTooLarge("too large")
            await super().emit_async(topic, key, value)

    source = SSESource("m.source", small := Small(), server.url)
    await source.take(RawInput("event", b"5", 0.0, {"event": "a", "id": "7"}))

    assert [topic for _, topic, _, _ in small.sent] == ["m.source.error"]


async def test_an_event_with_empty_data_is_a_sign_of_life_where_json_is_expected(
    following, server, sink, letters, until
):
    server.modes = [b"event: ping\ndata:\n\ndata: 1\n\n"]
    following()

    await until(lambda: sink)
    assert (len(sink), letters) == (1, [])


async def test_each_line_is_heard_a_comment_too(following, server, clock, until):
    class Listening(SSESource):
        def heard(self):
            self.times = getattr(self, "times", 0) + 1

    server.modes = [b": still here\n"]
    task = following(Listening)

    await until(lambda: getattr(task.source, "times", 0))


async def test_a_stream_from_which_nothing_comes_is_silent(following, server, until):
    server.modes = [b": a comment\n"]
    task = following(run=run_unless_silent, expect_every=5)

    with pytest.raises(SourceSilent):
        await asyncio.wait_for(task, 10)


# --- the position


async def test_after_a_break_it_goes_on_where_it_was(following, server, sink, until):
    server.modes = ["replay"]
    following()

    await until(lambda: len(sink) == 10)
    assert [data for data, _, _ in sink] == list(range(1, 11))
    asked = [request.headers.get("Last-Event-ID") for request in server.requests]
    assert asked == [None, "3", "6", "9"]


async def test_another_worker_goes_on_where_the_first_one_was(
    following, server, sink, protocol, until, collector
):
    server.modes = [b"id: a-\xe2\x82\xac\ndata: 1\n\n", b"data: 2\n\n"]
    first = following()
    await until(lambda: sink)
    first.cancel()
    await asyncio.wait([first])
    other = SyncProtocol()
    other.checkpoint("m.source", protocol.position("m.source"))
    following(protocol=other)

    await until(lambda: len(sink) == 2)
    assert server.requests[1].headers["Last-Event-ID"] == "a-€"
    assert sink[1] == (2, "message", "a-€")


async def test_the_id_of_an_event_without_data_is_sent_back_too(following, server, until):
    server.modes = ["id_only", b""]
    server.id_only = lambda request: server.stream(request, b"id: 7\n\n", stay=False)
    following()

    await until(lambda: len(server.requests) == 2)
    assert server.requests[1].headers["Last-Event-ID"] == "7"


async def test_an_empty_id_begins_anew(following, server, until):
    server.modes = ["reset", b""]
    server.reset = lambda request: server.stream(
        request, b"id: 7\ndata: 1\n\nid\ndata: 2\n\n", stay=False
    )
    task = following()

    await until(lambda: len(server.requests) == 2)
    assert "Last-Event-ID" not in server.requests[1].headers
    assert task.source.position == ""


async def test_a_position_that_is_no_id_is_refused(recorder, server):
    recorder.positions["m.source"] = b"[1]"
    source = SSESource("m.source", recorder, server.url)

    with pytest.raises(StateCorrupt, match=r"position of 'm.source' is \[1\], which is no id"):
        await source.start()


# --- the request


async def test_the_request_has_headers_and_parameters_and_wants_no_compression(
    following, server, until
):
    following(headers={"X-Mine": "1"}, params={"since": "a b"})

    await until(lambda: server.requests)
    request = server.requests[0]
    assert request.headers["X-Mine"] == "1"
    assert request.headers["Accept"] == "text/event-stream"
    assert request.headers["Accept-Encoding"] == "identity"
    assert request.headers["Cache-Control"] == "no-store"
    assert dict(request.query) == {"since": "a b"}


async def test_each_request_is_authorized_anew(following, server, until):
    class Authorized(SSESource):
        calls = 0

        async def authorize(self, request):
            self.calls += 1
            request.headers["Authorization"] = f"Bearer {self.calls} {request.was_refused}"

    server.modes = ["status_401", "ends"]
    following(Authorized)

    await until(lambda: len(server.requests) >= 3)
    assert [r.headers["Authorization"] for r in server.requests[:3]] == [
        "Bearer 1 False",
        "Bearer 2 True",
        "Bearer 3 False",
    ]


async def test_the_session_to_ask_with_may_be_another(following, server, sink, until):
    class Proxied(SSESource):
        def open_session(self):
            limit = aiohttp.ClientTimeout(total=0.05)
            return aiohttp.ClientSession(headers={"X-Session": "mine"}, timeout=limit)

    server.modes = ["late"]
    following(Proxied)

    await until(lambda: sink)  # its limit is none for a stream
    assert server.requests[0].headers["X-Session"] == "mine"
    assert len(server.requests) == 1


async def test_redirects_are_followed(following, server, sink, until):
    server.modes = ["moved"]
    following()

    await until(lambda: sink)
    assert sink[0][0] == "there"


async def test_a_host_that_is_gone_is_probed_for(following, server, until, monkeypatch):
    sockets = []

    def make(info, original=sse_connection._socket):
        sockets.append(original(info))
        return sockets[-1]

    monkeypatch.setattr(sse_connection, "_socket", make)
    following()

    await until(lambda: server.requests)
    assert sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
    assert sockets[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


# --- ends and errors


async def test_after_204_the_source_has_ended(following, server, sink, caplog):
    caplog.set_level(logging.INFO)
    server.modes = ["ends", "over"]
    task = following()

    await asyncio.wait_for(task, 10)
    assert len(server.requests) == 2
    assert f"GET {server.url}: status 204, the stream is over" in caplog.text


async def test_a_stream_that_ended_is_asked_for_again_without_a_warning(
    following, server, sink, until, caplog
):
    server.modes = ["ends"]
    following(first_delay_seconds=3)

    await until(lambda: len(sink) > 20)  # more often than errors may come in a row
    assert caplog.text == ""


async def test_connections_and_errors_are_counted(following, server, protocol, until):
    server.modes = ["status_500", "ends", "ends", "broken_off", "ends"]
    following(first_delay_seconds=3)
    (source,) = (c for c in protocol.components if isinstance(c, SSESource))
    errors = []
    source.vitals.begin(errors.append)

    await until(lambda: source.vitals.ok >= 4)

    assert source.vitals.reconnects == source.vitals.ok - 1
    assert source.vitals.failures == 1
    assert [type(error).__name__ for error in errors] == ["StreamRefused", "StreamError"]


async def test_a_stream_that_ends_at_once_is_an_error(following, server):
    server.modes = ["ends_at_once"]

    with pytest.raises(CircuitOpen, match=r"3 errors in a row, .* StreamEnded: the stream ended"):
        await asyncio.wait_for(following(exception_threshold=3), 10)


async def test_a_quiet_stream_that_lasted_is_none(following, server, clock, until):
    async def last(request):
        response = await server.stream(request, stay=False)
        await asyncio.sleep(0.01)  # the source has the headers
        clock.now += 11
        return response

    server.modes = ["last"]
    server.last = last
    task = following(exception_threshold=3)

    await until(lambda: len(server.requests) > 10)
    assert not task.done()


ERRORS = {
    "status_500": "status 500: out of cheese",
    "status_404": "status 404: Not Found",
    "status_429": "status 429: Too Many Requests",
    "json": "content type application/json, not text/event-stream",
    "zipped": r"the stream is packed \(br\), which was not asked for",
    "mute": "no answer in 0.05 s",
    "broken_off": "the stream broke: ClientPayloadError",
    "endless": "an event has .* bytes and does not end",
}


@pytest.mark.parametrize("mode", ERRORS)
async def test_after_an_error_it_goes_on(following, server, sink, until, mode, caplog):
    server.modes = [mode, b"data: 2\n\n"]
    following(connect_seconds=0.05, largest_bytes=10_000)

    await until(lambda: sink)
    assert sink == [(2, "message", "")]
    [line] = [r.message for r in caplog.records]
    assert re.fullmatch(f"GET {server.url}: {ERRORS[mode]}.*; again in [017].. s", line)


@pytest.mark.parametrize(("mode", "text"), ERRORS.items(), ids=ERRORS)
async def test_too_many_errors_in_a_row_open_the_circuit(following, server, mode, text):
    server.modes = [mode]
    options = {"connect_seconds": 0.05, "largest_bytes": 10_000, "exception_threshold": 2}

    with pytest.raises(CircuitOpen, match=text):
        await asyncio.wait_for(following(**options), 10)
    assert len(server.requests) == 2


async def test_a_server_that_is_not_there_is_an_error(following, unused_tcp_port):
    with pytest.raises(CircuitOpen, match="ClientConnectorError"):
        await asyncio.wait_for(
            following(url=f"http://127.0.0.1:{unused_tcp_port}/", exception_threshold=2), 10
        )


async def test_what_authorize_raises_is_an_error_of_the_upstream(following, server):
    class Refused(SSESource):
        async def authorize(self, request):
            raise KeyError("token")

    with pytest.raises(CircuitOpen, match="authorize: KeyError: 'token'"):
        await asyncio.wait_for(following(Refused, exception_threshold=2), 10)
    assert server.requests == []


async def test_delays_double_and_begin_anew_after_an_event(following, server, clock, until):
    server.modes = ["status_500", "status_500", "status_500", "ends", "status_500"]
    following(first_delay_seconds=1)

    await until(lambda: len(clock.pauses) >= 6)
    for pause, expected in zip(clock.pauses, [1, 2, 4, 1, 2, 4], strict=False):
        assert 0.8 * expected <= pause <= 1.2 * expected


async def test_the_stream_says_when_to_come_again(following, server, clock, until):
    server.modes = ["ends_soon"]
    following(first_delay_seconds=30)

    await until(lambda: clock.pauses)
    assert clock.pauses[0] == 0.25


async def test_with_errors_its_delay_is_the_shortest(following, server, clock, until):
    server.modes = ["ends_soon", "status_500"]
    following(first_delay_seconds=0.001)

    await until(lambda: len(clock.pauses) >= 3)
    assert clock.pauses[:3] == [0.25] * 3


async def test_it_comes_again_within_an_hour_whatever_the_stream_says(
    following, server, clock, until
):
    server.modes = ["ends_late"]
    following()

    await until(lambda: clock.pauses)
    assert clock.pauses[0] == 3_600


async def test_a_busy_server_is_asked_when_it_said(following, server, clock, until):
    server.modes = ["status_429"]
    following()

    await until(lambda: clock.pauses)
    assert clock.pauses[0] == 7


# --- pressure


async def test_a_flood_is_read_no_faster_than_it_is_taken(following, server, sink, until):
    class Standing(SSESource):
        gate = asyncio.Event()

        async def take(self, raw):
            if len(sink) >= 1_000:
                await self.gate.wait()
            await super().take(raw)

    server.modes = ["flood"]
    following(Standing)
    await until(lambda: len(sink) == 1_000)

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
    Standing.gate.set()
    await until(lambda: len(sink) > 1_000 + before / 2)


async def test_a_line_that_does_not_end_fills_no_memory(following, server):
    server.modes = ["endless"]
    tracemalloc.start()
    try:
        with pytest.raises(CircuitOpen):
            await asyncio.wait_for(following(exception_threshold=1, largest_bytes=100_000), 10)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert server.sent > ENDLESS * 100_000 / 2
    assert peak < 3_000_000


async def test_the_rate_limit_holds_for_events(following, server, sink, monkeypatch, until):
    paces = []

    class Paced(SSESource):
        async def pace(self):
            paces.append(len(sink))

    server.modes = [b"data: 1\n\ndata: 2\n\n"]
    following(Paced)

    await until(lambda: len(sink) == 2)
    assert paces == [0, 0, 1]  # the request, then each event


async def test_a_cancelled_source_closes_its_connection(following, server, until):
    task = following()
    await until(lambda: server.requests)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: server.requests[0].transport is None)


# --- options


def test_an_unknown_option_is_refused_with_the_nearest(recorder):
    with pytest.raises(ConfigurationError, match="no option 'header'; did you mean 'headers'"):
        SSESource("m.source", recorder, "http://127.0.0.1/", {"header": {}})


@pytest.mark.parametrize(
    ("option", "value"), [("content", "xml"), ("largest_bytes", 0), ("headers", {"a": 1})]
)
def test_an_option_that_makes_no_sense_is_refused(recorder, option, value):
    with pytest.raises(ConfigurationError, match=f"'m.source': {option}="):
        SSESource("m.source", recorder, "http://127.0.0.1/", {option: value})


def test_limits_of_every_source_are_taken_from_the_options(recorder):
    source = SSESource(
        "m.source", recorder, "http://127.0.0.1/", SSEOptions(expect_every=5, rate_limit=2)
    )

    assert (source.expect_every, source.rate_limit) == (5, 2)


def test_its_event_has_a_topic_from_the_start(recorder):
    SSESource("m.source", recorder, "http://127.0.0.1/")

    assert json.dumps([topic.name for topic in recorder.graph.topics()]) == '["m.source.message"]'
