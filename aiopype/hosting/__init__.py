"""A flow as a Faust app: which services it has, in which order they start and stop.

Here, and in `transport`, is all that knows of Faust.
"""

from aiopype.hosting.app import FlowApp, build_app

__all__ = ["FlowApp", "build_app"]
