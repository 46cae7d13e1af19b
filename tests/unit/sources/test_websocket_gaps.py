"""What a `WebsocketSource` says of the time in which it saw nothing, and how it is filled."""

import asyncio
import json

import pytest

from aiopype import Processor, SyncProtocol
from aiopype.inputs import RawInput
from aiopype.sources import backfills, gaps
from aiopype.sources.gaps import Gap
from aiopype.sources.websocket import WebsocketSource

from .websocket_servers import (
    QUICK,
    QuickClock,
    Server,
    closes,
    emitted,
    messages,
    names,
    running,
    sends,
    stays,
    without_time,
)


class Numbers(WebsocketSource):
    """Messages are `{"n": n}`; a back-fill is what the test says: numbers, or an error to raise."""

    def __init__(self, name, handler, url, options, fills=()):
        super().__init__(name, handler, url, QUICK | options)
        self.clock = QuickClock()
        self.fills = list(fills)
        self.gaps = []

    def position_of(self, message):
        return message["n"]


class Filled(Numbers):
    async def backfill(self, gap):
        self.gaps.append(gap)
        for item in self.fills.pop(0) if self.fills else ():
            if isinstance(item, Exception):
                raise item
            if callable(item):
                await item()
            else:
                yield {"n": item} if isinstance(item, int) else item


def send_numbers(*numbers, then=None):
    return sends(*({"n": n} for n in numbers), then=then)


def numbers(recorder):
    return [message["n"] for message in messages(recorder)]


def gaps_of(recorder):
    return [gap for (gap,) in emitted(recorder, "gap")]


def stored(recorder):
    return json.loads(recorder.positions["m.feed"])


@pytest.fixture
def together(recorder):
    """The names of the events that became durable together, a list for each time."""
    found = []
    emit_all = recorder.emit_all

    async def keep(component, events, position):
        found.append([topic.event for topic, *_ in events])
        await emit_all(component, events, position)

    recorder.emit_all = keep
    return found


# --- gaps


async def test_the_first_connection_has_no_gap_before_it(recorder, until):
    async with Server(send_numbers(1)).running() as server:
        source = Numbers("m.feed", recorder, server.url, {})
        async with running(source):
            await until(lambda: messages(recorder))

    assert names(recorder) == ["connected", "message"]


async def test_a_gap_reaches_from_the_last_message_to_the_next_connection(recorder, until):
    taped = []
    server = Server(send_numbers(1, 2, then=closes), send_numbers(5))
    async with server.running():
        source = Numbers("m.feed", recorder, server.url, {})
        source.tap = lambda _, raw: taped.append(raw)
        async with running(source):
            await until(lambda: numbers(recorder) == [1, 2, 5])

    assert names(recorder) == [
        "connected", "message", "message", "disconnected", "connected", "gap", "message",
    ]  # fmt: skip
    assert gaps_of(recorder) == [
        {
            "from": taped[2].at,
            "to": taped[4].at,
            "position": 2,
            "reason": "the other side closed it with 1001: going away",
            "filled": False,
            "messages": 0,
        }
    ]


async def test_where_no_message_came_the_gap_begins_with_the_connection(recorder, until):
    taped = []
    async with Server(closes, stays).running() as server:
        source = Numbers("m.feed", recorder, server.url, {})
        source.tap = lambda _, raw: taped.append(raw)
        async with running(source):
            await until(lambda: gaps_of(recorder))

    (gap,) = gaps_of(recorder)
    assert (gap["from"], gap["to"], gap["position"]) == (taped[0].at, taped[2].at, None)


async def test_a_source_that_was_stopped_or_moved_has_a_gap_too(recorder, until):
    async with Server(send_numbers(1), send_numbers(4)).running() as server:
        async with running(Numbers("m.feed", recorder, server.url, {})):
            await until(lambda: numbers(recorder) == [1])
        before = stored(recorder)
        source = Numbers("m.feed", SyncProtocol(), server.url, {})
        source.handler = recorder
        async with running(source):
            await until(lambda: numbers(recorder) == [1, 4])

    (gap,) = gaps_of(recorder)
    assert gap["from"] == before["at"]
    assert gap["position"] == 1
    assert gap["reason"] == "the source was started anew"


async def test_after_a_gap_the_place_is_its_end(recorder, until):
    async with (
        Server(send_numbers(1, then=closes), stays).running() as server,
        running(Numbers("m.feed", recorder, server.url, {})),
    ):
        await until(lambda: gaps_of(recorder))

    assert stored(recorder) == {"at": gaps_of(recorder)[0]["to"], "position": 1}


async def test_a_clock_that_was_set_back_makes_no_negative_gap(recorder, until):
    async with Server(send_numbers(1)).running() as server:
        recorder.positions["m.feed"] = b'{"at":99999999999.0}'
        async with running(Numbers("m.feed", recorder, server.url, {})):
            await until(lambda: messages(recorder))

    (gap,) = gaps_of(recorder)
    assert gap["from"] == gap["to"] == 99999999999.0


async def test_a_handler_can_ask_for_a_gap_as_such(until):
    class Keeper(Processor):
        def keep(self, gap: Gap):
            kept.append(gap)

    kept = []
    protocol = SyncProtocol()
    async with Server(closes, stays).running() as server:
        source = Numbers("m.feed", protocol, server.url, {})
        source.on("gap", Keeper("m.keeper", protocol).keep)
        async with running(source):
            await until(lambda: kept)

    assert isinstance(kept[0], Gap)
    assert kept[0].seconds == kept[0].end - kept[0].start >= 0


# --- back-fills


async def test_a_backfill_comes_before_the_live_messages(recorder, until):
    server = Server(send_numbers(1, then=closes), send_numbers(5, 6))
    async with server.running():
        source = Filled("m.feed", recorder, server.url, {}, [[2, 3, 4]])
        async with running(source):
            await until(lambda: len(numbers(recorder)) == 6)

    assert numbers(recorder) == [1, 2, 3, 4, 5, 6]
    (gap,) = gaps_of(recorder)
    assert (gap["filled"], gap["messages"]) == (True, 3)
    assert source.gaps == [Gap(gap["from"], gap["to"], 1, gap["reason"])]


async def test_live_messages_wait_for_the_end_of_a_backfill(recorder, until):
    async def live_has_come():
        await server.connections[1].send('{"n": 9}')
        await server.connections[1].ping()
        await asyncio.sleep(0.05)
        assert numbers(recorder) == [1]

    server = Server(send_numbers(1, then=closes), stays)
    async with server.running():
        source = Filled("m.feed", recorder, server.url, {}, [[live_has_come, 2]])
        async with running(source):
            await until(lambda: len(numbers(recorder)) == 3)

    assert numbers(recorder) == [1, 2, 9]


async def test_a_server_is_answered_during_a_backfill(recorder, until):
    async def answered():
        await asyncio.wait_for(await server.connections[1].ping(), 5)

    server = Server(send_numbers(1, then=closes), stays)
    async with server.running():
        source = Filled("m.feed", recorder, server.url, {}, [[answered, 2]])
        async with running(source):
            await until(lambda: gaps_of(recorder))

    assert gaps_of(recorder)[0]["filled"] is True


async def test_what_comes_twice_is_dropped(recorder, until):
    server = Server(send_numbers(1, 2, 3, then=closes), send_numbers(5, 4, 6, 5))
    async with server.running():
        source = Filled("m.feed", recorder, server.url, {}, [[2, 3, 4, 4, 5]])
        async with running(source):
            await until(lambda: 6 in numbers(recorder))

    assert numbers(recorder) == [1, 2, 3, 4, 5, 6]
    assert gaps_of(recorder)[0]["messages"] == 2


async def test_the_last_message_before_a_move_is_not_emitted_again(recorder, until):
    recorder.positions["m.feed"] = b'{"at":1.0,"position":3}'
    async with Server(stays).running() as server:
        source = Filled("m.feed", recorder, server.url, {}, [[3, 4]])
        async with running(source):
            await until(lambda: gaps_of(recorder))

    assert numbers(recorder) == [4]


async def test_long_after_a_gap_messages_are_not_compared_with_it(recorder, until, monkeypatch):
    monkeypatch.setattr(gaps, "OVERLAP_SECONDS", -1.0)
    server = Server(send_numbers(1, then=closes), send_numbers(2, 3))
    async with server.running():
        source = Filled("m.feed", recorder, server.url, {}, [[2]])
        async with running(source):
            await until(lambda: 3 in numbers(recorder))

    assert numbers(recorder) == [1, 2, 2, 3]


async def test_a_backfill_by_time_may_repeat_what_the_one_before_it_had(recorder, until):
    async def lost():
        await until(lambda: server.connections[1].close_code)

    server = Server(send_numbers(1, then=closes), closes, send_numbers(9))
    async with server.running():
        source = Filled("m.feed", recorder, server.url, {}, [[2, 3, 4, lost], [3, 4, 5]])
        async with running(source):
            await until(lambda: 9 in numbers(recorder))

    assert numbers(recorder) == [1, 2, 3, 4, 5, 9]


async def test_behind_a_backfill_too_long_to_be_known_live_messages_come_by_another_one(
    recorder, until, monkeypatch
):
    async def live_has_come():
        await server.connections[1].ping()
        await asyncio.sleep(0.05)

    monkeypatch.setattr(gaps, "FILLED", 3)
    server = Server(send_numbers(1, then=closes), send_numbers(4, 5, 6), send_numbers(9))
    async with server.running():
        fills = [[2, 3, live_has_come, 4, 5, 6, 7], [8]]
        options = {"exception_threshold": 2}  # one for the connection that was closed
        source = Filled("m.feed", recorder, server.url, options, fills)
        async with running(source):
            await until(lambda: 9 in numbers(recorder))

    assert numbers(recorder) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [gap.position for gap in source.gaps] == [1, 7]
    assert all(gap["filled"] for gap in gaps_of(recorder))


async def test_without_positions_nothing_is_dropped(recorder, until):
    class Plain(Filled):
        position_of = WebsocketSource.position_of

    server = Server(send_numbers(1, then=closes), send_numbers(2))
    async with server.running():
        source = Plain("m.feed", recorder, server.url, {}, [[1, 2]])
        async with running(source):
            await until(lambda: len(numbers(recorder)) == 4)

    assert numbers(recorder) == [1, 1, 2, 2]


async def test_a_backfill_its_gap_and_the_position_are_durable_together(recorder, until, together):
    server = Server(send_numbers(1, then=closes), stays)
    async with server.running():
        source = Filled("m.feed", recorder, server.url, {}, [[2, 3]])
        async with running(source):
            await until(lambda: gaps_of(recorder))

    assert together == [["message", "message", "gap"]]
    assert stored(recorder) == {"at": gaps_of(recorder)[0]["to"], "position": 3}


async def test_a_long_backfill_is_durable_part_by_part(recorder, until, together, monkeypatch):
    async def remembered():
        places.append(stored(recorder))

    monkeypatch.setattr(backfills, "PART_MESSAGES", 2)
    places = []
    server = Server(send_numbers(1, then=closes), stays)
    async with server.running():
        source = Filled(
            "m.feed", recorder, server.url, {}, [[2, 3, remembered, 4, 5, remembered, 6]]
        )
        async with running(source):
            await until(lambda: gaps_of(recorder))

    assert together == [["message", "message"], ["message", "message"], ["message", "gap"]]
    start = gaps_of(recorder)[0]["from"]
    assert places == [{"at": start, "position": 3}, {"at": start, "position": 5}]


async def test_a_large_backfill_is_cut_by_its_bytes_too(recorder, until, together, monkeypatch):
    monkeypatch.setattr(backfills, "PART_BYTES", 1)
    server = Server(send_numbers(1, then=closes), stays)
    async with server.running():
        source = Filled("m.feed", recorder, server.url, {}, [[2, 3]])
        async with running(source):
            await until(lambda: gaps_of(recorder))

    assert together == [["message"], ["message"], ["gap"]]


async def test_items_may_be_frames_as_they_came(recorder, until):
    class Doubled(Filled):
        def parse(self, frame):
            return {"n": json.loads(frame)["n"] * (2 if isinstance(frame, str) else 3)}

    server = Server(send_numbers(1, then=closes), stays)
    async with server.running():
        fills = [['{"n": 10}', b'{"n": 10}', 7, "<html>", b"\xff"]]
        async with running(Doubled("m.feed", recorder, server.url, {}, fills)):
            await until(lambda: gaps_of(recorder))

    assert numbers(recorder) == [2, 20, 30, 7]
    assert len(emitted(recorder, "error")) == 2
    assert gaps_of(recorder)[0]["messages"] == 3


# --- back-fills that fail


async def test_a_backfill_that_failed_goes_on_behind_what_was_emitted(
    recorder, until, monkeypatch, caplog
):
    monkeypatch.setattr(backfills, "PART_MESSAGES", 2)
    server = Server(send_numbers(1, then=closes), send_numbers(9))
    async with server.running():
        fills = [[2, 3, 4, OSError("busy")], [4, 5]]
        options = {"first_delay_seconds": 1.0, "last_delay_seconds": 2.0}
        source = Filled("m.feed", recorder, server.url, options, fills)
        async with running(source):
            await until(lambda: 9 in numbers(recorder))

    assert numbers(recorder) == [1, 2, 3, 4, 5, 9]
    assert [gap.position for gap in source.gaps] == [1, 3]
    (gap,) = gaps_of(recorder)
    assert (gap["filled"], gap["messages"]) == (True, 4)
    assert source.clock.waited[-1] == pytest.approx(1.0, abs=0.21)
    assert "the back-fill failed: OSError: busy" in caplog.text


async def test_of_a_part_that_failed_nothing_is_emitted(recorder, until):
    server = Server(send_numbers(1, then=closes), stays)
    async with server.running():
        source = Filled("m.feed", recorder, server.url, {}, [[2, OSError()], []])
        async with running(source):
            await until(lambda: gaps_of(recorder))

    assert numbers(recorder) == [1]


async def test_a_backfill_that_fails_for_good_leaves_the_gap_and_live_goes_on(
    recorder, until, caplog
):
    server = Server(send_numbers(1, then=closes), send_numbers(9))
    async with server.running():
        fills = [[2, OSError("busy")]] * 4
        source = Filled("m.feed", recorder, server.url, {"backfill_attempts": 3}, fills)
        errors = []
        source.vitals.begin(errors.append)
        async with running(source):
            await until(lambda: 9 in numbers(recorder))

    assert len(source.gaps) == 3
    assert [type(error).__name__ for error in errors] == ["ConnectionLost", *["OSError"] * 3]
    assert (source.vitals.ok, source.vitals.failures) == (2, 0)
    (gap,) = gaps_of(recorder)
    assert (gap["filled"], gap["messages"]) == (False, 0)
    assert numbers(recorder) == [1, 9]
    assert "failed 3 times, the gap stays: OSError: busy" in caplog.text


async def test_an_item_that_does_not_come_is_an_error(recorder, until, caplog):
    async def hangs():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    ended = []
    options = {"backfill_seconds": 0.05, "backfill_attempts": 1}
    server = Server(send_numbers(1, then=closes), stays)
    async with server.running():
        source = Filled("m.feed", recorder, server.url, options, [[hangs, 2]])
        async with running(source):
            await until(lambda: gaps_of(recorder))

    assert ended == [True]
    assert gaps_of(recorder)[0]["filled"] is False
    assert "the gap stays: TimeoutError: nothing came for 0.05 s" in caplog.text


async def test_a_time_limit_of_the_backfill_itself_is_told_as_it_is(recorder, until, caplog):
    server = Server(send_numbers(1, then=closes), stays)
    async with server.running():
        fills = [[TimeoutError("their limit")]]
        source = Filled("m.feed", recorder, server.url, {"backfill_attempts": 1}, fills)
        async with running(source):
            await until(lambda: gaps_of(recorder))

    assert "the gap stays: TimeoutError: their limit" in caplog.text


async def test_an_item_that_has_no_json_form_is_an_error_of_the_backfill(recorder, until):
    server = Server(send_numbers(1, then=closes), stays)
    async with server.running():
        source = Filled(
            "m.feed", recorder, server.url, {"backfill_attempts": 1}, [[{"n": object()}]]
        )
        async with running(source):
            await until(lambda: gaps_of(recorder))

    assert gaps_of(recorder)[0]["filled"] is False


async def test_what_publish_raises_in_a_backfill_fails_the_source(recorder, monkeypatch):
    class Failing(Filled):
        async def publish(self, message, key):
            raise LookupError("no such thing")

        def backfill(self, gap):
            self.gaps.append(gap)
            kept.append(self.items())
            return kept[0]

        async def items(self):
            try:
                yield {"n": 4}
                yield {"n": 5}
            finally:
                ended.append(True)

    monkeypatch.setattr(backfills, "PART_MESSAGES", 1)
    kept, ended = [], []
    recorder.positions["m.feed"] = b'{"at":1.0,"position":3}'
    async with Server(stays).running() as server:
        source = Failing("m.feed", recorder, server.url, {})
        with pytest.raises(LookupError):
            await asyncio.wait_for(source.start(), 5)

    assert len(source.gaps) == 1
    assert ended == [True]


async def test_a_connection_that_is_lost_during_a_backfill_is_made_again_after_it(recorder, until):
    async def lost():
        await until(lambda: server.connections[1].close_code)

    server = Server(send_numbers(1, then=closes), send_numbers(5, then=closes), send_numbers(8))
    async with server.running():
        source = Filled("m.feed", recorder, server.url, {}, [[2, lost, 3], [6, 7]])
        async with running(source):
            await until(lambda: 8 in numbers(recorder))

    assert numbers(recorder) == [1, 2, 3, 5, 6, 7, 8]
    assert [gap["messages"] for gap in gaps_of(recorder)] == [2, 2]
    closed = "the other side closed it with 1001: going away"
    assert emitted(recorder, "disconnected") == [(closed,)] * 2


async def test_live_frames_that_wait_are_bounded(recorder, until, monkeypatch):
    async def stalled():
        before = None
        while before != len(sent):
            before = len(sent)
            await asyncio.sleep(0.1)

    async def floods(connection, received):
        for n in range(2_000):
            await connection.send(json.dumps({"n": 100 + n, "text": "a" * 10_000}))
            sent.append(n)
        await stays(connection, received)

    monkeypatch.setattr(backfills, "HELD_BYTES", 100_000)
    sent, at_end = [], []
    server = Server(send_numbers(1, then=closes), floods)
    async with server.running():
        fills = [[stalled, lambda: asyncio.sleep(0, at_end.append(len(sent))), 2]]
        source = Filled("m.feed", recorder, server.url, {}, fills)
        async with running(source):
            await until(lambda: len(numbers(recorder)) == 2_002)

    assert at_end[0] < 2_000
    assert numbers(recorder) == [1, 2, *range(100, 2_100)]


async def test_a_backfill_is_cleaned_up_when_the_source_is_stopped(recorder, until):
    class Waiting(Numbers):
        async def backfill(self, gap):
            try:
                yield {"n": 2}
                began.set()
                await asyncio.sleep(60)
            finally:
                ended.append(True)

    began, ended = asyncio.Event(), []
    recorder.positions["m.feed"] = b'{"at":1.0}'
    async with (
        Server(stays).running() as server,
        running(Waiting("m.feed", recorder, server.url, {})),
    ):
        await began.wait()

    assert ended == [True]


async def test_what_was_not_durable_is_not_taken_for_known_after_a_failure(recorder, until):
    server = Server(send_numbers(1, 2, 3), send_numbers(4))
    async with server.running():
        source = Filled("m.feed", recorder, server.url, {}, [[2, 3]])
        async with running(source):
            await until(lambda: numbers(recorder) == [1, 2, 3])
        recorder.sent.clear()
        recorder.positions["m.feed"] = b'{"at":1.0,"position":1}'
        async with running(source):
            await until(lambda: 4 in numbers(recorder))

    assert numbers(recorder) == [2, 3, 4]


# --- recordings


async def test_a_recording_of_a_backfill_leads_to_the_same_events(recorder, until):
    taped = []
    server = Server(send_numbers(1, then=closes), send_numbers(3, 4))
    async with server.running():
        fills = [[2, OSError()], [2, 3]]
        source = Filled("m.feed", recorder, server.url, {}, fills)
        source.tap = lambda _, raw: taped.append(raw)
        async with running(source):
            await until(lambda: 4 in numbers(recorder))
    live, recorder.sent = recorder.sent, []

    again = Filled("m.again", recorder, server.url, {})
    for raw in taped:
        await again.receive(raw)

    def events(sent):
        return [without_time(entry)[1:] for entry in sent]

    assert events(recorder.sent) == events(live)
    assert again.gaps == []


async def test_a_recording_that_begins_in_a_backfill_can_be_played(recorder):
    source = Filled("m.feed", recorder, "ws://localhost", {})

    for raw in (
        RawInput("backfill", b'{"n":2}', 1.0, {"parsed": True}),
        RawInput("backfilled", b"", 1.0, {"filled": True}),
        RawInput("frame", b'{"n":3}', 1.0),
    ):
        await source.receive(raw)

    assert names(recorder) == ["message", "message"]
