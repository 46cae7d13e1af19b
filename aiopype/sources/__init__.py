"""Sources to build pipelines on: each a way to get data, one a file.

What a source may do, and when it is called, is said at `aiopype.Source`.
"""

from aiopype.sources.clock import (
    CronJob,
    HistoryTimeEmitter,
    OffsetCronJob,
    OffsetTimeSource,
    TimeSource,
)
from aiopype.sources.cron import CronSource
from aiopype.sources.file import FileSource
from aiopype.sources.gaps import Gap
from aiopype.sources.pusher import PusherMessage, PusherOptions, PusherSource
from aiopype.sources.pusher_client import PusherClientSource
from aiopype.sources.rest import RestSource
from aiopype.sources.rest_messages import Answer, Request
from aiopype.sources.rest_options import RestOptions
from aiopype.sources.socketio import SocketIOEvent, SocketIOOptions, SocketIOSource
from aiopype.sources.sse import SSEOptions, SSESource
from aiopype.sources.topic import TopicSource
from aiopype.sources.websocket import WebsocketOptions, WebsocketSource

__all__ = [
    "Answer",
    "CronJob",
    "CronSource",
    "FileSource",
    "Gap",
    "HistoryTimeEmitter",
    "OffsetCronJob",
    "OffsetTimeSource",
    "PusherClientSource",
    "PusherMessage",
    "PusherOptions",
    "PusherSource",
    "Request",
    "RestOptions",
    "RestSource",
    "SSEOptions",
    "SSESource",
    "SocketIOEvent",
    "SocketIOOptions",
    "SocketIOSource",
    "TimeSource",
    "TopicSource",
    "WebsocketOptions",
    "WebsocketSource",
]
