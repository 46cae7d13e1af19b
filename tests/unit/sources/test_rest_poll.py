import asyncio
import json
import logging

import msgspec
import pytest
from aiohttp import web

from aiopype.errors import CircuitOpen, CodecError, ConfigurationError, StateCorrupt
from aiopype.sources import RestSource, rest_poll

from .rest_server import PRICE, answer, tagged


def listing(**data):
    return web.json_response(data)


class Feed:
    """An API of numbered items: `?since=N&page=P`; a page has three, and says where the next is.

    Attributes:
        last: the number of the latest item.
        fails: by page, how often it fails before it comes.
    """

    def __init__(self, last=7):
        self.last = last
        self.fails = {}
        self.status = 500

    async def __call__(self, request):
        since, page = int(request.query.get("since", 0)), int(request.query.get("page", 1))
        if self.fails.get(page, 0):
            self.fails[page] -= 1
            return web.Response(status=self.status)
        first = since + 3 * (page - 1) + 1
        items = list(range(first, min(first + 3, self.last + 1)))
        response = listing(items=items)
        if first + 3 <= self.last:
            url = request.url.update_query(page=page + 1)
            response.headers["Link"] = f'<{url}>; rel="next"'
        return response


class Following(RestSource):
    def since_of(self, data, since):
        return max([since or 0, *data["items"]])


PAGED = {"items": "items", "pages": 10}


# --- conditional requests


async def test_an_answer_that_the_server_says_is_the_same_is_no_event(polling, api, until):
    api.modes = [tagged(b"[1]", '"a"')] * 5 + [tagged(b"[2]", '"b"')]
    run = polling(expect_every=100)

    await until(lambda: len(run.got) >= 2)
    assert run.data == [[1], [2]]
    assert [request.headers.get("If-None-Match") for request in api.requests[:7]] == [
        *[None, '"a"', '"a"', '"a"', '"a"', '"a"', '"b"']
    ][: len(api.requests)]
    assert run.letters == []


async def test_the_same_answer_is_a_sign_of_life(polling, api, until):
    api.modes = [tagged(b"[1]", '"a"')]
    run = polling(expect_every=100)

    await until(lambda: len(api.requests) >= 20)
    assert run.source.heard_at > run.clock.now - 100


async def test_what_the_server_knows_survives_a_restart(polling, api, until):
    api.modes = [tagged(b"[1]", '"a"')]
    first = polling()
    await until(lambda: len(first.got) >= 1)
    await first.stop()
    seen = len(api.requests)

    second = polling(position=first.position)

    await until(lambda: len(api.requests) >= seen + 2)
    assert second.got == []


async def test_last_modified_is_sent_too(polling, api, until):
    date = "Wed, 21 Oct 2015 07:00:00 GMT"
    api.modes = [answer(Last_Modified=date), "not_modified"]
    run = polling()

    await until(lambda: len(api.requests) >= 2)
    assert api.requests[1].headers["If-Modified-Since"] == date
    assert len(run.got) == 1


@pytest.mark.parametrize("options", [{"conditional": False}, {"method": "POST"}])
async def test_requests_are_conditional_only_where_they_can_and_may_be(
    polling, api, until, options
):
    api.modes = [tagged(b"[1]", '"a"')]
    run = polling(**options)

    await until(lambda: len(run.got) >= 3)
    assert run.position is None


async def test_an_etag_is_not_sent_for_another_request(polling, api, until):
    api.modes = [tagged(b"[1]", '"a"')]
    first = polling()
    await until(lambda: first.got)
    await first.stop()

    second = polling(position=first.position, params={"symbol": "AAPL"})

    await until(lambda: second.got)
    assert second.data == [[1]]


async def test_an_etag_too_long_for_a_position_is_not_kept(polling, api, until):
    api.modes = [tagged(b"[1]", '"' + "a" * 1_024 + '"')]
    run = polling()

    await until(lambda: len(run.got) >= 2)
    assert run.position is None


async def test_an_etag_does_not_stand_for_pages_beyond_the_first(polling, api, until):
    async def respond(request):
        if "page" in request.query:
            return await answer(b"[2]")(request)
        return await answer(b"[1]", ETag='"a"', Link='<?page=2>; rel="next"')(request)

    api.modes = [respond]
    run = polling(pages=2)

    await until(lambda: len(run.got) >= 4)
    assert run.data[:4] == [[1], [2], [1], [2]]
    assert not any("If-None-Match" in request.headers for request in api.requests)


# --- changed only


async def test_with_changed_only_an_equal_answer_is_no_event(polling, api, until):
    same = [answer(b'{"a": 1, "b": 2}'), answer(b'{"b":2,"a":1}')]
    api.modes = [*same, *same, answer(b'{"a": 1, "b": 3}'), same[0]]
    run = polling(changed_only=True)

    await until(lambda: len(run.got) >= 3)
    assert run.data[:3] == [{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1, "b": 2}]


async def test_what_was_last_survives_a_restart(polling, api, until):
    first = polling(changed_only=True)
    await until(lambda: first.got)
    await first.stop()
    seen = len(api.requests)

    second = polling(position=first.position, changed_only=True)

    await until(lambda: len(api.requests) >= seen + 3)
    assert second.got == []


async def test_an_error_between_two_equal_answers_changes_nothing(polling, api, until):
    api.modes = ["good", "status_500", "garbage", "good", "good", "good"]
    run = polling(changed_only=True)

    await until(lambda: len(api.requests) >= 6)
    assert run.data == [PRICE]


async def test_what_does_not_matter_can_be_left_out_of_the_comparison(polling, api, until):
    class Quoting(RestSource):
        def compared(self, data):
            return data["price"]

    api.modes = [answer(b'{"price": %d, "at": %d}' % (n // 3, n)) for n in range(9)]
    run = polling(Quoting, changed_only=True)

    await until(lambda: len(run.got) >= 3)
    assert [data["at"] for data in run.data[:3]] == [0, 3, 6]


async def test_of_several_pages_those_that_have_changed_are_events(polling, api, until):
    polls = iter([1, 1, 2, 2, 2])
    now = [0]

    async def respond(request):
        page = int(request.query.get("page", 1))
        if page == 1:
            now[0] = next(polls, 2)
        body = b"[%d, %d]" % (page, now[0] if page == 2 else 0)
        link = {} if page == 3 else {"Link": f'<?page={page + 1}>; rel="next"'}
        return await answer(body, **link)(request)

    api.modes = [respond]
    run = polling(changed_only=True, pages=5)

    await until(lambda: len(api.requests) >= 15)
    assert run.data == [[1, 0], [2, 1], [3, 0], [2, 2]]


async def test_a_page_that_was_away_is_an_event_when_it_is_back(polling, api, until):
    counts = iter([2, 1])

    async def respond(request):
        if "page" in request.query or next(counts, 2) == 1:
            return await answer(b"[2]" if "page" in request.query else b"[1]")(request)
        return await answer(b"[1]", Link='<?page=2>; rel="next"')(request)

    api.modes = [respond]
    run = polling(changed_only=True, pages=5)

    await until(lambda: len(api.requests) >= 9)
    assert run.data == [[1], [2], [2]]


# --- since


async def test_since_goes_into_the_next_request(polling, api, until):
    feed = Feed(last=3)
    api.modes = [feed]
    run = polling(Following, items="items")

    await until(lambda: len(api.requests) >= 2)
    feed.last = 5
    await until(lambda: len(run.got) >= 5)
    assert run.data == [1, 2, 3, 4, 5]
    assert api.queries[:2] == [{}, {"since": "3"}]


async def test_a_new_owner_goes_on_where_the_last_one_was(polling, api, until):
    api.modes = [Feed(last=3)]
    first = polling(Following, items="items")
    await until(lambda: len(first.got) == 3)
    await first.stop()
    seen = len(api.requests)
    api.modes[0].last = 4

    second = polling(Following, items="items", position=first.position)

    await until(lambda: second.got)
    assert second.data == [4]
    assert api.queries[seen] == {"since": "3"}


async def test_the_parameters_for_since_can_be_others(polling, api, until):
    class Named(Following):
        def params_since(self, since):
            return {"after": since or "begin"}

    api.modes = [answer(b'{"items": [1]}')]
    polling(Named)

    await until(lambda: len(api.requests) >= 2)
    assert api.queries[:2] == [{"after": "begin"}, {"after": "1"}]


async def test_no_error_moves_the_position(polling, api, until):
    api.modes = [Feed(last=3)]
    run = polling(Following, items="items")
    await until(lambda: len(api.requests) >= 3)
    await run.stop()
    before = run.position

    for mode in ["status_500", "garbage", "broken_off", "empty", "page_for_people", "not_modified"]:
        api.modes = [mode]
        again = polling(Following, position=before, exception_threshold=2)
        with pytest.raises(CircuitOpen):
            await asyncio.wait_for(again.task, 10)
        assert again.position == before


async def test_an_answer_that_since_cannot_be_read_from_is_a_dead_letter(polling, api, until):
    api.modes = [answer(b'{"status": "maintenance"}'), Feed()]
    run = polling(Following, items=None)

    await until(lambda: run.got)
    ((letter,),) = run.letters
    assert letter["error"] == "KeyError"
    assert "since_of" in letter["traceback"]


async def test_a_since_that_has_no_json_form_ends_it(polling, api):
    class Wrong(RestSource):
        def since_of(self, data, since):
            return object()

    with pytest.raises(CodecError, match="no JSON form"):
        await asyncio.wait_for(polling(Wrong).task, 10)


@pytest.mark.parametrize("position", [b"7", b'"a"', b'{"since": 1, "version": 9}', b'{"etag": 1}'])
async def test_a_position_that_is_none_of_its_own_is_not_passed_over(polling, position):
    with pytest.raises(StateCorrupt, match=r"the position of 'm\.source'"):
        await asyncio.wait_for(polling(position=position).task, 10)


# --- pages


async def test_all_pages_of_a_poll_are_asked_for_and_one_transaction(polling, api, until):
    api.modes = [Feed(last=7)]
    run = polling(Following, **PAGED)
    together = []
    emit_all = run.source.handler.emit_all

    async def noting(component, events, position):
        together.append(([json.loads(event[2])[0] for event in events], json.loads(position)))
        await emit_all(component, events, position)

    run.source.handler.emit_all = noting

    await until(lambda: len(run.got) >= 7)
    assert run.data == [1, 2, 3, 4, 5, 6, 7]
    assert together[0] == ([1, 2, 3, 4, 5, 6, 7], {"since": 7})
    assert api.queries[:3] == [{}, {"page": "2"}, {"page": "3"}]


async def test_without_the_option_there_are_no_pages(polling, api, until):
    api.modes = [Feed(last=7)]
    run = polling()

    await until(lambda: len(run.got) >= 2)
    assert run.data[:2] == [{"items": [1, 2, 3]}] * 2


async def test_a_page_can_be_asked_for_with_parameters(polling, api, until):
    class Cursors(RestSource):
        def next_page(self, data, answer):
            return {"cursor": data["next"]} if data["next"] else None

    async def respond(request):
        cursor = int(request.query.get("cursor", 0))
        return listing(items=[cursor], next=cursor + 1 if cursor < 2 else None)

    api.modes = [respond]
    run = polling(Cursors, params={"a": 1}, **PAGED)

    await until(lambda: len(run.got) >= 3)
    assert run.data[:3] == [0, 1, 2]
    assert api.queries[:3] == [{"a": "1"}, {"a": "1", "cursor": "1"}, {"a": "1", "cursor": "2"}]


async def test_without_a_since_no_more_pages_are_asked_for_than_the_option_says(
    polling, api, until
):
    api.modes = [Feed(last=100)]
    run = polling(items="items", pages=2)

    await until(lambda: len(run.got) >= 12)
    assert run.data[:12] == [1, 2, 3, 4, 5, 6] * 2


async def test_with_a_since_what_is_left_comes_with_the_next_poll(polling, api, until):
    api.modes = [Feed(last=14)]
    run = polling(Following, items="items", pages=2, request_interval=100)

    await until(lambda: len(run.got) >= 14)
    assert run.data == list(range(1, 15))
    assert api.queries[:5] == [{}, *({"page": str(page)} for page in range(2, 6))]
    assert run.clock.slept[:2] == [100, 100]


async def test_what_is_left_is_known_to_a_new_owner(polling, api, until):
    api.modes = [Feed(last=14)]
    first = polling(Following, items="items", pages=2)
    await until(lambda: len(first.got) >= 6)
    await first.stop()

    second = polling(Following, items="items", pages=2, position=first.position)

    await until(lambda: len(first.got + second.got) >= 14)
    assert first.data + second.data == list(range(1, 15))


async def test_a_page_that_fails_is_asked_for_again_and_none_before_it(polling, api, until):
    feed = Feed(last=7)
    feed.fails = {2: 2, 3: 1}
    api.modes = [feed]
    run = polling(Following, **PAGED)

    await until(lambda: len(run.got) >= 7)
    assert run.data == list(range(1, 8))
    assert [query.get("page", "1") for query in api.queries[:6]] == list("122233")


async def test_a_page_that_is_gone_begins_the_poll_anew(polling, api, until):
    feed = Feed(last=7)
    feed.fails, feed.status = {3: 1}, 410
    api.modes = [feed]
    run = polling(Following, **PAGED)

    await until(lambda: len(run.got) >= 7)
    assert run.data == list(range(1, 8))
    assert [query.get("page", "1") for query in api.queries[:6]] == list("123123")


async def test_a_poll_that_begins_anew_repeats_what_was_written_of_it(
    polling, api, until, monkeypatch
):
    monkeypatch.setattr(rest_poll, "PART_BYTES", 1)
    feed = Feed(last=7)
    feed.fails, feed.status = {3: 1}, 410
    api.modes = [feed]
    run = polling(Following, **PAGED)

    await until(lambda: len(run.got) >= 13)
    assert run.data == [1, 2, 3, 4, 5, 6, *range(1, 8)]


async def test_a_poll_that_fails_at_its_second_page_leaves_nothing(polling, api):
    feed = Feed(last=7)
    feed.fails = {2: 100}
    api.modes = [feed]
    run = polling(Following, exception_threshold=3, **PAGED)

    with pytest.raises(CircuitOpen):
        await asyncio.wait_for(run.task, 10)
    assert run.got == []
    assert run.position is None


async def test_a_page_that_cannot_be_read_begins_the_poll_anew(polling, api, until):
    class Fragile(Following):
        is_broken = True

        def since_of(self, data, since):
            if 4 in data["items"] and self.is_broken:
                self.is_broken = False
                raise LookupError
            return super().since_of(data, since)

    api.modes = [Feed(last=7)]
    run = polling(Fragile, **PAGED)

    await until(lambda: len(run.got) >= 7)
    assert run.data == list(range(1, 8))
    assert [query.get("page", "1") for query in api.queries[:5]] == list("12123")


async def test_the_end_of_the_pages_may_be_without_content(polling, api, until):
    async def respond(request):
        page = int(request.query.get("page", 1))
        if page == 3:
            return web.Response(status=204)
        return await answer(b"[%d]" % page, Link=f'<?page={page + 1}>; rel="next"')(request)

    api.modes = [respond]
    run = polling(pages=10)

    await until(lambda: len(run.got) >= 4)
    assert run.data[:4] == [[1], [2], [1], [2]]


@pytest.mark.parametrize(
    ("link", "text"),
    [
        ('<http://elsewhere.example/>; rel="next"', "the next page is at http://elsewhere.example"),
        ('<https://127.0.0.1/>; rel="next"', "override next_page"),
    ],
)
async def test_a_link_that_may_not_be_followed_is_refused(polling, api, link, text):
    api.modes = [answer(Link=link)]
    run = polling(pages=2, exception_threshold=1)

    with pytest.raises(CircuitOpen, match=text):
        await asyncio.wait_for(run.task, 10)
    assert len(api.requests) == 1


async def test_a_url_too_long_for_a_position_is_refused(polling, api):
    class Long(RestSource):
        def next_page(self, data, answer):
            return "?page=" + "2" * 8_200

    run = polling(Long, pages=2, exception_threshold=1)

    with pytest.raises(CircuitOpen, match=r"the URL of the next page has 8,2\d\d characters"):
        await asyncio.wait_for(run.task, 10)


async def test_a_page_that_leads_to_itself_is_refused(polling, api):
    api.modes = [answer(Link='<?page=2>; rel="next"')]
    run = polling(pages=10, exception_threshold=1)

    with pytest.raises(CircuitOpen, match="what has asked for this one"):
        await asyncio.wait_for(run.task, 10)
    assert len(api.requests) == 2


async def test_each_page_is_authorized_and_paced(polling, api, until, monkeypatch):
    pages, paced = [], []

    class Authorized(Following):
        async def authorize(self, request):
            pages.append(request.page)

    async def pace(self):
        paced.append(len(api.requests))

    monkeypatch.setattr(RestSource, "pace", pace)
    api.modes = [Feed(last=7)]
    run = polling(Authorized, **PAGED)

    await until(lambda: len(run.got) >= 7)
    assert pages[:3] == [1, 2, 3]
    assert paced[:3] == [0, 1, 2]


# --- many events


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(rest_poll, "PART_ITEMS", 4)


class Stumbling(Following):
    """Fails for good at an item, as a worker that is killed."""

    stop_at = None

    async def emit_item(self, item, answer):
        if item == self.stop_at:
            raise ConfigurationError("killed")
        await super().emit_item(item, answer)


@pytest.mark.parametrize("stop_at", range(1, 15))
async def test_a_poll_of_many_events_takes_several_transactions_each_with_a_position(
    polling, api, until, small_parts, stop_at
):
    api.modes = [Feed(last=14)]
    first = polling(type("First", (Stumbling,), {"stop_at": stop_at}), **PAGED)
    with pytest.raises(ConfigurationError, match="killed"):
        await asyncio.wait_for(first.task, 10)

    second = polling(Following, position=first.position, **PAGED)

    await until(lambda: len(first.got + second.got) >= 14)
    assert first.data + second.data == list(range(1, 15))
    assert len(first.got) >= (stop_at - 1) // 6 * 4


@pytest.mark.parametrize("stop_at", range(1, 12))
async def test_one_page_of_many_items_does_too(polling, api, until, small_parts, stop_at):
    api.modes = [answer(b'{"items": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]}'), "never"]
    first = polling(type("First", (Stumbling,), {"stop_at": stop_at}), items="items")
    with pytest.raises(ConfigurationError, match="killed"):
        await asyncio.wait_for(first.task, 10)
    assert first.data == list(range(1, 12))[: (stop_at - 1) // 4 * 4]
    api.modes = [api.modes[0]] * 2 + ["never"]

    second = polling(Following, position=first.position, items="items")

    await until(lambda: len(api.requests) >= 3)
    assert first.data + second.data == list(range(1, 12))


async def test_a_page_that_is_another_after_the_restart_is_taken_whole(
    polling, api, until, small_parts
):
    api.modes = [answer(b'{"items": [1, 2, 3, 4, 5, 6]}')]
    first = polling(type("First", (Stumbling,), {"stop_at": 6}), items="items")
    with pytest.raises(ConfigurationError, match="killed"):
        await asyncio.wait_for(first.task, 10)
    api.modes = [answer(b'{"items": [0, 1, 2, 3, 4, 5, 6]}')]

    second = polling(Following, position=first.position, items="items")

    await until(lambda: len(second.got) >= 7)
    assert (first.data, second.data[:7]) == ([1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6])


async def test_pages_that_are_large_together_are_written_as_they_come(
    polling, api, until, monkeypatch
):
    monkeypatch.setattr(rest_poll, "PART_BYTES", 1)
    feed = Feed(last=7)
    feed.fails = {3: 100}
    api.modes = [feed]
    run = polling(Following, exception_threshold=3, **PAGED)

    with pytest.raises(CircuitOpen):
        await asyncio.wait_for(run.task, 10)
    assert run.data == [1, 2, 3, 4, 5, 6]
    assert json.loads(run.position)["middle"]["page"] == 2


# --- items


async def test_items_can_be_emitted_under_other_names_and_keys(prepared, api, until, collector):
    class Quotes(RestSource):
        events = ("quote",)

        async def emit_item(self, item, answer):
            await self.emit_async("quote", item, key=item["symbol"])

    api.modes = [answer(b'[{"symbol": "AAPL"}, {"symbol": "MSFT"}]')]
    run = prepared(Quotes, items="")
    sink = collector("m.quotes", run.source.handler)
    run.source.on("quote", sink.take)

    run.task = asyncio.create_task(run.source.start())
    await until(lambda: len(sink.got) >= 2)
    await run.stop()
    assert sink.got[:2] == [({"symbol": "AAPL"},), ({"symbol": "MSFT"},)]


async def test_an_item_that_cannot_be_emitted_is_a_dead_letter_and_the_others_go_on(
    polling, api, until
):
    class Picky(Following):
        async def emit_item(self, item, answer):
            await super().emit_item(item, answer)
            if item == 2:
                raise LookupError("no such item")

    api.modes = [Feed(last=3)]
    run = polling(Picky, items="items")

    await until(lambda: len(api.requests) >= 2)
    assert run.data == [1, 3]
    ((letter,),) = run.letters
    assert (letter["value"], letter["message"]) == ("Mg==", "no such item")
    assert json.loads(run.position) == {"since": 3}


async def test_an_answer_that_is_too_large_for_its_topic_is_a_dead_letter(polling, api, until):
    body = b'{"a": "' + b"x" * 2_000_000 + b'"}'
    api.modes = [answer(body), "good"]
    run = polling()

    await until(lambda: run.got)
    ((letter,),) = run.letters
    assert letter["error"] == "aiopype.errors.OutputTooLarge"
    assert letter["value_bytes"] == len(body)
    assert run.clock.slept[0] == 30  # it is no error of the upstream


# --- recordings


async def replayed(prepared, raws, cls, **options):
    run = prepared(cls, **options)
    for raw in raws:
        await run.source.take(msgspec.json.decode(msgspec.json.encode(raw), type=type(raw)))
    return run


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (RestSource, {"changed_only": True}),
        (RestSource, {"changed_only": True, "pages": 2}),
        (Following, {"items": "items"}),
        (Following, {"items": "items", "pages": 2}),
        (Following, {"items": "items", "pages": 10}),
    ],
)
async def test_what_was_recorded_gives_the_same_events_without_a_network(
    polling, prepared, api, until, cls, options, small_parts
):
    feed = Feed(last=14)
    feed.fails = {2: 1, 3: 1}
    feed.status = 410
    api.modes = ["garbage", "no_content", *[feed] * 5, "garbage", "status_500", feed]
    run = polling(cls, **options)
    await until(lambda: len(api.requests) >= 25)
    await run.stop()

    again = await replayed(prepared, run.raws, cls, **options)

    assert again.got == run.got
    assert again.got
    assert [letter["value"] for (letter,) in again.letters] == [
        letter["value"] for (letter,) in run.letters
    ]
    assert again.position == run.position


async def test_a_recording_that_begins_in_the_middle_of_a_poll_can_be_played(
    polling, prepared, api, until
):
    api.modes = [Feed(last=7)]
    run = polling(Following, **PAGED)
    await until(lambda: len(run.got) >= 7)
    await run.stop()

    again = await replayed(prepared, run.raws[1:3], Following, **PAGED)

    assert again.data == [4, 5, 6, 7]


async def test_normal_operation_is_quiet(polling, api, until, caplog):
    caplog.set_level(logging.DEBUG, "aiopype")
    api.modes = [Feed(last=7)]
    polling(Following, **PAGED)

    await until(lambda: len(api.requests) >= 10)
    assert [record for record in caplog.records if record.name.startswith("aiopype")] == []
