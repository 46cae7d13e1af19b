import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp import web

from aiopype import Retry, SyncProtocol
from aiopype.errors import ConfigurationError
from aiopype.sources import RestSource, rest

DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
ISO_DATE = "2015-10-21T07:28:00+00:00"


class Server:
    """Answers each request by the next of its modes, and the last one again and again."""

    def __init__(self):
        self.modes = ["good"]
        self.requests = 0
        self.date = DATE
        self.closing = asyncio.Event()

    async def answer(self, request):
        mode = self.modes[min(self.requests, len(self.modes) - 1)]
        self.requests += 1
        return await getattr(self, mode)(request)

    async def good(self, _request):
        return web.Response(body=b'{"price": 1.5}', content_type="application/json")

    async def text(self, _request):
        return web.Response(body=b"[1, 2]", content_type="text/plain")

    async def status_500(self, _request):
        return web.Response(status=500, body=b'{"price": 1.5}')

    async def status_404(self, _request):
        return web.Response(status=404)

    async def garbage(self, _request):
        return web.Response(body=b"<html>")

    async def not_utf_8(self, _request):
        return web.Response(body=b'["\xff"]')

    async def deep(self, _request):
        return web.Response(body=b"[" * 100_000)

    async def huge_number(self, _request):
        return web.Response(body=b"[1e400]")

    async def long_number(self, _request):
        return web.Response(body=b"[123456789012345678901234567890]")

    async def empty(self, _request):
        return web.Response(body=b"")

    async def long(self, _request):
        return web.Response(body=b'"' + b"x" * rest.ANSWER_BYTES + b'"')

    async def just_fits(self, _request):
        return web.Response(body=b'"' + b"x" * (rest.ANSWER_BYTES - 2) + b'"')

    async def in_pieces(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in (b"[1", b", ", b"2", b"]"):
            await response.write(piece)
            await asyncio.sleep(0.002)
        return response

    async def slow(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"[1, ")
        await self.closing.wait()
        return response

    async def broken_off(self, request):
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"[1, ")
        request.transport.close()
        return response

    async def set_date(self, _request, response):
        if self.date is None:
            del response.headers["Date"]
        else:
            response.headers["Date"] = self.date


@pytest.fixture
async def server():
    server = Server()
    app = web.Application()
    app.router.add_get("/", server.answer)
    app.on_response_prepare.append(server.set_date)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield server
    server.closing.set()
    await runner.cleanup()


@pytest.fixture
def sink():
    """What a source emitted."""
    return []


@pytest.fixture
async def polling(server, collector, sink):
    """Starts a source on the server, with short intervals; returns its task."""
    tasks = []

    def start(url=None, cls=RestSource, **options):
        protocol = SyncProtocol()
        options = {"request_interval": 0.001, "exception_threshold": 3} | options
        source = cls("m.source", protocol, url or server.url, options)
        taking = collector("m.sink", protocol)
        taking.got = sink
        source.on("data", taking.take)
        tasks.append(asyncio.ensure_future(source.start()))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# --- good answers


async def test_each_answer_is_emitted_with_the_servers_time(polling, server, sink, until):
    polling()

    await until(lambda: len(sink) >= 2)
    assert sink[:2] == [({"price": 1.5}, ISO_DATE)] * 2


@pytest.mark.parametrize("mode", ["text", "in_pieces"])
async def test_any_json_is_emitted_whatever_it_is_called_and_however_it_comes(
    polling, server, sink, until, mode
):
    server.modes = [mode]
    polling()

    await until(lambda: sink)
    assert sink[0] == ([1, 2], ISO_DATE)


async def test_an_answer_of_the_longest_allowed_is_emitted(
    polling, server, sink, until, monkeypatch
):
    monkeypatch.setattr(rest, "ANSWER_BYTES", 100_000)
    server.modes = ["just_fits"]
    polling()

    await until(lambda: sink)
    assert len(sink[0][0]) == 100_000 - 2


@pytest.mark.parametrize("date", [None, "yesterday", "", "Wed, 99 Oct 2015 07:28:00 GMT"])
async def test_an_answer_without_a_date_has_the_workers_time(polling, server, sink, until, date):
    server.date = date
    polling()

    await until(lambda: sink)
    time = datetime.fromisoformat(sink[0][1])
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=1)
    assert time.utcoffset() == timedelta(0)


async def test_a_date_of_another_zone_is_told_in_utc(polling, server, sink, until):
    server.date = "Wed, 21 Oct 2015 09:28:00 +0200"
    polling()

    await until(lambda: sink)
    assert sink[0][1] == ISO_DATE


@pytest.fixture
def slept(monkeypatch):
    """The pauses that sources made; none is waited for."""
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)
        await asyncio.sleep(0)

    loop = SimpleNamespace(sleep=sleep, get_running_loop=asyncio.get_running_loop)
    monkeypatch.setattr(rest, "asyncio", loop)
    return pauses


async def test_the_interval_is_between_the_starts_of_two_requests(polling, server, until, slept):
    server.modes = ["in_pieces"]  # takes 8 ms at least
    polling(request_interval=1_000)

    await until(lambda: slept)
    assert 900 < slept[0] < 1_000 - 0.008


async def test_an_answer_that_took_longer_than_the_interval_is_followed_at_once(
    polling, server, until, slept
):
    server.modes = ["in_pieces"]
    polling(request_interval=0.001)

    await until(lambda: slept)
    assert slept[0] == 0


async def test_after_an_error_it_waits_as_after_an_answer(polling, server, until, slept):
    server.modes = ["status_500"]
    polling(request_interval=1_000)

    await until(lambda: slept)
    assert 900 < slept[0] < 1_000


# --- errors

ERRORS = {
    "status_500": aiohttp.ClientResponseError,
    "status_404": aiohttp.ClientResponseError,
    "garbage": ValueError,
    "not_utf_8": ValueError,
    "deep": ValueError,
    "huge_number": ValueError,
    "empty": ValueError,
    "long": ValueError,
    "slow": TimeoutError,
    "broken_off": aiohttp.ClientError,
}


@pytest.fixture
def impatient(monkeypatch):
    """Answers have little time and little room."""
    monkeypatch.setattr(rest, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(rest, "ANSWER_BYTES", 200_000)


@pytest.mark.parametrize("mode", ERRORS)
async def test_after_an_error_it_goes_on(polling, server, sink, until, impatient, mode, caplog):
    server.modes = [mode, "good"]
    polling()

    await until(lambda: sink)
    assert sink[0] == ({"price": 1.5}, ISO_DATE)
    assert f"GET {server.url}: " in caplog.text


@pytest.mark.parametrize(("mode", "error"), ERRORS.items(), ids=ERRORS)
async def test_too_many_errors_in_a_row_are_raised(polling, server, sink, impatient, mode, error):
    server.modes = [mode]
    task = polling(exception_threshold=2)

    with pytest.raises(error):
        await asyncio.wait_for(task, 10)
    assert server.requests == 2
    assert sink == []


async def test_a_number_beyond_64_bits_is_emitted_as_it_is(polling, server, sink, until):
    server.modes = ["long_number"]
    polling()

    await until(lambda: sink)
    assert sink[0][0] == [123456789012345678901234567890]


async def test_a_server_that_is_not_there_is_an_error(polling, server, unused_tcp_port):
    task = polling(f"http://127.0.0.1:{unused_tcp_port}/")

    with pytest.raises(aiohttp.ClientConnectorError):
        await asyncio.wait_for(task, 10)


async def test_a_good_answer_sets_the_count_to_zero(polling, server, sink, until):
    server.modes = ["status_500", "garbage", "good"] * 3
    task = polling(exception_threshold=3)

    await until(lambda: len(sink) >= 3)
    assert not task.done()


async def test_the_threshold_is_reached_by_errors_of_different_kinds(polling, server):
    server.modes = ["good", "status_500", "garbage", "status_404"]
    task = polling(exception_threshold=3)

    with pytest.raises(aiohttp.ClientResponseError):
        await asyncio.wait_for(task, 10)
    assert server.requests == 4


async def test_each_error_is_given_to_the_error_handler(polling, server):
    errors = []

    class Noting(RestSource):
        async def error_handler(self, error):
            errors.append(type(error).__name__)

    server.modes = ["status_500", "garbage"]
    task = polling(cls=Noting, exception_threshold=2)

    with pytest.raises(ValueError, match="JSON"):
        await asyncio.wait_for(task, 10)
    assert errors == ["ClientResponseError", "DecodeError"]


async def test_a_handlers_error_is_not_counted_as_the_servers(server, collector, until):
    protocol = SyncProtocol()
    options = {"exception_threshold": 1, "request_interval": 0.001}
    source = RestSource("m.source", protocol, server.url, options)
    sink = collector("m.sink", protocol)
    sink.retry = Retry(tries=1)
    source.on("data", sink.done)  # takes no argument

    task = asyncio.ensure_future(source.start())
    await until(lambda: server.requests >= 3 or task.done())

    assert not task.done()
    assert protocol.progress.topics["m.sink.error"].emitted >= 2
    task.cancel()
    await asyncio.wait([task])


async def test_a_cancelled_source_leaves_no_connection(polling, server, until):
    server.modes = ["slow"]
    task = polling()
    await until(lambda: server.requests)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


# --- options


def test_the_options_have_defaults(recorder):
    source = RestSource("m.source", recorder, "http://127.0.0.1/")

    assert (source.request_interval, source.exception_threshold) == (30, 10)


def test_the_options_can_be_given(recorder):
    options = {"request_interval": 0.5, "exception_threshold": 1}

    source = RestSource("m.source", recorder, "http://127.0.0.1/", options)

    assert (source.request_interval, source.exception_threshold) == (0.5, 1)
    assert options == {"request_interval": 0.5, "exception_threshold": 1}


def test_an_unknown_option_is_refused_with_those_there_are(recorder):
    with pytest.raises(
        ConfigurationError, match=r"no option 'interval'; there are .*request_interval"
    ):
        RestSource("m.source", recorder, "http://127.0.0.1/", {"interval": 1})


@pytest.mark.parametrize("option", ["request_interval", "exception_threshold"])
@pytest.mark.parametrize("value", [0, -1, "30", None, float("nan")])
def test_an_option_that_is_not_above_0_is_refused(recorder, option, value):
    with pytest.raises(ConfigurationError, match=f"'m.source': {option}=.* must be above 0"):
        RestSource("m.source", recorder, "http://127.0.0.1/", {option: value})


def test_its_event_has_a_topic_from_the_start(recorder):
    RestSource("m.source", recorder, "http://127.0.0.1/")

    assert [topic.name for topic in recorder.graph.topics()] == ["m.source.data"]
