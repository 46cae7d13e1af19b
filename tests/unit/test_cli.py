import importlib.metadata
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from aiopype import AsyncFlow, Flow, cli, fleet
from aiopype import broker as embedded
from aiopype.errors import BrokerError, TargetError
from aiopype.playback import Replay
from aiopype.recording import RecordingWriter
from aiopype.settings import Settings


@pytest.fixture
def aiopype():
    """Runs the command line with these arguments."""
    return lambda *arguments: CliRunner().invoke(cli.main, arguments)


@pytest.fixture
def started(monkeypatch):
    """The flows that were started, with the arguments of `start`."""
    starts = []
    for cls in (Flow, AsyncFlow):
        monkeypatch.setattr(cls, "start", lambda self, **given: starts.append((self, given)))
    return starts


@pytest.fixture
def target(monkeypatch):
    """Makes a flow the target of every command line."""

    def set_target(flow):
        monkeypatch.setattr(cli, "load_flow", lambda target: flow)
        return flow

    return set_target


@pytest.fixture
def level(monkeypatch):
    """The levels at which logging was set up."""
    levels = []
    monkeypatch.setattr(cli.logs, "set_up", lambda form, level, **_: levels.append(level))
    return levels


# --- the program


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_the_commands(aiopype, option):
    result = aiopype(option)

    assert result.exit_code == 0
    assert "run " in result.output
    assert "broker " in result.output


def test_the_version_is_the_packages(aiopype, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"1.2.3 of {name}")

    result = aiopype("--version")

    assert result.exit_code == 0
    assert "1.2.3 of aiopype" in result.output


def test_an_unknown_command_is_a_wrong_use(aiopype):
    result = aiopype("walk")

    assert result.exit_code == 2
    assert "No such command 'walk'" in result.output


# --- run


def test_run_starts_an_async_flow_on_kafka(aiopype, target, started):
    flow = target(AsyncFlow(object(), "quotes"))

    result = aiopype("run", "quotes.py")

    assert result.exit_code == 0
    assert started == [(flow, {"broker": None, "web_port": None})]


def test_run_hands_the_broker_on(aiopype, target, started):
    flow = target(AsyncFlow(object(), "quotes"))

    aiopype("run", "--broker", "a:1,b:2", "quotes.py")

    assert started == [(flow, {"broker": "a:1,b:2", "web_port": None})]


def test_run_hands_the_place_of_one_of_several_workers_on(aiopype, target, started, monkeypatch):
    monkeypatch.setattr(cli, "stop_with_parent", lambda stop: None)
    flow = target(AsyncFlow(object(), "quotes"))

    aiopype("run", "quotes.py", "--worker-number", "2", "--web-host", "unix:two")

    assert flow.web_host == "unix:two"
    assert len(started) == 1


def test_run_hands_the_web_port_on(aiopype, target, started):
    flow = target(AsyncFlow(object(), "quotes"))

    aiopype("run", "--web-port", "0", "quotes.py")

    assert started == [(flow, {"broker": None, "web_port": 0})]


def test_run_starts_a_flow_in_process(aiopype, target, started):
    flow = target(Flow(object(), "quotes"))

    aiopype("run", "quotes.py")

    assert started == [(flow, {})]


def test_run_sync_starts_an_async_flow_in_process(aiopype, target, started):
    flow = target(AsyncFlow(object(), "quotes"))

    result = aiopype("run", "--sync", "quotes.py")

    assert result.exit_code == 0
    ((run, given),) = started
    assert type(run) is Flow
    assert (run.config, run.name, given) == (flow.config, "quotes", {})


# --- run --replay


def test_run_plays_a_recording(aiopype, target, started):
    flow = target(AsyncFlow(object(), "quotes"))

    result = aiopype("run", "quotes.py", "--replay", "a.jsonl", "--speed", "10", "--as", "two")

    assert result.exit_code == 0
    assert flow.replay == Replay(file=Path("a.jsonl"), speed=10.0, name="two")
    assert len(started) == 1


def test_run_plays_a_recording_in_process(aiopype, target, started):
    target(AsyncFlow(object(), "quotes"))

    aiopype("run", "quotes.py", "--sync", "--replay", "a.jsonl")

    ((run, _),) = started
    assert type(run) is Flow
    assert run.replay == Replay(file=Path("a.jsonl"), speed=1.0)


def test_run_without_a_replay_has_none(aiopype, target, started):
    flow = target(AsyncFlow(object(), "quotes"))

    aiopype("run", "quotes.py")

    assert flow.replay is None


@pytest.mark.parametrize(("given", "speed"), [("max", 0.0), ("0", 0.0), ("0.5", 0.5), ("1e3", 1e3)])
def test_the_speed_of_a_replay(aiopype, target, started, given, speed):
    flow = target(AsyncFlow(object(), "quotes"))

    aiopype("run", "quotes.py", "--replay", "a.jsonl", "--speed", given)

    assert flow.replay.speed == speed


@pytest.mark.parametrize("given", ["-1", "nan", "inf", "fast", "MAX"])
def test_a_speed_that_is_none_is_a_wrong_use(aiopype, target, started, given):
    target(AsyncFlow(object(), "quotes"))

    result = aiopype("run", "quotes.py", "--replay", "a.jsonl", "--speed", given)

    assert result.exit_code == 2
    assert "write a number, 1 as it was recorded, or max" in result.output
    assert started == []


@pytest.mark.parametrize("options", [["--speed", "2"], ["--as", "two"]])
def test_the_options_of_a_replay_without_one_are_a_wrong_use(aiopype, target, started, options):
    target(AsyncFlow(object(), "quotes"))

    result = aiopype("run", "quotes.py", *options)

    assert result.exit_code == 2
    assert "give --replay FILE" in result.output


def test_a_name_of_a_replay_in_process_is_a_wrong_use(aiopype, target, started):
    target(AsyncFlow(object(), "quotes"))

    result = aiopype("run", "quotes.py", "--sync", "--replay", "a.jsonl", "--as", "two")

    assert result.exit_code == 2
    assert "--as is for a replay on Kafka" in result.output


def test_several_workers_play_the_same_recording(aiopype, monkeypatch, tmp_path):
    file, recording = tmp_path / "cli_replayed.py", tmp_path / "a.jsonl"
    file.write_text(
        "from aiopype import AsyncFlow, Manager\n"
        "class Quotes(Manager):\n"
        "    name = 'cli_replayed'\n"
        "class Config:\n"
        "    FLOWS = ['cli_replayed']\n"
        "dataflow = AsyncFlow(Config())\n"
    )
    RecordingWriter(recording, "cli_replayed", 0.0).close()
    ran = []

    async def run_all(command, count, settings, *, may_end):
        ran.append((command, count, settings, may_end))
        return 0

    monkeypatch.setattr(fleet, "run_all", run_all)
    result = aiopype(
        "run", str(file), "--broker", "k:1", "--workers", "2", "--web-port", "0",
        "--replay", str(recording), "--speed", "max", "--as", "two",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    ((command, count, settings, may_end),) = ran
    assert command == [
        "-m", "aiopype", "run", str(file), "--broker", "k:1",
        "--replay", str(recording), "--speed", "0.0", "--as", "two",
    ]  # fmt: skip
    assert (count, settings.web_port, may_end) == (2, 0, True)


def test_several_workers_that_cannot_play_a_recording_are_not_started(
    aiopype, monkeypatch, target, tmp_path
):
    target(AsyncFlow(SimpleNamespace(FLOWS=[]), "quotes"))
    monkeypatch.setattr(AsyncFlow, "build", lambda self: SimpleNamespace(sources={}))

    result = aiopype("run", "quotes.py", "--workers", "2", "--replay", str(tmp_path / "none"))

    assert result.exit_code == 1
    assert "No such file" in result.output


def test_run_gives_the_target_as_it_was_typed(aiopype, monkeypatch, started):
    targets = []
    monkeypatch.setattr(cli, "load_flow", lambda t: targets.append(t) or Flow(object(), "quotes"))

    aiopype("run", "quotes.main:dataflow")

    assert targets == ["quotes.main:dataflow"]


def test_run_runs_the_flow_of_a_file_to_its_end(aiopype, tmp_path):
    file = tmp_path / "cli_quotes.py"
    file.write_text(
        "from aiopype import AsyncFlow, Manager\n"
        "class Quotes(Manager):\n"
        "    name = 'cli_quotes'\n"
        "class Config:\n"
        "    FLOWS = ['cli_quotes']\n"
        "dataflow = AsyncFlow(Config())\n"
    )

    result = aiopype("run", "--sync", str(file))

    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize(("given", "set_up"), [([], "INFO"), (["--log-level", "debug"], "DEBUG")])
def test_run_logs_from_the_given_level_on(aiopype, target, started, level, given, set_up):
    target(Flow(object(), "quotes"))

    aiopype("run", *given, "quotes.py")

    assert level == [set_up]


def test_the_level_of_the_environment_is_taken_where_none_is_given(
    aiopype, target, started, level, monkeypatch
):
    monkeypatch.setenv("AIOPYPE_LOG_LEVEL", "error")
    target(Flow(object(), "quotes"))

    aiopype("run", "quotes.py")
    aiopype("run", "--log-level", "debug", "quotes.py")

    assert level == ["ERROR", "DEBUG"]


def test_the_flow_gets_the_level_and_the_number_of_its_worker(aiopype, target, started, level):
    flow = target(Flow(object(), "quotes"))

    aiopype("run", "--log-level", "debug", "quotes.py")

    assert (flow.log_level, flow.worker_number) == ("DEBUG", None)


def test_where_programs_read_the_log_a_commands_error_is_a_line_of_it(aiopype, monkeypatch, caplog):
    def load(target):
        raise TargetError("no such flow")

    monkeypatch.setattr(cli, "load_flow", load)
    monkeypatch.setattr(cli.logs, "are_for_programs", lambda: True)

    result = aiopype("run", "quotes.py")

    assert (result.exit_code, result.output) == (1, "")
    assert caplog.messages == ["the command ends: no such flow"]


@pytest.mark.parametrize("command", ["run", "graph"])
def test_a_command_without_a_target_is_a_wrong_use_where_none_is_named(
    aiopype, command, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIOPYPE_FLOW", raising=False)

    result = aiopype(command)

    assert result.exit_code == 2
    assert "give TARGET, or set AIOPYPE_FLOW" in result.output


def test_a_command_without_a_target_takes_the_flow_that_is_named(aiopype, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.aiopype]\nflow = "cli_named.py"\n')
    (tmp_path / "cli_named.py").write_text(
        "from aiopype import AsyncFlow, Manager\n"
        "class Named(Manager):\n"
        "    name = 'cli_named'\n"
        "class Config:\n"
        "    FLOWS = ['cli_named']\n"
        "dataflow = AsyncFlow(Config())\n"
    )

    assert aiopype("graph").output == "manager cli_named\n"


def test_an_expected_error_is_one_line_and_status_1(aiopype, tmp_path):
    result = aiopype("run", str(tmp_path / "missing.py"))

    assert result.exit_code == 1
    assert result.output.startswith("Error: there is no file ")
    assert result.output.count("\n") == 1


def test_an_unexpected_error_is_raised(aiopype, target, monkeypatch):
    target(Flow(object(), "quotes"))
    monkeypatch.setattr(Flow, "start", lambda self: 1 / 0)

    result = aiopype("run", "quotes.py")

    assert isinstance(result.exception, ZeroDivisionError)


def test_the_status_of_a_failed_flow_is_the_programs(aiopype, target, monkeypatch):
    def start(self):
        raise SystemExit(1)

    target(Flow(object(), "quotes"))
    monkeypatch.setattr(Flow, "start", start)

    assert aiopype("run", "quotes.py").exit_code == 1


# --- broker


@pytest.fixture
def served(monkeypatch):
    """How embedded brokers were served, each ending with status 3."""
    calls = []

    def serve(data, port=None):
        calls.append((data, port))
        return 3

    monkeypatch.setattr(embedded, "serve", serve)
    return calls


def test_broker_serves_with_its_status(aiopype, served):
    assert aiopype("broker").exit_code == 3
    assert served == [(Path(".aiopype/kafka"), None)]


def test_broker_serves_at_the_given_place(aiopype, served, tmp_path):
    aiopype("broker", "--port", "9092", "--data", str(tmp_path))

    assert served == [(tmp_path, 9092)]


def test_broker_refuses_a_file_as_its_folder(aiopype, served, tmp_path):
    (tmp_path / "file").touch()

    assert aiopype("broker", "--data", str(tmp_path / "file")).exit_code == 2
    assert served == []


@pytest.mark.parametrize("error", [BrokerError("no Java"), TargetError("no Java")])
def test_an_expected_error_of_the_broker_is_one_line(aiopype, monkeypatch, error):
    def serve(data, port=None):
        raise error

    monkeypatch.setattr(embedded, "serve", serve)

    result = aiopype("broker")

    assert (result.exit_code, result.output) == (1, "Error: no Java\n")


# --- config


@pytest.fixture
def quotes(tmp_path, monkeypatch):
    """A flow in a project of its own, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("AIOPYPE_")]:
        monkeypatch.delenv(variable)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.aiopype]\nflow = "cli_config.py"\nnamespace = "team"\n'
    )
    (tmp_path / "cli_config.py").write_text(
        "from aiopype import AsyncFlow, Manager\n"
        "class Quotes(Manager):\n"
        "    name = 'cli_config'\n"
        "class Config:\n"
        "    FLOWS = ['cli_config']\n"
        "    BROKER = 'b:2'\n"
        "    RAVEN_DSN = 'https://key@sentry/1'\n"
        "    WEB_TOKEN = 'sesame'\n"
        "dataflow = AsyncFlow(Config())\n"
    )
    return tmp_path


def test_config_prints_each_setting_with_its_value_and_origin(aiopype, quotes):
    result = aiopype("config", "cli_config.py")

    lines = {line.split()[0]: line.split(maxsplit=2)[1:] for line in result.output.splitlines()}
    assert result.exit_code == 0
    assert lines["broker"] == ["b:2", "Config.BROKER in cli_config.py"]
    assert lines["flow"] == [str(quotes / "cli_config.py"), "command line"]
    assert lines["namespace"][1] == f"[tool.aiopype] namespace in {quotes / 'pyproject.toml'}"
    assert lines["sentry_dsn"] == ["****", "Config.RAVEN_DSN in cli_config.py"]
    assert lines["web_token"] == ["****", "Config.WEB_TOKEN in cli_config.py"]
    assert "key@" not in result.output
    assert "sesame" not in result.output


def test_config_takes_the_flow_of_the_project(aiopype, quotes):
    result = aiopype("config", "--broker", "k:9", "--json")

    found = json.loads(result.output)
    assert found["flows"] == {"value": ["cli_config"], "from": "Config.FLOWS in cli_config.py"}
    assert found["broker"] == {"value": "k:9", "from": "command line"}
    assert found["sentry_dsn"]["value"] == "****"


def test_config_without_a_flow_tells_what_is_known_without_one(aiopype, quotes, monkeypatch):
    (quotes / "pyproject.toml").unlink()
    monkeypatch.setenv("AIOPYPE_BROKER", "c:3")

    result = aiopype("config")

    assert result.exit_code == 0
    assert "environment AIOPYPE_BROKER" in result.output
    assert "no flow is named" in result.output


def test_config_of_a_wrong_setting_is_one_line(aiopype, quotes, monkeypatch):
    monkeypatch.setenv("AIOPYPE_DATA_DIR", "")
    (quotes / "pyproject.toml").write_text("[tool.aiopype]\nbrokr = 5\n")

    result = aiopype("config", "cli_config.py")

    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "did you mean broker?" in result.output


def test_the_help_of_config_has_every_setting(aiopype):
    result = aiopype("config", "--help")

    for name in Settings.table():
        assert f"\n  {name} " in result.output
