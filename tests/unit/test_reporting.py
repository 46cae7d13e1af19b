"""What is reported to a server that speaks Sentry's envelopes; it runs here, no network is used."""

import asyncio
import base64
import builtins
import json
import logging
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from aiohttp import web

from aiopype import Flow, Manager, Processor, Source
from aiopype.dead_letters import DeadLetter
from aiopype.errors import ConfigurationError
from aiopype.reporting import Brake, report_errors_to
from aiopype.retry import Retry
from aiopype.watchdog import EXIT_STATUS

logger = logging.getLogger("aiopype.some.module")


class Sentry:
    """The endpoint of one project.

    Attributes:
        dsn: leads to it.
        events: what it was sent.
        text: all that it was sent, as it came.
    """

    def __init__(self):
        self.events = []
        self.text = ""
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._up.wait(10)

    def _run(self):
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self):
        app = web.Application()
        app.router.add_post("/api/7/envelope/", self._take)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        self.dsn = f"http://public@127.0.0.1:{port}/7"
        self._stopping = asyncio.Event()
        self._up.set()
        await self._stopping.wait()
        await runner.cleanup()

    async def _take(self, request):
        await asyncio.to_thread(self.may_answer.wait, 30)
        body = (await request.read()).decode()
        self.text += body
        _, *lines = body.splitlines()
        for header, item in zip(lines[::2], lines[1::2], strict=True):
            if json.loads(header)["type"] == "event":
                self.events.append(json.loads(item))
        return web.json_response({"id": "0" * 32})

    def stop(self):
        self.may_answer.set()
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)


@pytest.fixture
def sentry():
    found = Sentry()
    yield found
    found.stop()


def letter(**more):
    given = {
        "component": "prices.last",
        "error": "ValueError",
        "message": "no price",
        "at_ms": 1,
        "tries": 3,
        "topic": "prices.first.mid",
        "partition": 2,
        "offset": 41,
        "value": b"the event itself",
        "key": b"its key",
    }
    return DeadLetter(**{**given, **more})


def fail(secret=""):
    password = secret.upper()
    raise ValueError(f"no price for {len(password)}")


def test_an_error_that_is_logged_is_reported_with_its_exception_and_the_flow(sentry):
    with report_errors_to(sentry.dsn, "load-flow", "1.2"):
        try:
            fail()
        except ValueError:
            logger.exception("%s did not go well", "this")

    (event,) = sentry.events
    (raised,) = event["exception"]["values"]
    assert (raised["type"], raised["value"]) == ("ValueError", "no price for 0")
    assert raised["stacktrace"]["frames"][-1]["function"] == "fail"
    assert event["logentry"]["formatted"] == "this did not go well"
    assert event["tags"] == {"flow": "load-flow", "error": "ValueError"}
    assert (event["level"], event["release"]) == ("error", "1.2")


def test_warnings_and_what_others_log_are_not_reported(sentry):
    with report_errors_to(sentry.dsn, "load-flow"):
        logger.warning("a warning")
        logging.getLogger("somebody.else").error("an error")

    assert sentry.events == []


def test_a_failure_of_a_component_is_tagged_and_grouped_by_component_and_class(sentry):
    with report_errors_to(sentry.dsn, "load-flow"):
        logger.error("down", extra={"component": "prices.source"}, exc_info=OSError("gone"))

    (event,) = sentry.events
    assert event["fingerprint"] == ["failure", "prices.source", "OSError"]
    assert event["tags"] == {
        "flow": "load-flow", "manager": "prices", "component": "prices.source", "error": "OSError",
    }  # fmt: skip


def test_a_dead_letter_is_reported_whatever_the_level_of_its_record(sentry):
    with report_errors_to(sentry.dsn, "load-flow"):
        logger.warning("an event became a dead letter", extra={"dead_letter": letter()})

    (event,) = sentry.events
    assert event["fingerprint"] == ["dead letter", "prices.last", "ValueError"]
    assert event["tags"]["component"] == "prices.last"
    assert event["exception"]["values"] == [{"type": "ValueError", "value": "no price"}]
    told = event["contexts"]["dead letter"]
    assert (told["topic"], told["partition"], told["offset"], told["tries"]) == (
        "prices.first.mid", 2, 41, 3,
    )  # fmt: skip


def test_neither_an_event_nor_a_local_variable_leaves_the_process(sentry):
    secret = "".join(chr(n) for n in range(110, 120))  # nor in a line of the source
    found = letter(value=secret.encode(), key=secret.encode(), args=(secret,))
    with report_errors_to(sentry.dsn, "load-flow"):
        try:
            fail(secret)
        except ValueError:
            logger.warning("dead", extra={"dead_letter": found}, exc_info=True)

    assert "no price for 10" in sentry.text
    for trace in (secret, secret.upper(), base64.b64encode(secret.encode()).decode()):
        assert trace not in sentry.text


def test_the_same_error_is_reported_once_while_it_repeats(sentry):
    with report_errors_to(sentry.dsn, "load-flow"):
        for _ in range(100):
            logger.warning("dead", extra={"dead_letter": letter()})
        logger.warning("dead", extra={"dead_letter": letter(component="prices.first")})
        logger.warning("dead", extra={"dead_letter": letter(error="KeyError")})

    assert [event["fingerprint"][1:] for event in sentry.events] == [
        ["prices.last", "ValueError"], ["prices.first", "ValueError"], ["prices.last", "KeyError"],
    ]  # fmt: skip


def test_an_error_that_repeats_is_reported_again_after_a_minute_with_how_often_it_came():
    now = [0.0]
    brake = Brake(lambda: now[0])

    found = []
    for now[0] in (0, 1, 2, 59, 60, 61, 120):
        found.append(brake.let(("dead letter", "prices.last", "ValueError")))

    assert found == [0, None, None, None, 3, None, 1]


def test_the_brake_does_not_grow_for_ever():
    brake = Brake()

    for n in range(10_000):
        brake.let(("failure", "prices.last", f"Error{n}"))

    assert len(brake._held) <= 1_000


def test_the_exception_that_ends_the_flow_is_reported_and_goes_on(sentry):
    with pytest.raises(ValueError, match="no price"), report_errors_to(sentry.dsn, "load-flow"):
        fail()

    (event,) = sentry.events
    assert event["level"] == "fatal"
    assert event["exception"]["values"][0]["type"] == "ValueError"


@pytest.mark.parametrize("end", [SystemExit(0), KeyboardInterrupt()])
def test_an_end_that_was_asked_for_is_no_error(sentry, end):
    with pytest.raises(type(end)), report_errors_to(sentry.dsn, "load-flow"):
        raise end

    assert sentry.events == []


def test_a_source_that_fails_in_a_flow_is_reported_with_its_name(sentry):
    class Fails(Source):
        async def start(self):
            flow.stop()
            raise LookupError("no such symbol")

    class Reported(Manager):
        name = "reported"

        def __init__(self, handler):
            super().__init__(handler)
            self.source = Fails(self.build_processor_name("source"), handler)

    flow = Flow(SimpleNamespace(FLOWS=["reported"], SENTRY_DSN=sentry.dsn), name="load-flow")
    flow.start()

    (event,) = sentry.events
    assert event["fingerprint"] == ["failure", "reported.source", "LookupError"]
    assert event["tags"]["flow"] == "load-flow"


def test_an_event_that_becomes_a_dead_letter_in_a_flow_is_reported(sentry):
    class Once(Source):
        async def start(self):
            await self.emit_async("price", "none of your business")

    class Fails(Processor):
        retry = Retry(tries=1)

        async def handle(self, price):
            raise LookupError("no such symbol")

    class Lettered(Manager):
        name = "lettered"

        def __init__(self, handler):
            super().__init__(handler)
            self.source = Once(self.build_processor_name("source"), handler)
            self.last = Fails(self.build_processor_name("last"), handler)
            self.source.on("price", self.last.handle)

    Flow(SimpleNamespace(FLOWS=["lettered"], SENTRY_DSN=sentry.dsn), name="load-flow").start()

    (event,) = sentry.events
    assert event["fingerprint"] == ["dead letter", "lettered.last", "LookupError"]
    assert "none of your business" not in json.dumps(event["contexts"])


def test_the_end_of_a_stuck_process_is_reported(sentry):
    source = """if True:
        import asyncio, sys
        from aiopype.reporting import report_errors_to
        from aiopype.watchdog import end_process

        with report_errors_to(sys.argv[1], "load-flow"):
            end_process("it is stuck", asyncio.new_event_loop())
    """

    ended = subprocess.run(
        [sys.executable, "-c", source, sentry.dsn], check=False, capture_output=True, timeout=30
    )

    assert ended.returncode == EXIT_STATUS
    (event,) = sentry.events
    assert "it is stuck" in event["logentry"]["formatted"]
    assert event["level"] == "fatal"


def test_a_wrong_log_call_breaks_nothing(sentry, capsys, monkeypatch):
    # pytest's own handler would raise.
    monkeypatch.setattr(logging.getLogger("aiopype"), "propagate", False)
    with report_errors_to(sentry.dsn, "load-flow"):
        logger.error("%d", "no number")
        logger.error("right")

    assert [event["logentry"]["formatted"] for event in sentry.events] == ["right"]
    assert "--- Logging error ---" in capsys.readouterr().err


def test_a_server_that_does_not_answer_holds_up_the_end_for_seconds_only(sentry):
    sentry.may_answer.clear()
    # A process of its own: the SDK's thread goes on sending as long as its process lives.
    source = """if True:
        import logging, sys, time
        from aiopype import reporting

        reporting.FLUSH_SECONDS = 0.2
        with reporting.report_errors_to(sys.argv[1], "load-flow"):
            for n in range(1_000):
                logging.getLogger("aiopype").error("down", extra={"component": f"prices.c{n}"})
            began = time.monotonic()
        print(time.monotonic() - began)
    """

    ended = subprocess.run(
        [sys.executable, "-c", source, sentry.dsn], check=True, capture_output=True, timeout=30
    )

    assert 0.2 <= float(ended.stdout) < 5


def test_after_the_end_nothing_is_reported(sentry):
    with report_errors_to(sentry.dsn, "load-flow"):
        pass

    logger.error("too late")

    assert sentry.events == []
    assert logging.getLogger("aiopype").handlers == []


def test_a_programs_own_use_of_sentry_is_left_alone(sentry):
    import sentry_sdk  # noqa: PLC0415

    with report_errors_to(sentry.dsn, "load-flow"):
        assert not sentry_sdk.get_client().is_active()


def test_without_a_dsn_the_sdk_is_not_even_imported(monkeypatch):
    monkeypatch.setattr(builtins, "__import__", pytest.fail)

    with report_errors_to(None, "load-flow"):
        pass


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)

    with (
        pytest.raises(ConfigurationError, match=r"pip install 'aiopype\[sentry\]'"),
        report_errors_to("http://public@127.0.0.1:1/7", "load-flow"),
    ):
        pass


def test_what_is_no_dsn_is_refused():
    with (
        pytest.raises(ConfigurationError, match="sentry_dsn is no DSN"),
        report_errors_to("nonsense", "load-flow"),
    ):
        pass
