from pathlib import Path
from types import SimpleNamespace

import pytest

from aiopype.errors import ConfigurationError
from aiopype.settings import Settings


def load(name="flow", broker=None, environ=(), **config):
    config.setdefault("FLOWS", ["prices"])
    return Settings.load(SimpleNamespace(**config), name, broker=broker, environ=dict(environ))


# --- flows


@pytest.mark.parametrize("flows", [["a", "b"], ("a", "b"), {"a": 1, "b": 2}])
def test_flows_are_the_names_of_managers_in_order(flows):
    assert load(FLOWS=flows).flows == ("a", "b")


def test_flows_that_can_be_read_only_once_are_read_once():
    assert load(FLOWS=iter(["a", "b"])).flows == ("a", "b")


@pytest.mark.parametrize("flows", [None, [], (), "prices", [1], ["a", None], 5, True, object])
def test_flows_of_a_wrong_form_are_refused_with_what_to_do(flows):
    with pytest.raises(ConfigurationError, match=r"FLOWS is .*; set it to the list of the names"):
        load(FLOWS=flows)


def test_a_configuration_without_flows_is_refused_by_its_class():
    class Config:
        pass

    with pytest.raises(ConfigurationError, match=r"Config.FLOWS is None"):
        Settings.load(Config(), "flow", environ={})


# --- name


def test_the_name_is_the_given_one():
    assert load(name="quotes").name == "quotes"


def test_the_configurations_name_comes_first():
    assert load(name="quotes", NAME="prices").name == "prices"


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "x" * 200])
def test_a_name_is_of_letters_digits_dots_underscores_and_hyphens(name):
    assert load(NAME=name).name == name


@pytest.mark.parametrize("name", ["a b", "a/b", "a:b", "x" * 201, "a\n"])
def test_a_name_that_cannot_be_a_group_is_refused(name):
    with pytest.raises(ConfigurationError, match=r"flow name .*: use letters, digits"):
        load(NAME=name)


@pytest.mark.parametrize("name", ["börse", "株", "a²"])
def test_a_name_that_no_topic_can_begin_with_is_refused(name):
    # The topic of the flow's election begins with it, and Kafka knows ASCII only.
    with pytest.raises(ConfigurationError, match="flow name"):
        load(NAME=name)


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(ConfigurationError, match="flow name 5"):
        load(NAME=5)


# --- broker


def test_without_a_broker_there_is_none():
    assert load().broker is None


def test_the_command_lines_broker_comes_first_then_the_configurations_then_the_environments():
    environ = {"AIOPYPE_BROKER": "c:3"}

    assert load(broker="a:1", BROKER="b:2", environ=environ).broker == "a:1"
    assert load(BROKER="b:2", environ=environ).broker == "b:2"
    assert load(environ=environ).broker == "c:3"


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_broker_is_none(empty):
    assert load(broker=empty, BROKER=empty, environ={"AIOPYPE_BROKER": empty or ""}).broker is None


@pytest.mark.parametrize(
    ("given", "broker"),
    [
        ("localhost:9092", "localhost:9092"),
        ("kafka://localhost:9092", "localhost:9092"),
        ("a:1,b:2", "a:1,b:2"),
        (" a:1 , kafka://b:2 ", "a:1,b:2"),
        ("[::1]:9092", "[::1]:9092"),
        ("10.0.0.1:9092", "10.0.0.1:9092"),
    ],
)
def test_a_broker_is_a_list_of_addresses(given, broker):
    assert load(broker=given).broker == broker


@pytest.mark.parametrize(
    "given", ["localhost", "localhost:", ":9092", "a:b", "a:1,", "a:1,,b:2", "a:-1"]
)
def test_a_broker_without_host_or_port_is_refused_with_what_to_write(given):
    with pytest.raises(ConfigurationError, match=r"broker address .*: write host:port"):
        load(broker=given)


@pytest.mark.parametrize("given", [["a:1", "b:2"], 9092])
def test_a_broker_that_is_no_text_is_refused(given):
    with pytest.raises(ConfigurationError, match="host:port"):
        load(BROKER=given)


@pytest.mark.parametrize("port", ["²", "٩٠٩٢", "65536"])
def test_a_port_that_cannot_be_is_refused(port):
    with pytest.raises(ConfigurationError, match="write host:port"):
        load(broker=f"localhost:{port}")


# --- data_dir


def test_files_are_kept_in_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    assert load().data_dir == tmp_path / ".aiopype"


def test_the_configurations_folder_comes_before_the_environments():
    environ = {"AIOPYPE_DATA_DIR": "/from/environment"}

    assert load(DATA_DIR="/from/config", environ=environ).data_dir == Path("/from/config")
    assert load(environ=environ).data_dir == Path("/from/environment")


def test_the_folder_is_absolute_whatever_was_given(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    assert load(DATA_DIR="data").data_dir == tmp_path / "data"
    assert load(DATA_DIR=Path("data")).data_dir == tmp_path / "data"


# --- the environment


def test_the_process_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("AIOPYPE_BROKER", "from-process:1")

    assert Settings.load(SimpleNamespace(FLOWS=["a"]), "flow").broker == "from-process:1"


def test_settings_do_not_change():
    with pytest.raises(AttributeError):
        load().name = "other"
