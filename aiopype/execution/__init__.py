"""Handlers over events: one by one, several at once, in threads; what came of them is a value.

What becomes of a failure is not here (`settlement`), nor where records come from (`transport`).
"""

from aiopype.execution.outcome import Failure, Outcome
from aiopype.execution.runs import run, run_async, run_batch
from aiopype.execution.thread_pool import DaemonThreads

__all__ = ["DaemonThreads", "Failure", "Outcome", "run", "run_async", "run_batch"]
