"""The values of a flow say what its chart needs, and no secret."""

import dataclasses
import itertools
import re

import pytest
import yaml
from click.testing import CliRunner

from aiopype import cli
from aiopype.deploy.kubernetes import Facts, ReadTopic
from aiopype.deploy.kubernetes_values import as_values
from aiopype.settings import Found, Settings

_numbers = itertools.count(1)

TOPICS = (ReadTopic("a.b.c", 6, ("a.d.e",)),)
SECRETS = {
    "sasl_password": "geheim-1",
    "sentry_dsn": "https://geheim-2@s/1",
    "web_token": "geheim-3",
}
SASL = {
    "security_protocol": "SASL_SSL",
    "ssl_cafile": "/ca.pem",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_username": "anna",
}

PROGRAM = """
from aiopype import AsyncFlow, Manager, Processor, Source

class Feed(Source):
    async def start(self):
        pass

class Writer(Processor):
    def write(self, value):
        pass

class Values(Manager):
    name = "NAME"
    def __init__(self, handler):
        super().__init__(handler)
        self.feed = Feed(self.build_processor_name("feed"), handler)
        self.writer = Writer(self.build_processor_name("writer"), handler)
        self.feed.on("tick", self.writer.write)

class Config:
    FLOWS = ["NAME"]

dataflow = AsyncFlow(Config())
"""


@pytest.fixture
def make(tmp_path):
    """Make the facts of a flow whose settings are from the environment."""

    def make(topics=TOPICS, files=None, **given):
        environ = {f"AIOPYPE_{name.upper()}": value for name, value in given.items()}
        places = {"environ": environ, "folder": tmp_path}
        config = type("Config", (), {"FLOWS": ["a"]})()
        found = Settings.look_up(config, "my_Flow", **places)
        settings = Settings.load(config, "my_Flow", **places)
        return Facts(settings, found, ("a",), ("a.b",), tuple(topics), files or {})

    return make


def read(facts, target="a.py", image=None):
    return yaml.safe_load(as_values(facts, target, image))


def test_the_flow_is_there(make):
    said = read(make(namespace="staging", broker="k1:9092,k2:9092"))

    assert said["flow"] == {
        "target": "a.py",
        "name": "my_Flow",
        "namespace": "staging",
        "managers": ["a"],
        "sources": ["a.b"],
        "topics": [{"name": "a.b.c", "partitions": 6}],
    }
    assert said["kafka"] == {"brokers": "k1:9092,k2:9092"}
    assert "settings" not in said


def test_comments_say_who_handles_a_topic_and_what_the_group_is_called(make):
    text = as_values(make(namespace="staging"), "a.py")

    assert "# -> a.d.e\n    - name: a.b.c\n" in text
    assert "# Its consumer group is staging.my_Flow.\n" in text
    assert "# No cluster is configured where this was written" in text


def test_a_topic_of_others_is_marked_and_asks_for_its_partitions(make):
    topic = ReadTopic("quotes", 1, ("a.d.e",), True, True, True)
    facts = make([topic])

    assert read(facts)["flow"]["topics"] == [
        {"name": "quotes", "partitions": 1, "foreign": True, "begin": "latest"}
    ]
    assert "--partitions quotes=N" in as_values(facts, "a.py")
    assert "--partitions" not in as_values(make([topic._replace(is_unknown=False)]), "a.py")


@pytest.mark.parametrize(("partitions", "fewest"), [(1, 1), (2, 2), (8, 2)])
def test_the_bounds_of_autoscaling_follow_the_partitions(make, partitions, fewest):
    topics = [ReadTopic("a.b.c", 1, ()), ReadTopic("a.b.d", partitions, ())]

    assert read(make(topics))["autoscaling"] == {
        "enabled": False,
        "minReplicas": fewest,
        "maxReplicas": partitions,
    }


def test_a_flow_that_handles_nothing_is_not_scaled_by_lag(make):
    said = read(make([]))

    assert "autoscaling" not in said
    assert "topics" not in said["flow"]


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("prices", {"repository": "prices"}),
        ("prices:1.2", {"repository": "prices", "tag": "1.2"}),
        ("host:5000/x/prices", {"repository": "host:5000/x/prices"}),
        ("host:5000/x/prices:1.2", {"repository": "host:5000/x/prices", "tag": "1.2"}),
        ("x/prices@sha256:ab", {"repository": "x/prices", "digest": "sha256:ab"}),
    ],
)
def test_an_image_is_taken_apart(make, image, said):
    assert read(make(), image=image)["image"] == said


def test_settings_from_outside_the_code_travel_as_text(make):
    said = read(make(watchdog_batch_seconds="600", guarantee="at_least_once", web_port="7000"))

    assert said["settings"] == {"guarantee": "at_least_once", "watchdog_batch_seconds": "600.0"}


def test_no_secret_is_written_but_where_it_will_be(make):
    facts = make(**SECRETS, **SASL)
    text, said = as_values(facts, "a.py"), read(facts)

    assert "geheim" not in text
    assert "anna" not in text
    assert said["kafka"]["sasl"] == {
        "mechanism": "SCRAM-SHA-512",
        "username": {"name": "my-flow-kafka", "key": "username"},
        "password": {"name": "my-flow-kafka", "key": "password"},
    }
    assert said["kafka"]["tls"] == {
        "enabled": True,
        "ca": {"name": "my-flow-kafka", "key": "ca.pem"},
    }
    assert said["sentry"] == {"dsn": {"name": "my-flow-sentry", "key": "dsn"}}
    assert said["web"] == {"token": {"name": "my-flow-web", "key": "token"}}


def test_every_secret_of_the_table_stays_out(make, tmp_path):
    facts = make(**SASL, **SECRETS)
    secret = {name for name, setting in Settings.table().items() if setting.secret}
    found = {name: Found(f"geheim-{name}", f"environment {name}") for name in secret}

    assert secret
    assert "geheim" not in as_values(dataclasses.replace(facts, found=facts.found | found), "a.py")


def test_a_token_of_oauthbearer_is_asked_for_where_the_settings_say(make):
    said = read(
        make(
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="OAUTHBEARER",
            sasl_token_url="https://idp/token",
            sasl_username="anna",
            sasl_password="geheim",
            sasl_extensions="a=b,c=d",
        )
    )

    assert said["kafka"]["sasl"]["token"] == {"url": "https://idp/token"}
    assert said["kafka"]["sasl"]["extensions"] == "a=b,c=d"
    assert "tls" not in said["kafka"]


def test_files_are_there_letter_for_letter(make):
    files = {"a.py": "x = '''\n\n  #\t: {%}'''  \nü = 1", "topics/a.toml": "[defaults]\n"}

    assert read(make(files=files))["flow"]["files"] == files


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A flow's file, values.py, in the current folder; its manager has a name of its own."""
    monkeypatch.chdir(tmp_path)
    text = PROGRAM.replace("NAME", f"in_file_{next(_numbers)}")
    (tmp_path / "values.py").write_text(text)
    return text


def run(*arguments):
    return CliRunner().invoke(cli.main, ["deploy", "kubernetes", *map(str, arguments)])


@pytest.mark.usefixtures("program")
def test_the_command_writes_to_standard_output_a_file_or_a_folder(tmp_path):
    printed = run("values.py")
    to_file = run("values.py", "--out", tmp_path / "new/v.yaml")
    to_folder = run("values.py", "--out", tmp_path)

    assert printed.exit_code == 0, printed.output
    assert yaml.safe_load(printed.output)["flow"]["name"] == "values"
    assert to_file.output == f"{tmp_path}/new/v.yaml\n"
    assert (tmp_path / "new/v.yaml").read_text() == printed.output
    assert to_folder.output == f"{tmp_path}/values-values.yaml\n"


def test_the_command_takes_broker_image_and_partitions_and_sends_files_along(program):
    (topic,) = yaml.safe_load(run("values.py").output)["flow"]["topics"]
    options = ["--broker", "k:1", "--image", "p:2", "--embed"]
    result = run("values.py", *options, "--partitions", f"{topic['name']}=7")

    said = yaml.safe_load(result.output)
    assert said["kafka"]["brokers"] == "k:1"
    assert said["image"] == {"repository": "p", "tag": "2"}
    assert said["flow"]["files"] == {"values.py": program}
    assert said["autoscaling"]["maxReplicas"] == 7


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize("text", ["a", "a=", "=3", "a=0", "a=x"])
def test_partitions_of_another_form_are_refused(text):
    result = run("values.py", "--partitions", text)

    assert result.exit_code == 2
    assert re.search(r"write\s+TOPIC=N", result.output)


def test_a_flow_in_process_has_no_workers(tmp_path, program):
    (tmp_path / "values.py").write_text(program.replace("AsyncFlow", "Flow"))
    result = run("values.py")

    assert result.exit_code == 1
    assert "runs in process" in result.output
