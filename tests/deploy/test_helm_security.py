"""Pods have no rights that they do not need, whatever the values; secrets are never in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiopype.settings import Settings

from . import charts, flows
from .charts import ALL_OFF, ALL_ON, CHART, container, merged, ref, refused, render, workload

pytestmark = pytest.mark.deploy

CHOICES = {
    "as it is": {},
    "all on": ALL_ON,
    "all off": ALL_OFF,
    "set": {"kind": "StatefulSet"},
    "files": {"flow": {"files": {"a.py": "x"}}},
}


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Any]:
    return charts.values_of(flows.make(tmp_path), "shop.py")


@pytest.fixture(params=CHOICES)
def pod(request: pytest.FixtureRequest, own: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = workload(render(merged(own, CHOICES[request.param])))
    return spec["spec"]["template"]["spec"]


def test_a_pod_is_as_the_restricted_standard_wants_it(pod: dict[str, Any]) -> None:
    (worker,) = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"].get("runAsUser") != 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert worker["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}
    allowed = {"configMap", "emptyDir", "projected"}
    assert all(volume.keys() - {"name"} <= allowed for volume in pod["volumes"])


def test_a_pod_gets_no_token_and_no_addresses_of_services(pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False


def test_what_is_written_to_has_a_place_and_a_bound(pod: dict[str, Any]) -> None:
    (worker,) = pod["containers"]
    mounts = {mount["mountPath"]: mount for mount in worker["volumeMounts"]}
    bounded = {v["name"] for v in pod["volumes"] if v.get("emptyDir", {}).get("sizeLimit")}
    (data_dir,) = (e["value"] for e in worker["env"] if e["name"] == "AIOPYPE_DATA_DIR")

    assert mounts["/tmp"]["name"] in bounded
    assert mounts[data_dir]["name"] == "data"
    writable = {m["name"] for m in worker["volumeMounts"] if not m.get("readOnly")}
    assert writable <= {"tmp", "data", "cache"}


def test_memory_is_bounded_and_the_processor_is_not(own: dict[str, Any]) -> None:
    resources = container(render(own))["resources"]

    assert resources["requests"] == {"cpu": "250m", "memory": "256Mi"}
    assert resources["limits"] == {"memory": "512Mi"}


def test_secrets_are_references_in_the_pod_and_nowhere_in_clear(own: dict[str, Any]) -> None:
    env = {each["name"]: each for each in container(render(merged(own, ALL_ON)))["env"]}
    wanted = {
        "AIOPYPE_SASL_USERNAME": ref("login", "username"),
        "AIOPYPE_SASL_PASSWORD": ref("login", "password"),
        "AIOPYPE_WEB_TOKEN": ref("web", "token"),
        "AIOPYPE_SENTRY_DSN": ref("sentry", "dsn"),
    }
    assert {name: env[name]["valueFrom"]["secretKeyRef"] for name in wanted} == wanted
    assert not any("value" in env[name] for name in wanted)


def test_every_secret_of_the_settings_table_is_a_reference(own: dict[str, Any]) -> None:
    env = {each["name"]: each for each in container(render(merged(own, ALL_ON)))["env"]}
    secret = {f"AIOPYPE_{n.upper()}" for n, each in Settings.table().items() if each.secret}

    assert secret
    assert all("secretKeyRef" in env[name]["valueFrom"] for name in secret)


def test_certificates_are_files_that_the_settings_name(own: dict[str, Any]) -> None:
    documents = render(merged(own, ALL_ON))
    worker, spec = container(documents), workload(documents)["spec"]["template"]["spec"]
    (tls,) = (v["projected"] for v in spec["volumes"] if v["name"] == "tls")
    (mount,) = (m for m in worker["volumeMounts"] if m["name"] == "tls")
    env = {each["name"]: each.get("value") for each in worker["env"]}
    files = {
        f"{mount['mountPath']}/{item['path']}": ref(source["secret"]["name"], item["key"])
        for source in tls["sources"]
        for item in source["secret"]["items"]
    }

    assert mount["readOnly"] is True
    assert tls["defaultMode"] == 0o440
    assert files == {
        env[f"AIOPYPE_SSL_{name.upper()}FILE"]: ALL_ON["kafka"]["tls"][name]
        for name in ("ca", "cert", "key")
    }
    assert env["AIOPYPE_SECURITY_PROTOCOL"] == "SASL_SSL"


#: Values that hold what is secret, and what the refusal names.
SECRETS_IN_CLEAR: dict[str, tuple[Any, str]] = {
    "a password": ({"kafka": {"sasl": {"password": "geheim"}}}, "/kafka/sasl/password"),
    "a password beside its reference": (
        {"kafka": {"sasl": {"password": {"name": "a", "key": "b", "value": "geheim"}}}},
        "/kafka/sasl/password",
    ),
    "a token": ({"web": {"token": "geheim"}}, "/web/token"),
    "a DSN": ({"sentry": {"dsn": "https://geheim@s/1"}}, "/sentry/dsn"),
    "a certificate": ({"kafka": {"tls": {"enabled": True, "ca": "-----BEGIN"}}}, "/kafka/tls/ca"),
    "a login in an URL": (
        {"kafka": {"sasl": {"token": {"url": "https://a:geheim@idp/t"}}}},
        "/kafka/sasl/token/url",
    ),
    "a password as a variable": (
        {"extraEnv": [{"name": "DB_PASSWORD", "value": "geheim"}]},
        "/extraEnv/0",
    ),
    "a key as a variable": ({"extraEnv": [{"name": "API_KEY", "value": "x"}]}, "/extraEnv/0"),
}


@pytest.mark.parametrize("what", SECRETS_IN_CLEAR)
def test_a_secret_in_clear_is_refused(own: dict[str, Any], what: str) -> None:
    values, path = SECRETS_IN_CLEAR[what]

    assert f"at '{path}" in refused(merged(own, values))


def test_no_secret_of_the_settings_table_may_be_a_setting_in_clear(own: dict[str, Any]) -> None:
    for name, setting in Settings.table().items():
        if setting.secret:
            assert f"invalid propertyName '{name}'" in refused(
                merged(own, {"settings": {name: "x"}})
            )


#: Values that are wrong by themselves, and what the refusal says.
WRONG: dict[str, tuple[Any, str]] = {
    "an unknown key": ({"replica": 2}, "additional properties 'replica' not allowed"),
    "an unknown key below": ({"kafka": {"broker": "k:1"}}, "properties 'broker' not allowed"),
    "another path of a probe": ({"probes": {"liveness": {"path": "/"}}}, "at '/probes/liveness'"),
    "no worker": ({"replicas": 0}, "at '/replicas': minimum"),
    "a text for a number": ({"replicas": "2"}, "at '/replicas': got string, want integer"),
    "brokers without a port": ({"kafka": {"brokers": "kafka"}}, "at '/kafka/brokers'"),
    "no time for the drain": (
        {"terminationGracePeriodSeconds": 10},
        "at '/terminationGracePeriodSeconds': minimum",
    ),
    "root": ({"securityContext": {"runAsUser": 0}}, "at '/securityContext/runAsUser'"),
    "more rights": (
        {"securityContext": {"privileged": True}},
        "properties 'privileged' not allowed",
    ),
    "a port of root's": ({"web": {"port": 80}}, "at '/web/port': minimum"),
    "another kind": ({"kind": "DaemonSet"}, "at '/kind'"),
    "a folder of the host": (
        {"extraVolumes": [{"name": "a", "hostPath": {"path": "/"}}]},
        "at '/extraVolumes/0': 'not' failed",
    ),
    "a file outside": ({"flow": {"files": {"../a.py": ""}}}, "invalid propertyName '../a.py'"),
    "half a reference": ({"web": {"token": {"name": "a"}}}, "at '/web/token': properties 'key'"),
    "no target": ({"flow": {"target": ""}}, "at '/flow/target'"),
    "a topic without partitions": (
        {"flow": {"topics": [{"name": "a.b.c"}]}},
        "at '/flow/topics/0': missing property 'partitions'",
    ),
    "a setting with a value of its own": (
        {"settings": {"web_host": "::"}},
        "invalid propertyName 'web_host'",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_schema_refuses(own: dict[str, Any], what: str) -> None:
    values, text = WRONG[what]

    assert text in refused(merged(own, values))


#: Values that are right by themselves and wrong together.
CROSSED: dict[str, tuple[Any, str]] = {
    "a login without its password": (
        {"kafka": {"sasl": {"mechanism": "PLAIN", "username": ref("a", "b")}}},
        "PLAIN needs kafka.sasl.username and kafka.sasl.password",
    ),
    "a login that is not used": (
        {"kafka": {"sasl": {"username": ref("a", "b"), "password": ref("a", "c")}}},
        "does nothing without kafka.sasl.mechanism",
    ),
    "certificates that are not used": (
        {"kafka": {"tls": {"ca": ref("a", "b")}}},
        "do nothing without kafka.tls.enabled",
    ),
    "a certificate without its key": (
        {"kafka": {"tls": {"enabled": True, "cert": ref("a", "b")}}},
        "belong together",
    ),
    "a token from nowhere": (
        {"kafka": {"sasl": {"mechanism": "OAUTHBEARER"}}},
        "needs one of kafka.sasl.token.url, provider and file",
    ),
    "a token asked for by nobody": (
        {"kafka": {"sasl": {"mechanism": "OAUTHBEARER", "token": {"url": "https://idp/t"}}}},
        "token.url needs kafka.sasl.username and kafka.sasl.password",
    ),
    "a token of another mechanism": (
        {"kafka": {"sasl": {"mechanism": "PLAIN", "token": {"file": "/t"}}}},
        "are for kafka.sasl.mechanism OAUTHBEARER",
    ),
    "a claim of a Deployment": (
        {"dataDir": {"claim": {"enabled": True}}},
        "needs kind: StatefulSet",
    ),
}


@pytest.mark.parametrize("what", CROSSED)
def test_values_that_do_not_fit_together_are_refused(own: dict[str, Any], what: str) -> None:
    values, text = CROSSED[what]

    assert text in refused(merged(own, values))


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = set(_names(schema, schema["definitions"], ""))
    said = set(_paths(yaml.safe_load((CHART / "values.yaml").read_text()), ""))

    assert {path for path in said - known if not path.startswith("dashboards.labels.")} == set()
    assert known - said == OPTIONAL


#: Values that are not said by default: parts of references, what is of one chart in another.
OPTIONAL = {
    f"{where}.{part}"
    for where in (
        "kafka.tls.ca", "kafka.tls.cert", "kafka.tls.key", "kafka.sasl.username",
        "kafka.sasl.password", "web.token", "sentry.dsn",
    )
    for part in ("name", "key")
} | {"global", "resources.limits.cpu"} | {
    f"resources.{what}.ephemeral-storage" for what in ("requests", "limits")
}  # fmt: skip


def _names(schema: dict[str, Any], definitions: dict[str, Any], path: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}{name}"
        yield from _names(inner, definitions, f"{path}{name}.")


def _paths(values: Any, path: str) -> Iterator[str]:
    if isinstance(values, dict):
        for name, inner in values.items():
            yield f"{path}{name}"
            yield from _paths(inner, f"{path}{name}.")
