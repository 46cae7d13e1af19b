"""Every exception of aiopype.

    AiopypeError
        ConfigurationError      a setting or the user's program is wrong
            GraphError          managers, components and subscriptions do not fit together
            TargetError         `aiopype run TARGET` does not lead to a flow
            RecordingError      a recording cannot be written, read or played
        BrokerError             the embedded or configured broker cannot be used
        CodecError              an event's value cannot be encoded or decoded
        EmitError               emit where it is not possible
            OutboxFull          no room for another event of a source
            OutputTooLarge      the event's topic takes no record of that size
        SourceError             a source cannot go on as it is
            CircuitOpen         its upstream fails again and again: it is left alone for a while
            SourceSilent        it is connected, and nothing comes
            SourceFenced        another flow of the same name has the same source
            StateCorrupt        its stored position cannot be read
        HandlerError            a handler raised
            TemporaryError      raised by a handler: try this event again, after a while
            PermanentError      raised by a handler: trying this event again is useless
        DeliveryError           outputs could not be made durable; their batch is tried again
            OutputRefused       the broker refuses a record for good: trying again is useless
        OwnershipLost           this worker no longer owns the partition it worked for
        WorkerError             the worker could not go on, or did not stop in time

Foreign errors are translated once, at the boundary, with `from`.
"""

from typing import ClassVar

__all__ = [
    "AiopypeError",
    "BrokerError",
    "CircuitOpen",
    "CodecError",
    "ConfigurationError",
    "DeliveryError",
    "EmitError",
    "GraphError",
    "HandlerError",
    "OutboxFull",
    "OutputRefused",
    "OutputTooLarge",
    "OwnershipLost",
    "PermanentError",
    "RecordingError",
    "SourceError",
    "SourceFenced",
    "SourceSilent",
    "StateCorrupt",
    "TargetError",
    "TemporaryError",
    "WorkerError",
]


class AiopypeError(Exception):
    """The base of all errors that aiopype raises."""


class ConfigurationError(AiopypeError):
    """A setting or the user's program is wrong; the text says which and what to do."""


class GraphError(ConfigurationError):
    """Managers, components and subscriptions do not fit together."""


class TargetError(ConfigurationError):
    """A target names no flow: no such file, module or attribute."""


class RecordingError(ConfigurationError):
    """A recording of sources cannot be written, or read, or does not fit the flow."""


class BrokerError(AiopypeError):
    """The broker, embedded or configured, cannot be started, reached or used."""


class CodecError(AiopypeError):
    """An event's arguments cannot be encoded, or a value cannot be decoded."""


class EmitError(AiopypeError):
    """An event was emitted where that is not possible."""


class OutboxFull(EmitError):
    """A source's outbox has no room; `await emit_async(...)` waits for it."""


class OutputTooLarge(EmitError):
    """An event is larger than its topic takes (`max.message.bytes`)."""


class SourceError(AiopypeError):
    """A source cannot go on as it is; it is started again as its `restarts` says.

    Attributes:
        is_hopeless: whether that is no use soon: it goes into quarantine at once.
        at_least_seconds: how long its upstream asked to be left alone.
    """

    is_hopeless: ClassVar[bool] = False
    at_least_seconds: float = 0.0


class CircuitOpen(SourceError):
    """The upstream failed too often in a row; the source is left alone for a while."""

    is_hopeless = True


class SourceSilent(SourceError):
    """Nothing came for longer than the source's `expect_every`."""


class SourceFenced(SourceError):
    """Another flow of the same name runs the same source on the same brokers."""

    is_hopeless = True


class StateCorrupt(SourceError):
    """What is stored of a source cannot be read, so that nobody knows where it was."""

    is_hopeless = True


class HandlerError(AiopypeError):
    """A handler raised; the cause is its own exception."""


class TemporaryError(HandlerError):
    """Raised by a handler whose event shall be tried again: `TemporaryError(30)`, or
    `TemporaryError("busy", delay=30)`.

    Arguments:
        args: what is the matter; a single number is the delay.
        delay: seconds until the next try; the component's back-off if not given. The bounds of the
            component's `retry` hold all the same.
    """

    def __init__(self, *args: object, delay: float | None = None) -> None:
        match args:
            case (int() | float() as number,):
                delay = float(number)
                args = (f"try again in {delay:g} s",)
        super().__init__(*args)
        self.delay = delay


class PermanentError(HandlerError):
    """Raised by a handler whose event will never succeed; it becomes a dead letter at once."""


class DeliveryError(AiopypeError):
    """Outputs could not be made durable in time; the batch is read and handled again."""


class OutputRefused(DeliveryError):
    """The broker refuses a record for good, for example as too large."""


class OwnershipLost(AiopypeError):
    """The partition belongs to another worker by now; its batch is dropped uncommitted."""


class WorkerError(AiopypeError):
    """The worker could not go on, or did not stop in time; what is not committed is done again."""
