import asyncio
import tracemalloc

import aiohttp
import pytest
from aiohttp import web

from aiopype.errors import CircuitOpen
from aiopype.sources import RestSource

from .rest_server import PRICE, answer, bomb

# --- authority


class Authorized(RestSource):
    """Has a token; the second one is good."""

    def __init__(self, *args):
        super().__init__(*args)
        self.token = 1
        self.authorized = []

    async def authorize(self, request):
        self.authorized.append((request.page, request.was_refused))
        if request.was_refused:
            self.token += 1
        request.headers["Authorization"] = f"Bearer {self.token}"
        request.params["key"] = "k"


async def with_second_token(request):
    if request.headers.get("Authorization") != "Bearer 2":
        return web.Response(status=401)
    return await answer()(request)


async def test_a_request_that_was_refused_is_sent_again_with_new_authority(polling, api, until):
    api.modes = [with_second_token]
    run = polling(Authorized)

    await until(lambda: len(run.got) >= 2)
    assert run.source.authorized[:3] == [(1, False), (1, True), (1, False)]
    assert api.queries[:3] == [{"key": "k"}] * 3
    assert run.clock.slept[0] == 30  # it was no error


async def test_a_request_is_made_anew_before_it_is_authorized_again(polling, api, until):
    class Changing(RestSource):
        async def authorize(self, request):
            name = "second" if request.was_refused else "first"
            request.params[name] = request.headers[name] = "x"

    api.modes = [answer(status=401), "good"]
    run = polling(Changing, params={"a": 1}, headers={"b": "1"})

    await until(lambda: run.got)
    assert api.queries[:2] == [{"a": "1", "first": "x"}, {"a": "1", "second": "x"}]
    assert "first" not in api.requests[1].headers
    assert run.source.options.params == {"a": 1}


async def test_authority_that_is_refused_again_is_an_error_that_says_so(polling, api):
    api.modes = [answer(status=401)]
    run = polling(Authorized, exception_threshold=2)

    with pytest.raises(CircuitOpen, match=r"401.*does not take what authorize\(\) gave"):
        await asyncio.wait_for(run.task, 10)
    assert run.source.authorized == [(1, False), (1, True)] * 2


async def test_without_authorize_a_refusal_is_an_error_at_once(polling, api):
    api.modes = [answer(status=401)]
    run = polling(exception_threshold=1)

    with pytest.raises(CircuitOpen, match=r"set the option `headers`, or override authorize\(\)"):
        await asyncio.wait_for(run.task, 10)
    assert len(api.requests) == 1


@pytest.mark.parametrize("error", [KeyError("token"), aiohttp.ClientError("no token")])
async def test_what_authorize_raises_is_an_error_of_the_upstream(polling, api, until, error):
    class Failing(RestSource):
        tries = 0

        async def authorize(self, request):
            self.tries += 1
            if self.tries == 1:
                raise error

    run = polling(Failing)

    await until(lambda: run.got)
    assert len(run.clock.slept) >= 1
    assert run.source.tries >= 2


async def test_authorize_has_as_much_time_as_an_answer(polling):
    class Hanging(RestSource):
        async def authorize(self, request):
            await asyncio.Event().wait()

    run = polling(Hanging, exception_threshold=1, answer_seconds=0.05)

    with pytest.raises(CircuitOpen, match=r"authorize\(\): TimeoutError"):
        await asyncio.wait_for(run.task, 10)


async def test_authorize_may_sign_the_body_and_change_the_url(polling, api, until):
    class Signing(RestSource):
        async def authorize(self, request):
            request.url += "signed"
            request.method = "PUT"
            request.body += b"!"

    run = polling(Signing, body="text")

    await until(lambda: run.got)
    assert api.requests[0].path == "/signed"
    assert api.requests[0].method == "PUT"
    assert api.bodies[0] == b"text!"
    assert api.requests[0].headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_a_session_of_ones_own_is_used_and_closed(polling, api, until):
    class Own(RestSource):
        def open_session(self):
            self.session = aiohttp.ClientSession(headers={"User-Agent": "own"})
            return self.session

    run = polling(Own)

    await until(lambda: run.got)
    assert api.requests[0].headers["User-Agent"] == "own"
    await run.stop()
    assert run.source.session.closed


# --- how long to wait


@pytest.mark.parametrize(
    ("status", "value", "seconds"),
    [
        (429, "90", 90),
        (503, "90", 90),
        (503, "Wed, 21 Oct 2015 07:29:30 GMT", 90),
        (429, "1e9", 3_600),
        (429, "soon", 1),
        (500, "0.1", 1),
    ],
)
async def test_retry_after_is_waited_for_within_bounds(polling, api, until, status, value, seconds):
    api.modes = [answer(status=status, Retry_After=value), "good"]
    run = polling()

    await until(lambda: run.got)
    assert run.clock.slept[0] == pytest.approx(seconds, rel=0.21)


async def test_the_longest_wait_can_be_set(polling, api, until):
    api.modes = ["status_429", "good"]
    run = polling(retry_after_seconds=3)

    await until(lambda: run.got)
    assert run.clock.slept[0] == 3


# --- redirects


async def test_redirects_are_followed(polling, api, until):
    async def respond(request):
        if request.path == "/":
            raise web.HTTPFound("/new?b=2")
        return await answer()(request)

    api.modes = [respond]
    run = polling(params={"a": 1})

    await until(lambda: run.got)
    assert run.raws[0].meta["url"] == f"{api.url}new"
    assert api.queries[:2] == [{"a": "1"}, {"b": "2"}]


async def test_as_many_redirects_are_followed_as_the_options_say(polling, api, until):
    async def respond(request):
        number = int(request.query.get("n", 0))
        if number < 3:
            raise web.HTTPFound(f"/?n={number + 1}")
        return await answer()(request)

    api.modes = [respond]
    run = polling(redirects=3)
    await until(lambda: run.got)

    run = polling(redirects=2, exception_threshold=1)
    with pytest.raises(CircuitOpen, match="more than 2 redirects"):
        await asyncio.wait_for(run.task, 10)


async def test_no_redirect_is_followed_where_none_may_be(polling, api):
    api.modes = ["round_and_round"]
    run = polling(redirects=0, exception_threshold=1)

    with pytest.raises(CircuitOpen, match="status 302: Found; a redirect that is not followed"):
        await asyncio.wait_for(run.task, 10)
    assert len(api.requests) == 1


# --- what is kept of an answer


async def test_an_answer_is_kept_without_its_query_and_cookies(polling, api, until):
    async def respond(request):
        response = await answer(Link="<a>; rel=a")(request)
        response.headers.add("Link", "<b>; rel=b")
        response.set_cookie("session", "secret")
        return response

    api.modes = [respond]
    run = polling(url=f"{api.url}a?key=secret", headers={"X-Key": "secret"})

    await until(lambda: run.got)
    (raw, *_) = run.raws
    assert raw.kind == "response"
    assert raw.data == b'{"price": 1.5}'
    assert raw.at == 1_000_000_000
    assert raw.meta["url"] == f"{api.url}a"
    assert raw.meta["headers"]["link"] == "<a>; rel=a, <b>; rel=b"
    assert "secret" not in str(raw)


async def test_cookies_are_sent_back(polling, api, until):
    async def respond(request):
        response = await answer()(request)
        response.set_cookie("session", "1")
        return response

    api.modes = [respond]
    run = polling(url=api.url.replace("127.0.0.1", "localhost"))

    await until(lambda: len(run.got) >= 2)
    assert [request.cookies.get("session") for request in api.requests[:2]] == [None, "1"]


# --- bounds


@pytest.mark.parametrize(
    "mode",
    ["two_gigabytes", "two_gigabytes_in_chunks", "two_gigabytes_in_an_error", "bomb"],
)
async def test_of_an_answer_without_end_little_is_read_and_memory_stays_flat(
    polling, api, until, mode
):
    api.modes = ["good"]
    bomb()
    run = polling(answer_bytes=1_000_000)
    await until(lambda: run.got)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        first = len(api.requests)
        api.modes = [mode]
        # The server answers with the last mode whatever the number of the request.
        await until(lambda: len(api.requests) >= first + 5)
        api.modes = ["good"]
        await until(lambda: run.clock.slept and len(run.got) > first)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()

    assert peak < 12_000_000
    assert api.sent < 5 * 16_000_000


async def test_the_connection_of_a_too_large_answer_is_closed(polling, api, until):
    api.modes = ["two_gigabytes_in_chunks", "good"]
    run = polling(answer_bytes=100_000)

    await until(lambda: run.got)
    await until(lambda: api.broken)
    assert api.requests[0].transport is not api.requests[1].transport


async def test_the_largest_answer_is_taken(polling, api, until):
    api.modes = [answer(b'"' + b"x" * 99_998 + b'"')]
    run = polling(answer_bytes=100_000)

    await until(lambda: run.got)
    assert len(run.data[0]) == 99_998


async def test_a_connection_has_to_be_there_in_time(polling, monkeypatch):
    async def connect(*_args, **_options):
        await asyncio.sleep(60)

    monkeypatch.setattr(aiohttp.TCPConnector, "_create_direct_connection", connect)
    run = polling(exception_threshold=1, connect_seconds=0.05)

    with pytest.raises(CircuitOpen, match=r"TimeoutError: no connection in 0\.05 s"):
        await asyncio.wait_for(run.task, 10)


async def test_a_kept_connection_is_used_again(polling, api, until):
    run = polling()

    await until(lambda: len(run.got) >= 3)
    assert run.data[0] == PRICE
    assert len({request.transport for request in api.requests[:3]}) == 1
