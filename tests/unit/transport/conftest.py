"""Doubles of what the transport's parts need of each other."""

import asyncio

import pytest


class FakeProducer:
    """Takes events; raises the errors it was given first; waits while it is held.

    Attributes:
        sent: what was taken, with partition and count of partitions.
        tries: the same, whether it was taken or not.
        errors: raised by the next calls, one each.
        may_send: cleared, it holds every call.
    """

    def __init__(self):
        self.sent = []
        self.tries = []
        self.errors = []
        self.may_send = asyncio.Event()
        self.may_send.set()

    async def send(self, emitted, partition, partitions=None):
        self.tries.append((list(emitted), partition, partitions))
        await self.may_send.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.sent.append(self.tries[-1])


@pytest.fixture
async def producer():
    """A producer that only notes what it sends."""
    return FakeProducer()
