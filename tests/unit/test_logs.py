import logging

import pytest
from aiokafka import errors as kafka_errors

from aiopype import logs

CHATTY = ("faust", "mode", "aiokafka")


@pytest.fixture
def set_up(monkeypatch):
    """Sets logging up as in a new process; everything is put back afterwards."""
    root = logging.getLogger()
    before = {name: logging.getLogger(name).level for name in ("", *CHATTY)}

    def run(level="INFO"):
        monkeypatch.setattr(root, "handlers", [])
        logs.set_up(level)

    yield run
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_a_line_says_when_how_grave_who_and_what(set_up, capsys):
    set_up()

    logging.getLogger("aiopype.m.source").info("one of %d", 2)

    assert capsys.readouterr().err[9:] == "INFO    aiopype.m.source: one of 2\n"


def test_the_level_is_the_given_one(set_up, capsys):
    set_up("WARNING")

    logging.getLogger("mine").info("not this")
    logging.getLogger("mine").warning("but this")

    assert capsys.readouterr().err[9:] == "WARNING mine: but this\n"


@pytest.mark.parametrize("name", CHATTY)
def test_the_inner_life_of_libraries_is_not_logged(set_up, capsys, name):
    set_up("DEBUG")

    logging.getLogger(f"{name}.inner").info("not this")
    logging.getLogger(f"{name}.inner").warning("but this")

    assert capsys.readouterr().err.count("\n") == 1


def test_a_program_that_configured_logging_is_left_alone(monkeypatch):
    root, handlers = logging.getLogger(), [logging.NullHandler()]
    monkeypatch.setattr(root, "handlers", handlers)
    level = root.level

    logs.set_up("DEBUG")

    assert len(handlers) == 1
    assert root.level == level


def test_setting_up_twice_logs_once(set_up, capsys):
    logs.set_up()
    set_up()

    logging.getLogger("mine").info("once")

    assert capsys.readouterr().err.count("once") == 1


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("Group Coordinator Request failed: %s", kafka_errors.GroupCoordinatorNotAvailableError()),
        ("Heartbeat failed for group %s because it is rebalancing", "flow"),
    ],
)
def test_what_happens_at_every_start_and_rebalance_is_no_news(set_up, capsys, template, value):
    set_up()

    logging.getLogger("aiokafka").error(template, value)
    logging.getLogger("aiokafka").error("Group Coordinator Request failed: %s", OSError("other"))

    assert capsys.readouterr().err.count("\n") == 1


def test_a_wrong_call_of_a_logger_does_not_raise_in_the_callers_code(set_up, capsys):
    set_up()

    logging.getLogger("mine").info("%d events", "several")

    assert "several" in capsys.readouterr().err


def test_what_is_logged_needs_no_repr(set_up, capsys):
    class Unspeakable:
        def __str__(self):
            return "only this"

        def __repr__(self):
            raise RuntimeError("no repr")

    set_up()

    logging.getLogger("mine").info("%s", Unspeakable())

    assert capsys.readouterr().err.endswith("mine: only this\n")
