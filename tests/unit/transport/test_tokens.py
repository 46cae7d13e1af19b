import asyncio
import sys
from types import ModuleType

import pytest
from aiokafka.errors import KafkaError

from aiopype.errors import ConfigurationError
from aiopype.transport import tokens as module
from aiopype.transport.tokens import Tokens, TokenUnavailable, from_file, from_function


@pytest.fixture
def provider(monkeypatch):
    """A module of the user's: what is set on it can be named as `provider:...`."""
    found = ModuleType("provider")
    monkeypatch.setitem(sys.modules, "provider", found)
    return found


def giving(value):
    async def fetch():
        return value

    return fetch


async def test_a_file_is_read_anew_for_each_connection(tmp_path):
    file = tmp_path / "token"
    tokens = Tokens(from_file(file), "the file")
    for text in ("first.a.b", "second.c.d\n"):
        file.write_text(text)
        assert await tokens.token() == text.strip()


async def test_a_file_that_cannot_be_read_is_a_broker_out_of_reach(tmp_path):
    tokens = Tokens(from_file(tmp_path / "none"), "sasl_token_file none")
    with pytest.raises(KafkaError, match=r"^sasl_token_file none: .*No such file"):
        await tokens.token()


async def test_a_function_is_called_in_a_thread(provider):
    import threading  # noqa: PLC0415

    threads = []

    def give():
        threads.append(threading.current_thread())
        return "abc"

    provider.give = give
    assert await Tokens(from_function("provider:give"), "f").token() == "abc"
    assert threads != [threading.main_thread()]


async def test_a_coroutine_function_is_awaited(provider):
    provider.give = giving("abc")
    assert await Tokens(from_function("provider:give"), "f").token() == "abc"


async def test_a_function_that_returns_a_coroutine_is_awaited(provider):
    fetch = giving("abc")

    def give():
        return fetch()

    provider.give = give
    assert await Tokens(from_function("provider:give"), "f").token() == "abc"


async def test_a_method_of_an_object_is_a_function(provider):
    class Given:
        def token(self):
            return "abc"

    provider.given = Given()
    assert await Tokens(from_function("provider:given.token"), "f").token() == "abc"


@pytest.mark.parametrize("name", ["provider:missing", "no_such_module:give", "provider:__name__"])
def test_a_function_that_is_none_is_refused_by_its_name(provider, name):
    with pytest.raises(ConfigurationError, match=f"sasl_token_provider '{name}': "):
        from_function(name)


async def test_what_a_function_raises_is_told(provider):
    def give():
        raise ValueError("no metadata server")

    provider.give = give
    with pytest.raises(TokenUnavailable, match=r"^of f: no metadata server$"):
        await Tokens(from_function("provider:give"), "of f").token()


async def test_a_function_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(module, "TOKEN_SECONDS", 0.01)
    tokens = Tokens(lambda: asyncio.sleep(60), "of f")
    with pytest.raises(TokenUnavailable, match=r"of f: no token within 0.01 s"):
        await tokens.token()


@pytest.mark.parametrize("value", ["", "two words", "a\x01b", "line\nbreak", "é"])
async def test_what_has_not_the_form_of_a_token_is_not_sent_and_not_shown(value):
    with pytest.raises(TokenUnavailable, match="of f: what is there has not the form") as caught:
        await Tokens(giving(value), "of f").token()
    assert not value or value not in str(caught.value)


async def test_what_is_no_text_is_refused():
    with pytest.raises(TokenUnavailable, match="of f: a tuple is no token"):
        await Tokens(giving(("abc", 3600)), "of f").token()


def test_extensions_go_with_each_token():
    tokens = Tokens(giving("abc"), "f", ("logicalCluster=lkc-1", "identityPoolId=a=b"))
    assert tokens.extensions() == {"logicalCluster": "lkc-1", "identityPoolId": "a=b"}
