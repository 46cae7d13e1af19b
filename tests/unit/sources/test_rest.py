import asyncio
import logging
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from aiopype import Retry, SyncProtocol
from aiopype.errors import CircuitOpen, ConfigurationError
from aiopype.sources import RestOptions, RestSource
from aiopype.sources.http import TooLarge

from .rest_server import ISO_DATE, PRICE, answer, bomb

#: Of the source, and of its dead letters.
LOGGERS = {"aiopype.m.source", "aiopype.letter_log"}

# --- good answers


async def test_each_answer_is_emitted_with_the_servers_time(polling, until):
    run = polling()

    await until(lambda: len(run.got) >= 2)
    assert run.got[:2] == [(PRICE, ISO_DATE)] * 2


@pytest.mark.parametrize("mode", ["in_pieces", answer(b"[1, 2]", content_type="text/plain")])
async def test_any_json_is_emitted_whatever_it_is_called_and_however_it_comes(
    polling, api, until, mode
):
    api.modes = [mode]
    run = polling()

    await until(lambda: run.got)
    assert run.got[0] == ([1, 2], ISO_DATE)


@pytest.mark.parametrize("date", [None, "yesterday", "", "Wed, 99 Oct 2015 07:28:00 GMT"])
async def test_an_answer_without_a_date_has_the_workers_time(polling, api, until, date):
    api.date = date
    run = polling()

    await until(lambda: run.got)
    time = datetime.fromisoformat(run.got[0][1])
    assert abs(datetime.fromtimestamp(run.clock.now, UTC) - time) < timedelta(hours=1)
    assert time.utcoffset() == timedelta(0)


async def test_a_number_beyond_64_bits_is_emitted_as_it_is(polling, api, until):
    api.modes = [answer(b"[123456789012345678901234567890]")]
    run = polling()

    await until(lambda: run.got)
    assert run.data[0] == [123456789012345678901234567890]


async def test_no_content_is_no_event_and_no_error(polling, api, until, caplog):
    api.modes = ["no_content"]
    run = polling(expect_every=100)

    await until(lambda: len(api.requests) >= 3)
    assert run.got == run.letters == []
    assert caplog.records == []
    assert run.source.heard_at > run.clock.now - 100


async def test_each_element_of_a_list_can_be_an_event(polling, api, until):
    api.modes = [answer(b'{"result": {"quotes": [1, 2, 3]}}')]
    run = polling(items="result.quotes")

    await until(lambda: len(run.got) >= 3)
    assert run.data[:3] == [1, 2, 3]


async def test_an_empty_list_of_items_is_no_event(polling, api, until):
    api.modes = [answer(b"[]")]
    run = polling(items="")

    await until(lambda: len(api.requests) >= 2)
    assert run.got == run.letters == []


async def test_each_json_line_is_an_event_and_a_broken_one_a_dead_letter(polling, api, until):
    api.modes = [answer(b'{"n": 1}\n{"n":\n\n{"n": 3}', content_type="application/x-ndjson")]
    run = polling()

    await until(lambda: len(run.got) >= 2)
    assert run.data[:2] == [{"n": 1}, {"n": 3}]
    assert run.letters[0][0]["value"] == "eyJuIjo="  # {"n":


async def test_each_row_of_csv_is_an_event(polling, api, until):
    api.modes = [answer(b'day,price\n1,"2,5"\n2,3\n', content_type="text/csv; charset=utf-8")]
    run = polling()

    await until(lambda: len(run.got) >= 2)
    assert run.data[:2] == [{"day": "1", "price": "2,5"}, {"day": "2", "price": "3"}]


async def test_bytes_come_in_base64(polling, api, until):
    api.modes = [answer(b"\x00\xff", content_type="image/png")]
    run = polling()

    await until(lambda: run.got)
    assert run.data[0] == "AP8="


# --- what is sent


async def test_headers_parameters_and_a_body_are_sent_as_the_options_say(polling, api, until):
    run = polling(
        url=f"{api.url}quotes?a=0",
        method="POST",
        headers={"X-Key": "k"},
        params={"b": True, "c": [1, 2.5], "d": "x y"},
        json={"query": "all"},
    )

    await until(lambda: run.got)
    request = api.requests[0]
    assert request.method == "POST"
    assert request.path == "/quotes"
    assert list(request.query.items()) == [
        *[("a", "0"), ("b", "true"), ("c", "1"), ("c", "2.5"), ("d", "x y")]
    ]
    assert request.headers["X-Key"] == "k"
    assert request.headers["Content-Type"] == "application/json"
    assert api.bodies[0] == b'{"query":"all"}'


async def test_a_url_can_be_set_as_late_as_in_start(polling, api, until):
    class Late(RestSource):
        async def start(self):
            self.url = api.url
            await super().start()

    run = polling(Late, "nowhere")

    await until(lambda: run.got)


@pytest.mark.parametrize("url", ["", "nowhere", "ftp://example.com/", "http://", "http://[::1"])
async def test_a_url_that_is_none_ends_it_at_once(polling, url):
    class Sited(RestSource):
        def __init__(self, name, handler, _url, options):
            super().__init__(name, handler, url, options)

    with pytest.raises(ConfigurationError, match=r"source 'm\.source': url="):
        await polling(Sited).task


# --- the rhythm


@pytest.fixture
def takes(monkeypatch):
    """Sets how long each answer takes, on the clock of a run."""

    def take(run, *seconds):
        times = list(seconds)

        async def respond(request):
            run.clock.now += times.pop(0) if len(times) > 1 else times[0]
            return await answer()(request)

        return respond

    return take


async def begun(run, api, until, count):
    """The times at which the first requests came."""
    times = []
    mode = api.modes[0]

    async def respond(request):
        times.append(run.clock.now - 1_000_000_000)
        return await mode(request)

    api.modes = [respond]
    await until(lambda: len(times) >= count)
    return times[:count]


async def test_the_interval_is_between_the_starts_of_two_requests(polling, api, until, takes):
    run = polling(request_interval=10)
    api.modes = [takes(run, 2.5)]

    assert await begun(run, api, until, 4) == [0, 10, 20, 30]


async def test_a_slow_answer_is_followed_at_once_and_by_no_burst(polling, api, until, takes):
    run = polling(request_interval=10)
    api.modes = [takes(run, 1, 35, 1)]

    assert await begun(run, api, until, 5) == [0, 10, 45, 55, 65]


async def test_a_clock_that_wakes_late_makes_no_drift(polling, api, until, takes):
    run = polling(request_interval=10)
    api.modes = [takes(run, 1)]
    sleep = run.clock.sleep

    async def late(seconds):
        await sleep(seconds + 0.25)

    run.clock.sleep = late

    assert await begun(run, api, until, 4) == [0, 10.25, 20.25, 30.25]


# --- errors

bomb()  # made before it has to come in time

STATUS, UNUSABLE = aiohttp.ClientResponseError, ValueError

ERRORS = {
    "status_500": (STATUS, "status 500: Internal Server Error"),
    "status_404": (STATUS, "status 404: Not Found; there is nothing at this URL"),
    "status_429": (STATUS, "status 429: Too Many Requests; .* it says: slow down"),
    "round_and_round": (STATUS, "more than 2 redirects, the option `redirects`"),
    "not_modified": (STATUS, "status 304"),
    "garbage": (UNUSABLE, r"the answer \(application/json\) is not JSON"),
    "not_utf_8": (UNUSABLE, "utf-8"),
    "deep": (UNUSABLE, "recursion"),
    "huge_number": (UNUSABLE, "out of range"),
    "empty": (UNUSABLE, "is empty"),
    "page_for_people": (UNUSABLE, r"a page for people \(text/html\)"),
    "two_gigabytes": (TooLarge, "larger than 200,000 bytes, the option `answer_bytes`"),
    "two_gigabytes_announced": (TooLarge, "larger than 200,000 bytes"),
    "two_gigabytes_in_chunks": (TooLarge, "larger than 200,000 bytes"),
    "bomb": (TooLarge, "larger than 200,000 bytes"),
    "never": (TimeoutError, "no whole answer in 0.1 s, the option `answer_seconds`"),
    "slow": (TimeoutError, "no whole answer in 0.1 s"),
    "broken_off": (aiohttp.ClientError, "not completed"),
    "broken_off_chunked": (aiohttp.ClientError, "not completed"),
    "dropped": (aiohttp.ClientError, "disconnected"),
    "not_http": (aiohttp.ClientError, "what came is no HTTP"),
    "astray": (aiohttp.ClientError, "the way leads to 'file:///etc/passwd'"),
    "not_gzip": (aiohttp.ClientError, "gzip"),
}


def impatient(mode):
    """Little room, and little time where that is what runs out."""
    seconds = 0.1 if mode in {"never", "slow"} else 5
    return {"answer_seconds": seconds, "answer_bytes": 200_000, "redirects": 2}


@pytest.mark.parametrize("mode", ERRORS)
async def test_after_an_error_it_goes_on(polling, api, until, mode, caplog):
    # aiohttp asks once more of itself when a connection is dropped.
    times = {"round_and_round": 3, "dropped": 2}.get(mode, 1)
    api.modes = [mode] * times + ["good"]
    run = polling(**impatient(mode))

    await until(lambda: run.got)
    assert run.got[0] == (PRICE, ISO_DATE)
    assert run.clock.slept[0] >= 0.8  # the first delay, less its jitter
    told = [r for r in caplog.records if r.name in LOGGERS]
    warnings = [r for r in told if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "\n" not in warnings[0].getMessage()


@pytest.mark.parametrize(("mode", "expected"), ERRORS.items(), ids=ERRORS)
async def test_too_many_errors_in_a_row_open_the_circuit(polling, api, mode, expected):
    error, text = expected
    api.modes = [mode]
    run = polling(exception_threshold=2, **impatient(mode))

    with pytest.raises(CircuitOpen, match=text) as raised:
        await asyncio.wait_for(run.task, 10)

    assert isinstance(raised.value.__cause__, error)
    assert run.got == []
    assert run.position is None


async def test_a_server_that_is_not_there_is_an_error(polling, unused_tcp_port):
    run = polling(url=f"http://127.0.0.1:{unused_tcp_port}/", exception_threshold=1)

    with pytest.raises(CircuitOpen, match="ClientConnectorError") as raised:
        await asyncio.wait_for(run.task, 10)
    assert isinstance(raised.value.__cause__, aiohttp.ClientConnectorError)


async def test_a_name_that_nobody_knows_is_an_error(polling):
    run = polling(url="http://nowhere.invalid/", exception_threshold=1)

    with pytest.raises(CircuitOpen, match=r"nowhere\.invalid"):
        await asyncio.wait_for(run.task, 10)


async def test_a_good_answer_sets_the_count_to_zero(polling, api, until):
    api.modes = ["status_500", "garbage", "good"] * 3
    run = polling(exception_threshold=3)

    await until(lambda: len(run.got) >= 3)
    assert not run.task.done()


async def test_requests_and_errors_are_counted(polling, api, until):
    api.modes = ["status_500", "garbage", "good"]
    run = polling()
    errors = []
    run.source.vitals.begin(errors.append)

    await until(lambda: len(run.got) >= 2)

    vitals = run.source.vitals
    assert vitals.failures == 2
    assert vitals.ok >= 2
    assert vitals.reconnects == 0
    assert [type(error).__name__ for error in errors] == ["StatusError", "ValueError"]


async def test_the_delay_doubles_with_each_error_in_a_row(polling, api, until):
    api.modes = ["status_500"] * 4 + ["good"]
    run = polling(first_delay_seconds=1, last_delay_seconds=4)

    await until(lambda: run.got)
    assert run.clock.slept[:4] == pytest.approx([1, 2, 4, 4], rel=0.21)


async def test_after_an_error_the_interval_begins_with_the_request_that_was_answered(
    polling, api, until
):
    api.modes = ["status_500", "good"]
    run = polling(request_interval=10, first_delay_seconds=100)

    await until(lambda: len(run.got) >= 2)
    assert run.clock.slept[1] == pytest.approx(10)


async def test_each_error_is_given_to_the_error_handler(polling, api):
    errors = []

    class Noting(RestSource):
        async def error_handler(self, error):
            errors.append((type(error).__name__, getattr(error, "status", None)))

    api.modes = ["status_500", "garbage"]
    run = polling(Noting, exception_threshold=2)

    with pytest.raises(CircuitOpen):
        await asyncio.wait_for(run.task, 10)
    assert errors == [("StatusError", 500), ("ValueError", None)]


async def test_what_the_error_handler_raises_ends_it(polling, api):
    class Closed(Exception):
        pass

    class Ending(RestSource):
        async def error_handler(self, error):
            assert isinstance(error, aiohttp.ClientResponseError)
            assert error.headers["Content-Type"] == "application/json"
            raise Closed

    api.modes = ["status_404"]

    with pytest.raises(Closed):
        await asyncio.wait_for(polling(Ending).task, 10)


async def test_the_first_error_is_logged_and_each_change_of_it_and_its_end(
    polling, api, until, caplog
):
    caplog.set_level(logging.INFO)
    api.modes = ["status_500"] * 3 + ["status_404"] * 2 + ["garbage"] * 2 + ["good"]
    run = polling(url=f"{api.url}quotes?key=secret")

    await until(lambda: run.got)
    texts = [r.getMessage() for r in caplog.records if r.name in LOGGERS]
    assert [text.partition(";")[0] for text in texts] == [
        f"GET {api.url}quotes: StatusError: status 500: Internal Server Error",
        f"GET {api.url}quotes: StatusError: status 404: Not Found",
        "m.source: a response cannot be used: ValueError: the answer (application/json) is not "
        "JSON: JSON is malformed: invalid character (byte 0)",
        "it answers again, after 7 errors",
    ]


@pytest.mark.parametrize(
    "mode", ["status_404", "round_and_round", "astray", "slow", "dropped", "not_http"]
)
async def test_no_error_tells_the_query_which_may_be_secret(polling, api, mode, caplog):
    api.modes = [mode]
    url = f"{api.url.replace('://', '://user:password@')}?key=secret"
    run = polling(url=url, exception_threshold=2, answer_seconds=0.1)

    with pytest.raises(CircuitOpen) as raised:
        await asyncio.wait_for(run.task, 10)

    for text in (caplog.text, str(raised.value), str(raised.value.__cause__)):
        assert "secret" not in text
        assert "password" not in text


async def test_what_cannot_be_read_is_a_dead_letter_once(polling, api, until):
    other = answer(b"other garbage")
    api.modes = ["garbage", "garbage", "garbage", other, "good", other, "good"]
    run = polling()

    await until(lambda: len(run.got) >= 2)
    assert [letter["value"] for (letter,) in run.letters] == [
        "PGh0bWw+", "b3RoZXIgZ2FyYmFnZQ==", "b3RoZXIgZ2FyYmFnZQ==",
    ]  # fmt: skip
    assert run.letters[0][0]["error"] == "ValueError"
    assert "is not JSON" in run.letters[0][0]["message"]


async def test_other_sources_are_not_affected(polling, api, until):
    async def by_path(request):
        mode = "never" if request.path == "/bad" else "good"
        return await getattr(api, mode)(request)

    api.modes = [by_path]
    polling(url=f"{api.url}bad", answer_seconds=30)
    good = polling(url=f"{api.url}good")

    await until(lambda: len(good.got) >= 20)
    assert not good.task.done()


async def test_a_handlers_error_is_not_counted_as_the_servers(api, collector, until):
    protocol = SyncProtocol()
    options = {"exception_threshold": 1, "request_interval": 0.001}
    source = RestSource("m.source", protocol, api.url, options)
    sink = collector("m.sink", protocol)
    sink.retry = Retry(tries=1)
    source.on("data", sink.done)  # takes no argument

    task = asyncio.ensure_future(source.start())
    await until(lambda: len(api.requests) >= 3 or task.done())

    assert not task.done()
    assert protocol.progress.topics["m.sink.error"].emitted >= 2
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("mode", ["never", "slow", "two_gigabytes_in_chunks"])
async def test_a_cancelled_source_leaves_no_connection(polling, api, until, mode):
    api.modes = [mode]
    run = polling(answer_bytes=4 << 30)
    await until(lambda: api.requests)
    transport = api.requests[0].transport

    await asyncio.wait_for(run.stop(), 1)

    await until(transport.is_closing)


# --- options


def test_the_options_have_defaults(recorder):
    source = RestSource("m.source", recorder, "http://127.0.0.1/")

    assert (source.options.request_interval, source.options.exception_threshold) == (30, 10)


def test_the_options_can_be_given(recorder):
    given = {"request_interval": 0.5, "exception_threshold": 1}

    source = RestSource("m.source", recorder, "http://127.0.0.1/", given)

    assert source.options == RestOptions(request_interval=0.5, exception_threshold=1)
    assert given == {"request_interval": 0.5, "exception_threshold": 1}


def test_the_common_options_are_those_of_the_source(recorder):
    options = RestOptions(expect_every=60, rate_limit=5)

    source = RestSource("m.source", recorder, "http://127.0.0.1/", options)

    assert (source.expect_every, source.rate_limit) == (60, 5)


def test_what_a_class_says_of_silence_stays_where_the_options_say_nothing(recorder):
    class Expecting(RestSource):
        expect_every = 7.0

    assert Expecting("m.source", recorder, "http://127.0.0.1/").expect_every == 7


def test_an_unknown_option_is_refused_with_the_nearest_one(recorder):
    with pytest.raises(ConfigurationError, match="'intervall'; did you mean 'request_interval'"):
        RestSource("m.source", recorder, "http://127.0.0.1/", {"intervall": 1})


@pytest.mark.parametrize(
    ("option", "values"),
    {
        "request_interval": [0, -1, "30", None, float("nan")],
        "exception_threshold": [0, -1, 1.5, "10", None],
        "method": ["get", "", "GET POST", None],
        "content": ["xml", ""],
        "pages": [0, 1_001, "all"],
        "redirects": [-1],
        "answer_bytes": [0, 1.5],
        "params": [["a"], {"a": {}}],
        "headers": ["X-Key: k", {"X-Key": 1}],
    }.items(),
)
def test_an_option_that_makes_no_sense_is_refused(recorder, option, values):
    for n, value in enumerate(values):
        with pytest.raises(ConfigurationError, match=f"'m.source{n}': {option}="):
            RestSource(f"m.source{n}", recorder, "http://127.0.0.1/", {option: value})


def test_two_bodies_are_refused(recorder):
    with pytest.raises(ConfigurationError, match="`json` or `body`, not both"):
        RestSource("m.source", recorder, "http://127.0.0.1/", {"json": 1, "body": "1"})


def test_a_body_without_a_json_form_is_refused(recorder):
    with pytest.raises(ConfigurationError, match=r"json=.*has no JSON form"):
        RestSource("m.source", recorder, "http://127.0.0.1/", {"json": {"a": object()}})


def test_its_event_has_a_topic_from_the_start(recorder):
    RestSource("m.source", recorder, "http://127.0.0.1/")

    assert [topic.name for topic in recorder.graph.topics()] == ["m.source.data"]
