import asyncio

import pytest
from aiokafka import errors as kafka_errors

from aiopype.transport import clients as clients_module
from aiopype.transport.clients import Clients


class FakeClient:
    """A client; it raises on request, and notes what is done with it.

    Attributes:
        may_connect: cleared, it holds every connecting.
    """

    def __init__(self, brokers, security):
        self.brokers, self.security = brokers, security
        self.topics = []
        self.errors = []
        self.close_errors = []
        self.is_connected = self.is_closed = False
        self.may_connect = asyncio.Event()
        self.may_connect.set()

    async def bootstrap(self):
        await self.may_connect.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.is_connected = True

    async def set_topics(self, topics):
        self.topics.append(topics)

    async def close(self):
        self.is_closed = True
        if self.close_errors:
            raise self.close_errors.pop(0)


@pytest.fixture
def made(monkeypatch):
    """All clients that were made; `made.next` is what the next ones are."""

    class Made(list):
        next = ()

    all_made = Made()

    def new_client(brokers, security):
        given = list(all_made.next)
        client = given.pop(0) if given else FakeClient(brokers, security)
        all_made.next = given
        all_made.append(client)
        return client

    monkeypatch.setattr(clients_module, "new_client", new_client)
    return all_made


@pytest.fixture
async def clients(made):
    pool = Clients("a:1", {"security_protocol": "SSL"}, size=2)
    yield pool
    await pool.on_stop()


async def test_nothing_is_connected_before_it_is_needed(clients, made):
    assert made == []


async def test_a_client_is_connected_as_it_is_told(clients, made):
    client = await clients.next()

    assert (client.brokers, client.security) == ("a:1", {"security_protocol": "SSL"})
    assert client.is_connected


async def test_a_client_learns_of_all_topics_as_it_connects(made):
    clients = Clients("a:1", topics=lambda: ["m.a.x", "m.b.y"])

    client = await clients.next()

    assert client.topics == [["m.a.x", "m.b.y"]]


async def test_a_client_is_connected_where_there_are_no_topics_to_learn_of(clients):
    client = await clients.next()

    assert client.topics == []


async def test_no_more_are_made_than_there_may_be_and_they_are_given_out_in_turn(clients, made):
    given = [await clients.next() for _ in range(10)]

    assert len(made) == 2
    assert given[4:] == [given[4], given[5]] * 3
    assert given[4] is not given[5]


async def test_who_ask_at_the_same_time_do_not_get_more_than_there_may_be(clients, made):
    given = await asyncio.gather(*(clients.next() for _ in range(10)))

    assert len(made) == 2
    assert all(client.is_connected for client in given)


async def test_a_client_that_cannot_connect_is_closed_and_not_given_out(clients, made):
    broken = FakeClient("a:1", None)
    broken.errors.append(kafka_errors.KafkaConnectionError("no route"))
    made.next = (broken,)

    with pytest.raises(kafka_errors.KafkaConnectionError, match="no route"):
        await clients.next()

    assert broken.is_closed
    assert broken not in [await clients.next() for _ in range(4)]


async def test_a_client_whose_connecting_is_cancelled_is_closed_and_keeps_nobody_waiting(
    clients, made, turns
):
    slow = FakeClient("a:1", None)
    slow.may_connect.clear()
    made.next = (slow,)
    waiting = asyncio.create_task(clients.next())
    await turns()

    waiting.cancel()
    await asyncio.wait([waiting])

    assert slow.is_closed
    assert (await asyncio.wait_for(clients.next(), 5)) is not slow


async def test_a_stop_disconnects_all(clients, made):
    for _ in range(2):
        await clients.next()

    await clients.on_stop()

    assert [client.is_closed for client in made] == [True, True]


async def test_a_client_that_cannot_be_closed_does_not_keep_the_others_from_it(clients, made):
    for _ in range(2):
        await clients.next()
    made[0].close_errors.append(kafka_errors.KafkaConnectionError())

    await clients.on_stop()

    assert [client.is_closed for client in made] == [True, True]


async def test_a_stop_does_not_wait_for_ever(clients, made, monkeypatch):
    monkeypatch.setattr(clients_module, "CLOSE_SECONDS", 0.01)
    client = await clients.next()
    client.close = lambda: asyncio.get_running_loop().create_future()

    await asyncio.wait_for(clients.on_stop(), 5)
