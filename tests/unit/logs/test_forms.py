import json
import logging
import re

import pytest

from aiopype.dead_letters import DeadLetter
from aiopype.logs import JsonForm, TextForm, about
from aiopype.logs.about import TEXT_CHARACTERS
from aiopype.logs.forms import TRACEBACK_CHARACTERS


class Unspeakable:
    """What has no text at all."""

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


def failed(error=None):
    try:
        raise error or LookupError("number 7")
    except Exception as raised:  # noqa: BLE001 - whatever the test gives
        return raised


@pytest.fixture
def text(record):
    """The line of a record, in text, without its time."""
    return lambda *args, **fields: TextForm().format(record(*args, **fields))[9:]


@pytest.fixture
def line(record):
    """The line of a record in JSON, read again; it is one line."""

    def make(*args, **fields):
        written = JsonForm().format(record(*args, **fields))
        assert "\n" not in written
        return json.loads(written)

    return make


# --- text


def test_a_text_says_who_and_what(text):
    assert text("%d of %s", 2, "x", level="INFO", name="mine") == "INFO    mine: 2 of x"


def test_further_lines_of_a_text_are_indented(text):
    assert text("one\ntwo\n\nthree", name="mine") == ("WARNING mine: one\n    two\n    \n    three")


def test_a_traceback_stands_behind_its_line(text):
    lines = text("it fails", error=failed()).splitlines()

    assert lines[0] == "WARNING aiopype.transport.x: it fails"
    assert lines[1] == "    Traceback (most recent call last):"
    assert lines[-1] == "    LookupError: number 7"


def test_a_worker_of_several_says_which_it_is(record):
    assert re.match(r"worker 2 \d\d:\d\d:\d\d WARNING", TextForm(worker=2).format(record()))


def test_no_text_at_all_is_a_line_too(text):
    assert text("", name="mine") == "WARNING mine: "


# --- JSON


def test_a_line_has_time_level_logger_and_message(record):
    made = record("%d of %s", 2, "x", name="mine")
    made.created = 1_764_000_000.25

    assert json.loads(JsonForm().format(made)) == {
        "time": "2025-11-24T16:00:00.250Z",
        "level": "WARNING",
        "logger": "mine",
        "message": "2 of x",
    }


def test_a_line_has_what_it_is_about(line):
    found = line(**about("m.source", "m.source.data", 3, 17))

    assert {
        name: found[name] for name in found.keys() - {"time", "level", "logger", "message"}
    } == {
        "manager": "m",
        "component": "m.source",
        "topic": "m.source.data",
        "partition": 3,
        "offset": 17,
    }


def test_what_is_about_a_manager_has_no_component(line):
    found = line(**about("m"))

    assert found["manager"] == "m"
    assert "component" not in found


def test_what_a_component_logs_by_itself_is_about_it(line):
    found = line(name="aiopype.m.source")

    assert (found["manager"], found["component"]) == ("m", "m.source")


def test_what_a_module_logs_is_about_no_component(line):
    assert "component" not in line(name="aiopype.logs.forms")


def test_partition_0_and_offset_0_are_known(line):
    found = line(**about(partition=0, offset=0))

    assert (found["partition"], found["offset"]) == (0, 0)


def test_flow_and_worker_are_in_every_line(record):
    found = json.loads(JsonForm("quotes", 2).format(record()))

    assert (found["flow"], found["worker"]) == ("quotes", 2)


def test_an_error_is_told_with_its_traceback(line):
    error = line("it fails", error=failed())["error"]

    assert (error["type"], error["message"]) == ("LookupError", "number 7")
    assert error["traceback"].startswith("Traceback")
    assert error["traceback"].endswith("LookupError: number 7")


def test_an_error_in_the_text_is_told_without_one(line):
    class Refused(Exception):
        pass

    error = line("it fails: %s", Refused("closed"))["error"]

    assert error == {"type": f"{Refused.__module__}.{Refused.__qualname__}", "message": "closed"}


def test_a_message_of_several_lines_is_one_line(line):
    assert line("one\ntwo\r\nthree")["message"] == "one\ntwo\r\nthree"


@pytest.mark.parametrize("text", ["\ud800 half a pair", "\x00\x1b[31m", "\u2028", '"\\'])
def test_whatever_is_in_a_message_the_line_is_json(line, text):
    assert line("%s", text)["message"] == text.replace("\ud800", "?")


def test_what_a_user_says_beside_the_message_is_extra(line):
    assert line(price=1.5, names=["a"], when=None)["extra"] == {
        "price": 1.5,
        "names": ["a"],
        "when": None,
    }


def test_what_has_no_json_form_is_told_as_text(line):
    extra = line(cls=int, odd={1: {2: object}}, bad=Unspeakable(), large=2**200)["extra"]

    assert extra["cls"] == "<class 'int'>"
    assert extra["bad"] == "<Unspeakable>"
    assert extra["large"] in (str(2**200), 2**200)


def test_the_event_of_a_dead_letter_is_in_no_line(record):
    letter = DeadLetter(component="m.w", error="E", message="no", at_ms=1, value=b"secret-payload")

    made = record(**about("m.w", dead_letter=letter))

    for form in (JsonForm(), TextForm()):
        assert "secret" not in form.format(made)


# --- both


@pytest.mark.parametrize("form", [TextForm(), JsonForm()])
@pytest.mark.parametrize(
    ("text", "args"),
    [("%d events", ("several",)), ("%s", (Unspeakable(),)), (Unspeakable(), ()), ("%s %s", (1,))],
)
def test_a_wrong_call_of_a_logger_is_a_line_too(record, form, text, args):
    assert form.format(record(text, *args)).count("\n") == 0


@pytest.mark.parametrize("form", [TextForm(), JsonForm()])
def test_an_error_without_a_text_is_a_line_too(record, form):
    class Silent(Exception):
        __str__ = __repr__ = Unspeakable.__str__

    assert "Silent" in form.format(record(error=failed(Silent())))


@pytest.mark.parametrize("form", [TextForm(), JsonForm()])
def test_a_line_has_an_end(record, form):
    error = failed(LookupError("x" * 100_000))

    written = form.format(record("y" * 100_000, error=error))

    assert len(written) < 2 * (TEXT_CHARACTERS + TRACEBACK_CHARACTERS)


def test_a_record_of_another_program_is_a_line(record):
    made = logging.makeLogRecord({"msg": "as it is", "name": "other", "partition": "east"})

    found = json.loads(JsonForm().format(made))

    assert found["message"] == "as it is"
    assert "partition" not in found
