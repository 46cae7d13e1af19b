"""Writes what a deployment has to know of a flow as values of the Helm chart, with comments."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from aiopype.deploy.kubernetes import Facts, ReadTopic
from aiopype.settings import Settings

__all__ = ["as_values"]

#: Settings that the chart has values of its own for, or that the code alone says.
_ELSEWHERE = re.compile(
    r"flows|name|broker|namespace|flow|data_dir|web_.*|log_.*|sentry_dsn|security_protocol"
    r"|ssl_.*|sasl_.*"
)

#: What has to be so when the code says it and not the chart.
_HINTS = {
    "data_dir": "it has to be below dataDir.path, the rest is read only",
    "web_host": "the kubelet has to reach it, which loopback it does not",
}

#: What `sasl_token_...` there is.
_TOKEN = ("url", "scope", "provider", "file")

#: Workers that autoscaling begins with: one takes over from the other at once.
_FEWEST = 2


class _Dumper(yaml.SafeDumper):  # type: ignore[misc] # PyYAML has no types
    """Writes texts of several lines as they are."""


def _text(dumper: yaml.SafeDumper, text: str) -> Any:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def as_values(facts: Facts, target: str, image: str | None = None) -> str:
    """Return a values file for the chart `deploy/helm/aiopype`.

    Arguments:
        facts: the flow.
        target: what `aiopype run` gets in the image.
        image: `repository`, `repository:tag` or `repository@digest`.
    """
    sections = [
        _header(facts),
        _dumped({"image": _image(image)}) if image is not None else (),
        _flow(facts, target),
        _kafka(facts),
        _secret(facts, "web_token"),
        _secret(facts, "sentry_dsn"),
        _settings(facts),
        _scaling(facts),
    ]
    texts = ["\n".join(lines) for lines in sections]
    return "\n\n".join(text for text in texts if text) + "\n"


def _header(facts: Facts) -> Iterator[str]:
    yield from _comment(
        f"The flow {facts.settings.name} as values of the chart deploy/helm/aiopype, written by "
        "`aiopype deploy kubernetes`. Put your own into another file, and write this one anew when "
        "the flow changes: helm upgrade --install NAME deploy/helm/aiopype -f THIS -f YOURS"
    )
    for name, origin in facts.fixed.items():
        yield from _comment(f"{origin} comes before what the chart says: {_HINTS[name]}.")


def _flow(facts: Facts, target: str) -> Iterator[str]:
    settings = facts.settings
    yield from _comment(f"Its consumer group is {settings.group}.")
    said: dict[str, Any] = {"target": target, "name": settings.name}
    if settings.namespace:
        said["namespace"] = settings.namespace
    said |= {"managers": list(facts.managers), "sources": list(facts.sources)}
    yield from _dumped({"flow": said})
    if facts.topics:
        yield "  # What it reads, with the partitions that topics/ says; the namespace is left out."
        yield "  topics:"
        for topic in facts.topics:
            yield from _indented(4, _topic(topic))
    if facts.files:
        yield from _indented(2, _dumped({"files": dict(facts.files)}))


def _topic(topic: ReadTopic) -> Iterator[str]:
    yield from _comment(f"-> {', '.join(topic.handlers)}")
    if topic.is_unknown:
        yield from _comment(
            "Made by others: how many partitions it has is not known without a broker, and 1 until "
            f"somebody says it here or by --partitions {topic.name}=N."
        )
    said: dict[str, Any] = {"name": topic.name, "partitions": topic.partitions}
    if topic.is_foreign:
        said["foreign"] = True
    if topic.begins_at_end:
        said["begin"] = "latest"
    yield from _dumped([said])


def _kafka(facts: Facts) -> Iterator[str]:
    settings = facts.settings
    if settings.broker is None:
        yield from _comment("No cluster is configured where this was written: say which it is.")
    said: dict[str, Any] = {"brokers": settings.broker or "kafka:9092"}
    secret = f"{_dns_name(settings.name)}-kafka"
    protocol = settings.security_protocol or "PLAINTEXT"
    if protocol != "PLAINTEXT":
        yield from _comment(f"{secret} is a secret that you make; docs/kubernetes.md says how.")
    if protocol.endswith("SSL"):
        files = {name: getattr(settings, f"ssl_{name}file") for name in ("ca", "cert", "key")}
        said["tls"] = {"enabled": True} | {
            name: {"name": secret, "key": f"{name}.pem"}
            for name, file in files.items()
            if file is not None
        }
    if protocol.startswith("SASL"):
        said["sasl"] = _login(settings, secret)
    yield from _dumped({"kafka": said})


def _login(settings: Settings, secret: str) -> dict[str, Any]:
    said: dict[str, Any] = {"mechanism": settings.sasl_mechanism}
    for name in ("username", "password"):
        if getattr(settings, f"sasl_{name}") is not None:
            said[name] = {"name": secret, "key": name}
    token = {name: getattr(settings, f"sasl_token_{name}") for name in _TOKEN}
    if any(token.values()):
        said["token"] = {name: str(value) for name, value in token.items() if value is not None}
    if settings.sasl_extensions:
        said["extensions"] = ",".join(settings.sasl_extensions)
    return said


def _secret(facts: Facts, setting: str) -> Iterator[str]:
    """Yield the reference to a secret that was set outside the code."""
    if facts.found[setting].value is None or not facts.is_outside(setting):
        return
    group, _, key = setting.partition("_")
    secret = f"{_dns_name(facts.settings.name)}-{group}"
    yield from _comment(f"{secret} is a secret that you make.")
    yield from _dumped({group: {key: {"name": secret, "key": key}}})


def _settings(facts: Facts) -> Iterator[str]:
    carried = {
        name: str(found.value)
        for name, found in facts.found.items()
        if found.value is not None and facts.is_outside(name) and not _ELSEWHERE.fullmatch(name)
    }
    if carried:
        yield from _comment("Said outside the code where this was written.")
        yield from _dumped({"settings": carried})


def _scaling(facts: Facts) -> Iterator[str]:
    most = facts.most_partitions
    if not most:
        yield from _comment("Nothing is handled, so there is no lag to scale by.")
        return
    yield from _comment(
        f"Workers by lag, with KEDA: enabled: true. No topic has more than {most} partitions, so a "
        "worker beyond them would get none; below one the sources would have no owner."
    )
    bounds = {"enabled": False, "minReplicas": min(_FEWEST, most), "maxReplicas": most}
    yield from _dumped({"autoscaling": bounds})


def _image(image: str) -> dict[str, str]:
    repository, at, digest = image.partition("@")
    if at:
        return {"repository": repository, "digest": digest}
    path, slash, last = image.rpartition("/")
    name, colon, tag = last.partition(":")  # one before the last "/" is a registry's port
    repository = f"{path}{slash}{name}"
    return {"repository": repository, "tag": tag} if colon else {"repository": repository}


def _dns_name(name: str) -> str:
    """Return a flow's name as Kubernetes names things."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].rstrip("-") or "flow"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text, 100, initial_indent="# ", subsequent_indent="# ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _indented(spaces: int, lines: Iterable[str]) -> Iterator[str]:
    yield from (f"{' ' * spaces}{line}" if line else "" for line in lines)


def _dumped(data: Any) -> list[str]:
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return text.rstrip("\n").split("\n")
