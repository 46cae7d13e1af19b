"""Every exception of aiopype.

    AiopypeError
        ConfigurationError      a setting or the user's program is wrong
            GraphError          managers, components and subscriptions do not fit together
            TargetError         `aiopype run TARGET` does not lead to a flow
        BrokerError             the embedded or configured broker cannot be used
        CodecError              an event's value cannot be encoded or decoded
        EmitError               emit where it is not possible
            OutboxFull          no room for another event of a source
        HandlerError            a handler raised
        DeliveryError           outputs could not be made durable; their batch is tried again
            OutputRefused       the broker refuses a record for good: trying again is useless
        OwnershipLost           this worker no longer owns the partition it worked for
        WorkerError             the worker could not go on, or did not stop in time

Foreign errors are translated once, at the boundary, with `from`.
"""

__all__ = [
    "AiopypeError",
    "BrokerError",
    "CodecError",
    "ConfigurationError",
    "DeliveryError",
    "EmitError",
    "GraphError",
    "HandlerError",
    "OutboxFull",
    "OutputRefused",
    "OwnershipLost",
    "TargetError",
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


class BrokerError(AiopypeError):
    """The broker, embedded or configured, cannot be started, reached or used."""


class CodecError(AiopypeError):
    """An event's arguments cannot be encoded, or a value cannot be decoded."""


class EmitError(AiopypeError):
    """An event was emitted where that is not possible."""


class OutboxFull(EmitError):
    """A source's outbox has no room; `await emit_async(...)` waits for it."""


class HandlerError(AiopypeError):
    """A handler raised; the cause is its own exception."""


class DeliveryError(AiopypeError):
    """Outputs could not be made durable in time; the batch is read and handled again."""


class OutputRefused(DeliveryError):
    """The broker refuses a record for good, for example as too large."""


class OwnershipLost(AiopypeError):
    """The partition belongs to another worker by now; its batch is dropped uncommitted."""


class WorkerError(AiopypeError):
    """The worker could not go on, or did not stop in time; what is not committed is done again."""
