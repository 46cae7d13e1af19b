"""docker-compose.yml, read as Docker Compose reads it; no engine is here to run it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiopype import broker
from aiopype.broker import properties
from aiopype.errors import BrokerError
from aiopype.settings import Settings

from . import compose

pytestmark = pytest.mark.deploy

IN_ORDER = ("kafka", "worker", "prometheus", "grafana")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return compose.load(compose.FILE)


@pytest.fixture(scope="module")
def services(project: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = project["services"]
    return found


@pytest.fixture
def altered(tmp_path: Path) -> Callable[[str, str], Path]:
    """The file with one thing made wrong."""

    def alter(old: str, new: str) -> Path:
        text = compose.FILE.read_text()
        assert old in text
        file = tmp_path / "docker-compose.yml"
        file.write_text(text.replace(old, new, 1))
        return file

    return alter


# --- the loader and the linters


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("healthcheck:", "healthchek:", "healthchek"),
        ("condition: service_healthy", "condition: service_happy", "kafka.condition"),
        ("      kafka:\n        condition", "      kafak:\n        condition", "kafak"),
        ("kafka-data:/var", "kafka-date:/var", "kafka-date"),
        ("mem_limit: 1g", "mem_limit: much", "much"),
    ],
)
def test_the_loader_refuses_what_is_wrong(
    altered: Callable[[str, str], Path], old: str, new: str, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        compose.load(altered(old, new))


def test_the_security_linter_finds_nothing() -> None:
    assert compose.security_findings(compose.FILE) == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    read_only: true\n", ""),
        ('"127.0.0.1:${GRAFANA_PORT:-3000}:3000"', '"${GRAFANA_PORT:-3000}:3000"'),
        ("  cap_drop: [ALL]\n", ""),
        ("    init: true\n", "    init: true\n    privileged: true\n"),
    ],
)
def test_the_security_linter_finds_what_is_wrong(
    altered: Callable[[str, str], Path], old: str, new: str
) -> None:
    assert "CL-0" in compose.security_findings(altered(old, new))


def test_the_other_linter_finds_nothing() -> None:
    assert compose.style_findings(compose.FILE) == ""


def test_the_other_linter_finds_what_is_wrong(altered: Callable[[str, str], Path]) -> None:
    assert "schema" in compose.style_findings(altered("healthcheck:", "healthchek:"))


# --- what it says


def test_each_service_waits_until_the_one_before_is_healthy(services: dict[str, Any]) -> None:
    assert set(services) == set(IN_ORDER)
    for before, name in itertools.pairwise(IN_ORDER):
        waits_for = services[name]["depends_on"]
        assert waits_for == {before: {"condition": "service_healthy", "required": True}}
    for service in services.values():
        assert service["healthcheck"]["test"][0] == "CMD"


def test_ports_are_on_loopback_only(services: dict[str, Any]) -> None:
    for service in services.values():
        assert [port["host_ip"] for port in service["ports"]] == ["127.0.0.1"]


def test_no_service_has_more_rights_than_it_needs(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service.get("read_only", False) == (name != "kafka")
        assert int(service["mem_limit"]) <= 2**30
        assert service["pids_limit"] > 0
        assert service["restart"] == "unless-stopped"


def test_a_worker_has_the_time_that_its_drain_takes(services: dict[str, Any]) -> None:
    assert services["worker"]["stop_grace_period"] == "30s"
    assert services["worker"]["init"]


def test_what_is_mounted_is_there(services: dict[str, Any]) -> None:
    mounts = [m for s in services.values() for m in s["volumes"] if m["type"] == "bind"]
    assert mounts
    for mount in mounts:
        assert Path(mount["source"]).exists()
        assert mount["read_only"]


def test_the_environment_may_say_how_many_workers_and_which_flow() -> None:
    found = compose.load(
        compose.FILE, WORKERS="2", AIOPYPE_FLOW="prices.py", GRAFANA_PASSWORD="long one"
    )["services"]
    assert found["worker"]["deploy"]["replicas"] == 2
    assert found["worker"]["environment"]["AIOPYPE_FLOW"] == "prices.py"
    assert found["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == "long one"


# --- what the services know of each other


def test_the_settings_of_the_worker_are_settings(
    services: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environ = services["worker"]["environment"]
    found = Settings.look_up(None, environ=environ, folder=tmp_path)
    assert found["broker"].value == "kafka:19092"
    assert found["flow"].value == "aiopype.demo.flow:dataflow"
    assert caplog.text == ""  # an unknown one is warned of


def test_prometheus_finds_the_workers_and_grafana_finds_it(services: dict[str, Any]) -> None:
    (scraped,) = mounted(services["prometheus"], "prometheus.yml")["scrape_configs"]
    (target,) = scraped["dns_sd_configs"]
    assert target["names"] == ["worker"]
    assert [target["port"]] == [port["target"] for port in services["worker"]["ports"]]
    (source,) = mounted(services["grafana"], "datasources")["datasources"]
    (port,) = services["prometheus"]["ports"]
    assert source["url"] == f"http://prometheus:{port['target']}"


def test_grafana_looks_for_the_boards_where_they_are(services: dict[str, Any]) -> None:
    (provider,) = mounted(services["grafana"], "provisioning/dashboards")["providers"]
    places = {m["target"]: Path(m["source"]) for m in services["grafana"]["volumes"]
              if m["type"] == "bind"}  # fmt: skip
    assert list(places[provider["options"]["path"]].glob("*.json"))


def mounted(service: dict[str, Any], name: str) -> Any:
    """Return what the one file says that is mounted so."""
    (path,) = [
        Path(m["source"])
        for m in service["volumes"]
        if m["type"] == "bind" and m["target"].endswith(name)
    ]
    (file,) = [path] if path.is_file() else path.iterdir()
    return yaml.safe_load(file.read_text())


@pytest.mark.kafka
def test_kafka_starts_with_its_settings(
    services: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(properties, "_PROPERTIES", as_properties(services["kafka"]["environment"]))
    with broker.running(tmp_path / "kafka") as kafka:
        assert kafka.address


@pytest.mark.kafka
def test_kafka_with_a_wrong_setting_does_not_start(
    services: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = services["kafka"]["environment"] | {"KAFKA_INTER_BROKER_LISTENER_NAME": "NOWHERE"}
    monkeypatch.setattr(properties, "_PROPERTIES", as_properties(wrong))
    with pytest.raises(BrokerError, match="ended before it served"):
        broker.start(tmp_path / "kafka")


def as_properties(environ: dict[str, str]) -> str:
    """Translate as the entry point of Kafka's image does; on ports and paths of this machine."""
    lines = []
    for name, value in environ.items():
        if not name.startswith("KAFKA_") or name == "KAFKA_HEAP_OPTS":
            continue
        here = value.replace("kafka:", "127.0.0.1:").replace("://:", "://127.0.0.1:")
        here = here.replace(":19092", ":{port}").replace(":9093", ":{controller_port}")
        here = re.sub(r",HOST://[0-9.]+:9092", "", here)  # one listener is enough
        here = here.replace(",HOST:PLAINTEXT", "").replace("/var/lib/kafka/data", "{data}")
        lines.append(f"{name.removeprefix('KAFKA_').replace('_', '.').lower()}={here}")
    return "\n".join(lines) + "\nbroker.session.timeout.ms=2000\nbroker.heartbeat.interval.ms=500\n"
