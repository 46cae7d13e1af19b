from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

from aiopype.errors import ConfigurationError
from aiopype.settings import Settings


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """The current folder, which is in no project."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(name=None, broker=None, environ=(), **config):
    config.setdefault("FLOWS", ["prices"])
    config.setdefault("NAME", "flow")
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

    with pytest.raises(
        ConfigurationError, match=r"Config.FLOWS in test_settings.py: FLOWS is None"
    ):
        Settings.load(Config(), "flow", environ={})


# --- name


def test_the_name_is_the_given_one():
    assert load(name="quotes").name == "quotes"


def test_the_given_name_comes_before_the_configurations():
    assert load(name="quotes", NAME="prices").name == "quotes"
    assert load(NAME="prices").name == "prices"


def test_a_configuration_without_a_name_is_refused_where_none_is_given():
    class Config:
        FLOWS = ("prices",)

    with pytest.raises(ConfigurationError, match=r"Config.NAME.*flow name None"):
        Settings.load(Config(), environ={})


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


# --- the web server


def test_without_a_port_there_is_none_and_the_server_listens_on_loopback():
    assert (load().web_port, load().web_host) == (None, "127.0.0.1")


@pytest.mark.parametrize("port", ["0", 0, "65535", 7000])
def test_a_port_is_a_number(port):
    assert load(WEB_PORT=port).web_port == int(port)


@pytest.mark.parametrize("port", ["65536", -1, "http", True, 1.5, [1]])
def test_a_port_of_a_wrong_form_is_refused(port):
    with pytest.raises(ConfigurationError, match="give a whole number from 0 to 65535"):
        load(WEB_PORT=port)


def test_port_and_host_come_from_the_environment_too():
    found = load(environ={"AIOPYPE_WEB_PORT": "7000", "AIOPYPE_WEB_HOST": "0.0.0.0"})

    assert (found.web_port, found.web_host) == (7000, "0.0.0.0")


def test_without_a_token_there_is_none_and_one_that_is_set_is_not_shown():
    found = load(environ={"AIOPYPE_WEB_TOKEN": "sesame"})

    assert load().web_token is None
    assert found.web_token == "sesame"
    assert "sesame" not in repr(found)
    assert Settings.table()["web_token"].secret


def test_a_token_is_taken_without_the_line_end_of_its_file():
    assert load(WEB_TOKEN=" c2VzYW1l+/=-._~\n").web_token == "c2VzYW1l+/=-._~"


@pytest.mark.parametrize("token", ["two words", "s\xe9same", "\n", "a\nb", 5, b"sesame"])
def test_a_token_that_no_header_takes_is_refused_and_not_shown(token):
    with pytest.raises(ConfigurationError, match=r"is no text|a token is") as refused:
        load(WEB_TOKEN=token)

    assert str(token).strip() == "" or str(token) not in str(refused.value)


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


# --- namespace, and what begins with it


def test_a_flow_has_no_namespace_unless_one_is_set():
    assert (load().namespace, load().group) == (None, "flow")


def test_a_namespace_goes_in_front_of_the_group():
    assert load(NAMESPACE="team.a").group == "team.a.flow"


@pytest.mark.parametrize("namespace", ["a b", ".a", "a.", "a..b", "x" * 41, 5])
def test_a_namespace_that_no_topic_can_begin_with_is_refused(namespace):
    with pytest.raises(ConfigurationError, match=r"namespace .*: use letters"):
        load(NAMESPACE=namespace)


# --- names of old configurations


def test_the_dsn_of_an_old_configuration_is_the_sentry_dsn():
    settings = load(RAVEN_DSN="https://key@sentry/1", VERSION="1.0")

    assert settings.sentry_dsn == "https://key@sentry/1"


def test_a_secret_is_not_in_what_settings_show_of_themselves():
    assert "key@" not in repr(load(SENTRY_DSN="https://key@sentry/1"))


# --- TLS and SASL

LOGIN = {"SASL_MECHANISM": "plain", "SASL_USERNAME": "me", "SASL_PASSWORD": "secret"}
WHO = {"SASL_USERNAME": "me", "SASL_PASSWORD": "secret"}
TOKEN = {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "OAUTHBEARER"}
FILE = {"SASL_TOKEN_FILE": "token"}
URL = {"SASL_TOKEN_URL": "https://idp/token"}


def test_without_a_protocol_the_brokers_are_spoken_to_in_the_clear():
    assert load().security_protocol is None


@pytest.mark.parametrize(
    "config",
    [
        {"SECURITY_PROTOCOL": "ssl"},
        {"SECURITY_PROTOCOL": "SSL", "SSL_CAFILE": "ca.pem"},
        {"SECURITY_PROTOCOL": "SSL", "SSL_CERTFILE": "c.pem", "SSL_KEYFILE": "k.pem"},
        {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", **LOGIN},
        {"SECURITY_PROTOCOL": "SASL_SSL", "SSL_CAFILE": "ca.pem", **LOGIN},
        {**TOKEN, **FILE, "SASL_EXTENSIONS": "logicalCluster=lkc-1"},
        {**TOKEN, "SASL_TOKEN_PROVIDER": "module:function"},
        {**TOKEN, **URL, **WHO},
        {**TOKEN, **URL, **WHO, "SASL_TOKEN_SCOPE": "kafka", "SSL_CAFILE": "ca.pem"},
    ],
)
def test_settings_of_tls_and_sasl_that_fit_together(config):
    assert load(**config).security_protocol == config["SECURITY_PROTOCOL"].upper()


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"SECURITY_PROTOCOL": "TLS"}, "'TLS': write one of PLAINTEXT, SSL, SASL_PLAINTEXT"),
        ({"SSL_CAFILE": "ca"}, "ssl_cafile does nothing with security_protocol None; set it to S"),
        ({"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SSL_CAFILE": "ca", **LOGIN}, "ssl_cafile does"),
        ({"SECURITY_PROTOCOL": "SSL", **LOGIN}, "sasl_mechanism, sasl_password, sasl_username do"),
        ({"SECURITY_PROTOCOL": "SASL_SSL", "SASL_USERNAME": "me"}, "needs sasl_mechanism, sasl_p"),
        ({**LOGIN, "SASL_MECHANISM": "GSSAPI"}, "'GSSAPI': write one of PLAIN, SCRAM-SHA-256, "),
        ({"SECURITY_PROTOCOL": "SSL", "SSL_KEYFILE": "k"}, "is the key of ssl_certfile; set both"),
        (TOKEN, "where its token is from; set one of sasl_token_file, sasl_token_provider, sasl_t"),
        ({**TOKEN, **FILE, **URL}, "set one of .*, not sasl_token_file and sasl_token_url"),
        ({**TOKEN, **FILE, **WHO}, "sasl_password, sasl_username does nothing with sasl_mechanism"),
        ({**TOKEN, **FILE, "SASL_TOKEN_SCOPE": "a"}, "sasl_token_scope does nothing with .*_file"),
        ({**TOKEN, **URL}, "OAUTHBEARER and sasl_token_url needs sasl_username, sasl_password as"),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL", **LOGIN, **FILE},
            "sasl_token_file does nothing with .*N",
        ),
        (
            {"SASL_TOKEN_PROVIDER": "module"},
            "SASL_TOKEN_PROVIDER: function 'module': write module:f",
        ),
        ({"SASL_TOKEN_URL": "ftp://a/b"}, "URL 'ftp://a/b': write https://host/path"),
        ({"SASL_TOKEN_URL": "https://[a"}, "write https://host/path"),
        ({"SASL_EXTENSIONS": "a=b,c"}, "extension 'c': write name=value,..."),
        ({"SASL_EXTENSIONS": "auth=b"}, "extension 'auth=b': write name=value"),
    ],
)
def test_settings_of_tls_and_sasl_that_do_not_fit_are_refused(config, why):
    with pytest.raises(ConfigurationError, match=why):
        load(**config)


def test_a_password_is_not_in_what_settings_show_of_themselves():
    assert "secret" not in repr(load(SECURITY_PROTOCOL="SASL_PLAINTEXT", **LOGIN))


def test_a_login_inside_an_address_is_refused_and_not_shown():
    with pytest.raises(ConfigurationError, match="a login inside the URL is not taken") as caught:
        load(SASL_TOKEN_URL="https://me:hidden@idp/token")

    assert "hidden" not in str(caught.value)


# --- the flow that commands take


def test_the_default_flow_comes_from_the_environment_before_the_project(folder):
    (folder / "pyproject.toml").write_text('[tool.aiopype]\nflow = "quotes.py"\n')

    assert Settings.default_flow(environ={"AIOPYPE_FLOW": "a.b:flow"}) == "a.b:flow"
    assert Settings.default_flow(environ={}) == str(folder / "quotes.py")


def test_there_is_no_default_flow_where_nobody_named_one():
    assert Settings.default_flow(environ={}) is None


# --- the table


def test_each_setting_says_what_it_is_for_and_how_it_is_written():
    for setting in Settings.table().values():
        assert setting.reason
        assert setting.unit


def test_a_field_that_is_secret_is_left_out_of_the_repr():
    table = Settings.table()

    assert all(field.repr is not table[field.name].secret for field in fields(Settings))


# --- the environment


def test_the_process_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("AIOPYPE_BROKER", "from-process:1")

    assert Settings.load(SimpleNamespace(FLOWS=["a"]), "flow").broker == "from-process:1"


def test_settings_do_not_change():
    with pytest.raises(AttributeError):
        load().name = "other"


@pytest.mark.parametrize(("given", "seconds"), [(0, 0.0), (2.5, 2.5), ("90", 90.0), (None, 60.0)])
def test_a_limit_of_the_watchdog_is_a_number_of_seconds(given, seconds):
    assert load(WATCHDOG_LOOP_SECONDS=given).watchdog_loop_seconds == seconds


@pytest.mark.parametrize("given", ["soon", -1, True, float("inf"), float("nan"), [1]])
def test_a_limit_that_is_no_number_of_seconds_is_refused(given):
    with pytest.raises(ConfigurationError, match="number of seconds"):
        load(WATCHDOG_LOOP_SECONDS=given)


# --- the log


def test_the_log_is_text_from_info_on():
    assert (load().log_format, load().log_level) == ("text", "INFO")


def test_the_log_is_said_in_whatever_case():
    settings = load(environ={"AIOPYPE_LOG_FORMAT": "JSON", "AIOPYPE_LOG_LEVEL": "debug"})

    assert (settings.log_format, settings.log_level) == ("json", "DEBUG")


@pytest.mark.parametrize("config", [{"LOG_FORMAT": "xml"}, {"LOG_LEVEL": "loud"}])
def test_another_word_for_the_log_is_refused(config):
    with pytest.raises(ConfigurationError, match="write one of"):
        load(**config)


def test_what_is_said_of_the_log_is_found_before_all_else_is_checked(folder):
    config = SimpleNamespace(LOG_FORMAT="json", NO_SETTING=1)
    environ = {"AIOPYPE_LOG_LEVEL": "WARNING"}

    assert Settings.of_logs(config, environ=environ) == ("json", "WARNING")
    assert Settings.of_logs(config, environ=environ, log_level="error") == ("json", "ERROR")


@pytest.mark.parametrize(
    ("said", "meant"), [("true", True), ("0", False), ("False", False), ("1", True), ("", False)]
)
def test_tracing_is_said_in_words_or_numbers(said, meant):
    assert load(environ={"AIOPYPE_TRACING": said}).tracing is meant


def test_tracing_is_off_and_nothing_else_than_yes_or_no():
    assert load().tracing is False
    assert load(TRACING=True).tracing is True
    with pytest.raises(ConfigurationError, match="write true or false"):
        load(TRACING="maybe")
