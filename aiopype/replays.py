"""Dead letters that an operator has run again: the component each manager has for it on Kafka.

Its event `request` carries what operators decided, in the topic `<manager>.replays.request`: the
worker that owns the partition runs the replays, and the commands read there which letter is
settled. So nothing but the topics is needed, and commands work beside running workers.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal, NamedTuple

import msgspec

from aiopype.dead_letters import DeadLetter, Origin, encode, letter_of, to_emit
from aiopype.emitter import MessageHandler, current_outbox
from aiopype.errors import GraphError, HandlerError
from aiopype.event import Emitted
from aiopype.execution import Failure, run_async
from aiopype.graph import Graph, Subscription, manager_of
from aiopype.logs import about
from aiopype.processor import Processor
from aiopype.retry import Retry
from aiopype.topics import ERROR, LARGEST_BYTES, TopicSpec

__all__ = ["REQUEST", "Decision", "Place", "ReplayRequest", "Replays", "is_replays", "replays_of"]

#: The event that carries what operators decided about dead letters.
REQUEST = "request"

#: An error topic takes twice the largest record of what failed, and a letter in a request may have
#: the whole original again where it was cut; in base64 that is four thirds of it.
REQUEST_BYTES = 4 * LARGEST_BYTES

#: What this component needs for itself, beside the handler that it runs.
MARGIN_SECONDS = 5.0


class Place(NamedTuple):
    """Where a dead letter stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}] offset {self.offset}"


class Decision(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What an operator decided; decoded alone where the letter itself is not needed.

    Attributes:
        do: `replay` runs the event again, `discard` only marks the letters.
        letters: those it is about; of a replay, one.
    """

    do: Literal["replay", "discard"]
    letters: tuple[Place, ...]


class ReplayRequest(Decision, kw_only=True, omit_defaults=True):
    """The value of a request.

    Attributes:
        letter: of a replay, with the original's whole value.
    """

    letter: DeadLetter | None = None


def replays_of(manager: str) -> str:
    """Return the full name of the component that runs the replays of a manager."""
    return f"{manager}.replays"


def is_replays(component: str) -> bool:
    """Say whether a full name is that of such a component; none of the user's may have it."""
    return component == replays_of(manager_of(component))


class Replays(Processor):
    """Runs the originals of dead letters again, each through the subscription that failed.

    What the handler emits leaves with the original's key and a new timestamp, together with the
    offset of the request, as with any event. When it fails again, nothing of it leaves, and a
    new dead letter of the same original says so.

    Arguments:
        name: from `replays_of`.
        handler: the flow's protocol.
        graph: where the subscriptions are found; build this after the manager's own components.

    Raises:
        GraphError: another component has the name.
    """

    #: Who asked for the replay asks again if it fails.
    retry = Retry(tries=1)

    def __init__(self, name: str, handler: MessageHandler, graph: Graph) -> None:
        super().__init__(name, handler)
        self._graph = graph
        self.on(REQUEST, self.replay)
        topic = handler.topic(name, REQUEST)
        topic.spec = _for_requests(topic.spec)
        mine = [c for c in handler.components if manager_of(c.name) == manager_of(name)]
        self.timeout_seconds = max(c.timeout_seconds for c in mine) + MARGIN_SECONDS

    async def replay(self, request: ReplayRequest) -> None:
        """Run the original of a letter; what goes wrong becomes another letter."""
        letter, outbox = request.letter, current_outbox.get()
        if request.do != "replay" or letter is None or outbox is None:
            return
        which = f"{', '.join(map(str, request.letters))} through {letter.subscription}"
        target = self._find(letter.subscription)
        if target is None:
            outbox.emitted.append(self._homeless(letter, outbox.key))
            text = "replay of %s was not run: there is no such subscription"
            self.logger.warning(text, which, extra=about(apart=which))
            return
        outcome = await run_async(target, _Original.of(letter, outbox.key, outbox.timestamp))
        if not outcome.failures:
            # The number of a request's partition is that of the original's, where it can be.
            keeps = target.topic.foreign is None
            outbox.emitted += [(*event[:4], event[4] and keeps) for event in outcome.emitted]
            self.logger.info("replay of %s is done", which)
            return
        failure = outcome.failures[0]
        outbox.emitted.append(_failed_again(letter, failure, outbox.key))
        text = "replay of %s has failed again: %s"
        self.logger.warning(text, which, failure, extra=about(apart=which))

    def _find(self, name: str | None) -> Subscription | None:
        subscribed = (s for _, subscriptions in self._graph.subscribed() for s in subscriptions)
        return next((s for s in subscribed if s.name == name), None)

    def _homeless(self, letter: DeadLetter, key: bytes | None) -> Emitted:
        """Return the letter of a replay that no subscription could take."""
        again = msgspec.structs.replace(
            letter,
            error=f"{GraphError.__module__}.{GraphError.__name__}",
            message=f"there is no subscription {letter.subscription!r} any more; nothing was run",
            traceback="",
            at_ms=int(time.time() * 1000),
            replays=letter.replays + 1,
        )
        # A component that is no more has no topic for its errors that anybody would look into.
        is_known = letter.component in self._graph.components
        found = self._graph.find(letter.component, ERROR) if is_known else None
        topic = found or self.handler.topic(self.name, ERROR)
        return (topic, key, encode(again, topic.largest), again.at_ms, True)


def _for_requests(spec: TopicSpec) -> TopicSpec:
    configs = {"max.message.bytes": str(REQUEST_BYTES), **spec.configs}
    if "compact" in configs.get("cleanup.policy", ""):
        # A manager's default, perhaps. Of two letters with one key, the first would be open again.
        configs["cleanup.policy"] = "delete"
    return replace(spec, configs=configs)


class _Original(NamedTuple):
    """The event of a letter as a record."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    @classmethod
    def of(cls, letter: DeadLetter, key: bytes | None, timestamp: int) -> _Original:
        return cls(letter.offset or 0, timestamp, key, letter.value, letter.headers)


def _failed_again(letter: DeadLetter, failure: Failure, key: bytes | None) -> Emitted:
    target = failure.subscription
    timestamp = failure.record.timestamp if letter.timestamp_ms is None else letter.timestamp_ms
    original = _Original.of(letter, key, timestamp)
    again = letter_of(
        target,
        original,
        failure.error or HandlerError("it was not run"),
        origin=Origin(letter.topic or target.topic.name, letter.partition),
        tries=letter.tries + 1,
        replays=letter.replays + 1,
    )
    return to_emit(target, original, again)
