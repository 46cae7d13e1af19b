import logging
from types import ModuleType, SimpleNamespace

import pytest

from aiopype.errors import ConfigurationError
from aiopype.settings import Settings, report
from aiopype.settings.files import nearest, project_folder, read_toml


class Config:
    FLOWS = ("prices",)


@pytest.fixture
def project(tmp_path):
    """Writes the [tool.aiopype] of a project; returns a folder in it."""

    def write(text):
        (tmp_path / "pyproject.toml").write_text(f"[tool.aiopype]\n{text}\n")
        inner = tmp_path / "src" / "deep"
        inner.mkdir(parents=True)
        return inner

    return write


def configured(**attributes):
    return type("Config", (Config,), attributes)()


def look_up(folder, config=None, environ=(), **given):
    return Settings.look_up(
        config or Config(), "flow", environ=dict(environ), folder=folder, **given
    )


# --- the order


def test_each_place_comes_before_the_next(project):
    folder = project('broker = "d:4"')
    environ = {"AIOPYPE_BROKER": "c:3"}
    config = configured(BROKER="b:2")

    assert look_up(folder, config, environ, broker="a:1")["broker"].value == "a:1"
    assert look_up(folder, config, environ)["broker"].value == "b:2"
    assert look_up(folder, None, environ)["broker"].value == "c:3"
    assert look_up(folder)["broker"].value == "d:4"


def test_each_value_says_where_it_comes_from(project, tmp_path):
    folder = project('broker = "d:4"')
    environ = {"AIOPYPE_BROKER": "c:3"}
    config = configured(BROKER="b:2")

    def origin(*places, **given):
        return look_up(folder, *places, **given)["broker"].origin

    assert origin(config, environ, broker="a:1") == "command line"
    assert origin(config) == "Config.BROKER in test_settings_lookup.py"
    assert origin(None, environ) == "environment AIOPYPE_BROKER"
    assert origin() == f"[tool.aiopype] broker in {tmp_path / 'pyproject.toml'}"
    assert look_up(tmp_path / "src")["namespace"].origin == "default"


@pytest.mark.parametrize("empty", [None, ""])
def test_what_is_empty_is_not_set(project, empty):
    folder = project('broker = "d:4"')

    found = look_up(folder, configured(BROKER=empty), {"AIOPYPE_BROKER": ""}, broker=empty)

    assert found["broker"].value == "d:4"


def test_a_module_and_a_class_are_configurations_as_well(tmp_path):
    module = ModuleType("settings")
    module.FLOWS = ["a"]

    assert look_up(tmp_path, module)["flows"].origin == "settings.FLOWS"
    assert look_up(tmp_path, Config)["flows"].origin == "Config.FLOWS in test_settings_lookup.py"


def test_a_class_of_the_standard_library_has_no_file_of_the_users(tmp_path):
    found = look_up(tmp_path, SimpleNamespace(FLOWS=["a"]))

    assert found["flows"].origin == "SimpleNamespace.FLOWS"


def test_without_a_flow_what_only_a_flow_has_is_missing(tmp_path):
    found = Settings.look_up(None, environ={"AIOPYPE_BROKER": "c:3"}, folder=tmp_path)

    assert (found["flows"].value, found["flows"].origin) == (None, "no flow is named")
    assert found["broker"].value == "c:3"


def test_flows_and_name_are_the_flows_own(project, tmp_path, caplog):
    with pytest.raises(ConfigurationError, match="'flows' is no setting"):
        look_up(project('flows = ["a"]'))

    look_up(tmp_path.parent, None, {"AIOPYPE_NAME": "other"})
    assert "AIOPYPE_NAME is ignored" in caplog.text


# --- paths


def test_a_path_of_a_project_is_relative_to_it(project, tmp_path):
    assert look_up(project('data_dir = "data"'))["data_dir"].value == tmp_path / "data"


def test_any_other_path_is_relative_to_the_current_folder(project, tmp_path):
    folder = project("")

    found = look_up(folder, None, {"AIOPYPE_DATA_DIR": "data"})

    assert found["data_dir"].value == folder / "data"
    assert look_up(folder)["data_dir"].value == folder / ".aiopype"


# --- unknown names


def test_an_unknown_attribute_is_refused_with_the_one_it_resembles(tmp_path):
    with pytest.raises(ConfigurationError, match=r"Config.FLOWZ in .* did you mean FLOWS\?"):
        look_up(tmp_path, configured(FLOWZ=["a"]))


def test_an_unknown_attribute_that_resembles_none_is_refused_with_all(tmp_path):
    with pytest.raises(ConfigurationError, match="there are BROKER, DATA_DIR, FLOWS"):
        look_up(tmp_path, configured(XYZ=1))


def test_names_of_the_users_own_are_left_alone(tmp_path):
    config = configured(_PRIVATE=1, url="x", CamelCase=2, broker="ignored")

    assert look_up(tmp_path, config)["broker"].value is None


def test_an_unknown_key_of_a_project_is_refused_with_file_and_hint(project, tmp_path):
    file = tmp_path / "pyproject.toml"

    with pytest.raises(ConfigurationError) as refusal:
        look_up(project('brokr = "a:1"'))

    text = f"[tool.aiopype] in {file}: 'brokr' is no setting; did you mean broker?"
    assert str(refusal.value) == text


def test_an_unknown_variable_is_only_warned_of(tmp_path, caplog):
    caplog.set_level(logging.WARNING)

    look_up(tmp_path, None, {"AIOPYPE_BROKR": "a:1", "OTHER": "x"})

    assert caplog.messages == ["AIOPYPE_BROKR is ignored: no setting; did you mean AIOPYPE_BROKER?"]


# --- wrong values


def test_a_wrong_value_is_refused_with_where_it_stands(project):
    folder = project("broker = 5")

    with pytest.raises(ConfigurationError, match=r"^environment AIOPYPE_BROKER: broker address"):
        look_up(folder, None, {"AIOPYPE_BROKER": "x"})
    with pytest.raises(ConfigurationError, match=r"^\[tool.aiopype\] broker in .*: broker 5"):
        look_up(folder)


@pytest.mark.parametrize("name", ["data_dir", "flow", "sentry_dsn"])
def test_a_value_that_is_no_text_is_refused(project, name):
    with pytest.raises(ConfigurationError, match=rf"\[tool.aiopype\] {name} .*text"):
        look_up(project(f"{name} = 5"))


def test_a_password_is_not_in_the_error_about_it(project):
    with pytest.raises(ConfigurationError) as refusal:
        look_up(project("sasl_password = 12345"))

    assert "12345" not in str(refusal.value)


def test_a_tool_table_of_a_wrong_form_is_refused(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool]\naiopype = 5\n")

    with pytest.raises(ConfigurationError, match=r"tool.aiopype is 5; make it a table"):
        look_up(tmp_path)


# --- files


def test_the_project_is_the_nearest_folder_with_a_pyproject_file(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "a" / "pyproject.toml").touch()

    assert project_folder(inner) == tmp_path / "a"
    assert project_folder(tmp_path) == tmp_path


def test_a_project_without_settings_sets_nothing(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")

    assert look_up(tmp_path)["broker"].origin == "default"


@pytest.mark.parametrize("content", [b"a = ", b"\xff"])
def test_a_file_that_is_not_toml_is_refused_by_its_name(tmp_path, content):
    file = tmp_path / "x.toml"
    file.write_bytes(content)

    with pytest.raises(ConfigurationError, match=f"reading {file}: "):
        read_toml(file)


def test_a_hint_where_nothing_is_known_says_so():
    assert nearest("a", []) == "there are none"


# --- reports


def test_the_text_has_a_line_a_setting_with_its_origin(tmp_path):
    found = look_up(tmp_path, configured(BROKER="b:2", SENTRY_DSN="https://key@sentry"))

    lines = report.as_text(Settings.table(), found).splitlines()

    assert lines[0].split() == ["setting", "value", "from"]
    assert lines[1].split()[:2] == ["flows", "prices"]
    assert lines[3].split()[:3] == ["broker", "b:2", "Config.BROKER"]
    assert [line.split()[1] for line in lines if "sentry_dsn" in line] == ["****"]
    assert "key@" not in "".join(lines)
    assert len({line.index(origin) for line, origin in zip(
        lines[:3], ("from", "Config.FLOWS", "AsyncFlow("), strict=True
    )}) == 1  # fmt: skip


def test_the_help_has_unit_default_and_reason_of_each():
    lines = report.as_help(Settings.table()).splitlines()

    assert len(lines) == 1 + len(Settings.table())
    (data_dir,) = [line for line in lines if line.startswith("data_dir")]
    assert data_dir.split()[1:3] == ["folder", ".aiopype"]
