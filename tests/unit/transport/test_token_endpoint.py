import asyncio
import ssl
from base64 import b64decode

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer

from aiopype.errors import BrokerError
from aiopype.transport import token_endpoint
from aiopype.transport.token_endpoint import Credentials, Endpoint

WHO = Credentials("a client", "s3cr=t/é", "kafka")


class Provider:
    """A token endpoint whose answers are what they are told to be."""

    def __init__(self):
        self.asked = []
        self.answer = {"access_token": "one.a.b", "expires_in": 100}
        self.status = 200
        self.delay = 0.0

    async def handle(self, request):
        kind, _, login = request.headers["Authorization"].partition(" ")
        assert kind == "Basic"
        self.asked.append((b64decode(login).decode(), dict(await request.post())))
        await asyncio.sleep(self.delay)
        if isinstance(self.answer, str):
            return web.Response(text=self.answer, status=self.status)
        return web.json_response(self.answer, status=self.status)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
async def provider():
    found = Provider()
    app = web.Application()
    app.router.add_post("/token", found.handle)
    async with TestServer(app) as server:
        found.url = str(server.make_url("/token"))
        yield found


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def endpoint(provider, clock):
    return Endpoint(provider.url, WHO, clock=clock)


async def test_a_client_asks_with_its_credentials_as_oauth_says(provider, endpoint):
    assert await endpoint.fetch() == "one.a.b"

    ((login, form),) = provider.asked
    assert login == "a+client:s3cr%3Dt%2F%C3%A9"
    assert form == {"grant_type": "client_credentials", "scope": "kafka"}


async def test_without_a_scope_none_is_asked_for(provider):
    await Endpoint(provider.url, Credentials("a", "b")).fetch()

    assert provider.asked[0][1] == {"grant_type": "client_credentials"}


async def test_a_token_is_kept_until_shortly_before_its_end(provider, endpoint, clock):
    await endpoint.fetch()
    clock.now += 79
    assert await endpoint.fetch() == "one.a.b"
    assert len(provider.asked) == 1

    provider.answer = {"access_token": "two.a.b", "expires_in": 100}
    clock.now += 2
    assert await endpoint.fetch() == "two.a.b"


async def test_many_connections_ask_once(provider, endpoint):
    provider.delay = 0.05
    assert set(await asyncio.gather(*(endpoint.fetch() for _ in range(20)))) == {"one.a.b"}
    assert len(provider.asked) == 1


async def test_of_a_token_without_a_life_a_minute_is_assumed(provider, endpoint, clock):
    provider.answer = {"access_token": "one.a.b"}
    await endpoint.fetch()
    clock.now += 47
    await endpoint.fetch()
    assert len(provider.asked) == 1
    clock.now += 2
    await endpoint.fetch()
    assert len(provider.asked) == 2


async def test_while_the_endpoint_is_down_the_old_token_is_used_to_its_end(
    provider, endpoint, clock, caplog
):
    await endpoint.fetch()
    provider.status, provider.answer = 503, "down"
    clock.now += 90
    assert await endpoint.fetch() == "one.a.b"
    assert "the old token is used for 10 s yet: status 503" in caplog.text
    clock.now += 11
    with pytest.raises(BrokerError, match="status 503, and no token"):
        await endpoint.fetch()


async def test_after_a_failure_the_endpoint_is_left_alone_for_a_second(provider, endpoint, clock):
    provider.status, provider.answer = 500, "down"
    for _ in range(3):
        with pytest.raises(BrokerError, match="status 500"):
            await endpoint.fetch()
    assert len(provider.asked) == 1
    clock.now += 1.1
    provider.status, provider.answer = 200, {"access_token": "two.a.b"}
    assert await endpoint.fetch() == "two.a.b"


async def test_the_reason_of_a_refusal_is_told_without_the_secret(provider, endpoint):
    provider.status = 401
    provider.answer = {"error": "invalid_client", "error_description": f"not {WHO.secret}"}
    with pytest.raises(BrokerError, match=r"status 401, invalid_client not \*\*\*\*$"):
        await endpoint.fetch()


@pytest.mark.parametrize("answer", ["<html>", {}, {"access_token": 7}, {"access_token": ""}, []])
async def test_an_answer_without_a_token_is_told(provider, endpoint, answer):
    provider.answer = answer
    with pytest.raises(BrokerError, match="status 200, and no token"):
        await endpoint.fetch()


async def test_an_answer_without_an_end_is_given_up(provider, endpoint, monkeypatch):
    monkeypatch.setattr(token_endpoint, "ANSWER_BYTES", 1000)
    provider.answer = "x" * 2000
    with pytest.raises(BrokerError, match="more than 1,000 bytes"):
        await endpoint.fetch()


async def test_an_endpoint_that_does_not_answer_is_given_up(provider, endpoint, monkeypatch):
    monkeypatch.setattr(token_endpoint, "ANSWER_SECONDS", 0.05)
    provider.delay = 0.5
    with pytest.raises(BrokerError, match=r"no answer within 0.05 s"):
        await endpoint.fetch()


async def test_nobody_at_the_address_is_told():
    with pytest.raises(BrokerError, match=r"Cannot connect to host 127\.0\.0\.1:1"):
        await Endpoint("http://127.0.0.1:1/token", WHO).fetch()


async def test_a_redirect_is_not_followed_with_the_secret(provider, endpoint):
    provider.status, provider.answer = 302, "elsewhere"
    with pytest.raises(BrokerError, match="status 302"):
        await endpoint.fetch()


async def test_over_https_the_certificate_is_checked():
    authority, found, app = trustme.CA(), Provider(), web.Application()
    app.router.add_post("/token", found.handle)
    served, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), None
    authority.issue_cert("127.0.0.1").configure_cert(served)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=served)
    try:
        url = str(server.make_url("/token"))
        assert await Endpoint(url, WHO, trusting).fetch() == "one.a.b"
        with pytest.raises(BrokerError, match="certificate"):
            await Endpoint(url, WHO).fetch()
    finally:
        await server.close()


def test_credentials_do_not_show_their_secret():
    assert WHO.secret not in repr(WHO)
