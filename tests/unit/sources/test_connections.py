import asyncio

import pytest

from aiopype.sources.connections import Connection, beside, encode_message

from .websocket_servers import QuickClock


class Websocket:
    """Stands in for aiohttp's: it only notes that it was closed."""

    def __init__(self):
        self.closed = asyncio.Event()

    async def close(self):
        self.closed.set()


@pytest.fixture
async def websocket():
    return Websocket()


@pytest.fixture
async def connection(websocket):
    return Connection(websocket, 0.02, QuickClock())


async def test_an_answer_in_time_is_all_that_is_wanted(connection, websocket):
    answer = asyncio.Event()
    answer.set()

    await connection.answered(answer, "it")

    assert not websocket.closed.is_set()


async def test_without_an_answer_it_gives_up_when_all_was_read(connection, websocket):
    connection.is_waiting = True

    await asyncio.wait_for(connection.answered(asyncio.Event(), "it"), 5)

    assert websocket.closed.is_set()


async def test_an_answer_that_may_lie_unread_is_waited_for(connection, websocket):
    answer = asyncio.Event()
    task = asyncio.create_task(connection.answered(answer, "it"))
    await asyncio.sleep(0.1)
    assert not task.done()

    answer.set()
    await asyncio.wait_for(task, 5)

    assert not websocket.closed.is_set()


async def test_as_long_as_each_look_into_the_socket_finds_something_it_waits(connection, websocket):
    async def frames():
        while True:
            connection.is_waiting = True
            await asyncio.sleep(0)
            connection.heard_at += 1

    async with beside("test", frames()):
        task = asyncio.create_task(connection.answered(asyncio.Event(), "it"))
        await asyncio.sleep(0.1)
        assert not task.done()
    await asyncio.wait_for(task, 5)

    assert websocket.closed.is_set()


@pytest.mark.parametrize(
    ("message", "sent"),
    [("ä", "ä".encode()), (b"\xff", b"\xff"), ({"a": [1]}, b'{"a":[1]}'), ([1], b"[1]")],
)
def test_messages_are_sent_as_they_are_or_as_json(message, sent):
    assert encode_message(message) == sent


def test_what_has_no_json_form_cannot_be_sent():
    with pytest.raises(TypeError):
        encode_message({"a": object()})


async def test_a_fault_of_what_runs_beside_is_logged(caplog):
    async def faulty():
        raise LookupError("a fault")

    async with beside("m.feed", faulty()):
        await asyncio.sleep(0)

    assert "beside m.feed raised" in caplog.text
    assert "LookupError: a fault" in caplog.text
