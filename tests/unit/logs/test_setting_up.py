import asyncio
import gc
import json
import logging
import sys
import threading
import warnings

import pytest
from aiokafka import errors as kafka_errors

from aiopype import logs

CHATTY = ("faust", "mode", "aiokafka")


def test_a_line_says_when_how_grave_who_and_what(set_up, capsys):
    set_up()

    logging.getLogger("aiopype.m.source").info("one of %d", 2)

    assert capsys.readouterr().err[9:] == "INFO    aiopype.m.source: one of 2\n"


def test_the_level_is_the_given_one(set_up, capsys):
    set_up(level="WARNING")

    logging.getLogger("mine").info("not this")
    logging.getLogger("mine").warning("but this")

    assert capsys.readouterr().err[9:] == "WARNING mine: but this\n"


@pytest.mark.parametrize("name", CHATTY)
def test_the_inner_life_of_libraries_is_not_logged(set_up, capsys, name):
    set_up(level="DEBUG")

    logging.getLogger(f"{name}.inner").info("not this")
    logging.getLogger(f"{name}.inner").warning("but this")

    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", CHATTY)
def test_libraries_are_no_louder_than_the_program(set_up, capsys, name):
    set_up(level="ERROR")

    logging.getLogger(f"{name}.inner").warning("not this")

    assert capsys.readouterr().err == ""


def test_a_program_that_configured_logging_is_left_alone(monkeypatch):
    root, handlers = logging.getLogger(), [logging.NullHandler()]
    monkeypatch.setattr(root, "handlers", handlers)
    level, hook = root.level, sys.excepthook

    logs.set_up("json", "DEBUG")

    assert len(handlers) == 1
    assert root.level == level
    assert sys.excepthook is hook


def test_where_it_is_forced_others_make_room(set_up, capsys, monkeypatch):
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    set_up()
    logging.getLogger().addHandler(logging.StreamHandler())

    logs.set_up(force=True)
    logging.getLogger("mine").info("once")

    assert capsys.readouterr().err.count("once") == 1


def test_setting_up_twice_logs_once_as_was_said_last(set_up, capsys):
    set_up("text")
    logs.set_up("json", "DEBUG", flow="quotes")

    logging.getLogger("mine").debug("once")

    line = json.loads(capsys.readouterr().err)
    assert (line["message"], line["flow"]) == ("once", "quotes")


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


# --- what nobody logs


def test_a_warning_is_logged(set_up, capsys):
    set_up("json")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)  # pytest's own hook is in the place of Python's
        logging.captureWarnings(True)
        warnings.warn("old ways", UserWarning, stacklevel=1)

    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["logger"]) == ("WARNING", "py.warnings")
    assert "UserWarning: old ways" in line["message"]


def test_an_error_that_ends_the_program_is_logged(set_up, capsys):
    set_up("json")
    error = ValueError("no more")

    sys.excepthook(ValueError, error, None)

    line = json.loads(capsys.readouterr().err)
    assert line["level"] == "CRITICAL"
    assert line["message"] == "the program ends by an error: ValueError: no more"
    assert line["error"]["type"] == "ValueError"


def test_ctrl_c_is_left_to_python(set_up, capsys):
    set_up("json")

    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)

    assert capsys.readouterr().err == "KeyboardInterrupt\n"


def test_an_error_that_ends_a_thread_is_logged(set_up, capsys):
    set_up("json")
    thread = threading.Thread(target=lambda: 1 / 0, name="of the user")

    thread.start()
    thread.join()

    line = json.loads(capsys.readouterr().err)
    assert line["message"] == "thread of the user ends by an error"
    assert line["error"]["type"] == "ZeroDivisionError"


def test_an_error_that_nobody_could_catch_is_logged(set_up, capsys):
    class Bad:
        def __del__(self):
            raise LookupError("at its end")

    set_up("json")

    bad = Bad()
    del bad
    gc.collect()

    line = json.loads(capsys.readouterr().err)
    assert line["error"]["type"] == "LookupError"


def test_an_error_of_a_task_that_nobody_awaits_is_logged(set_up, capsys):
    async def fail():
        raise LookupError("nobody asks")

    async def main():
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        del task
        gc.collect()

    set_up("json")

    asyncio.run(main())

    line = json.loads(capsys.readouterr().err)
    assert line["message"].startswith("Task exception was never retrieved\n")
    assert line["error"]["message"] == "nobody asks"


def test_hooks_of_the_program_are_left_alone(set_up, monkeypatch):
    def hook(*_):
        pass

    monkeypatch.setattr(sys, "excepthook", hook)

    set_up()

    assert sys.excepthook is hook
