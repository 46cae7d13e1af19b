"""Sources to build pipelines on: each a way to get data, one a file.

What a source may do, and when it is called, is said at `aiopype.Source`.
"""

from aiopype.sources.clock import TimeSource
from aiopype.sources.rest import RestSource

__all__ = ["RestSource", "TimeSource"]
