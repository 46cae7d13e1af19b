"""What the sources that tick have in common: schedules, missed instants, runs that overlap.

The sources themselves, with what a user gives them, are beside this package.
"""

from aiopype.sources.ticks.options import TickOptions
from aiopype.sources.ticks.source import TickingSource

__all__ = ["TickOptions", "TickingSource"]
