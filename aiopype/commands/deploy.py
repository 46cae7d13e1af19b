"""`aiopype deploy`: writes what is needed to run a flow as a service."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import click

from aiopype.commands.flows import named
from aiopype.deploy.kubernetes import facts_of, target_in_image
from aiopype.errors import ConfigurationError, TargetError
from aiopype.flow import AsyncFlow
from aiopype.pipelines import Pipelines
from aiopype.target import load_flow

__all__ = ["deploy"]

_RUNBOOK = click.option(
    "--runbook",
    metavar="URL",
    default="docs/runbook.md",
    show_default=True,
    help="Where people read the runbook; links lead to its paragraphs.",
)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group()
def deploy() -> None:
    """Write dashboards and the values of a deployment, made for a flow.

    Nothing is started and no broker is asked; the components' constructors run.
    """


@deploy.command()
@click.argument("target", required=False)
@click.option("--out", type=_FOLDER, default="deploy/grafana/dashboards", show_default=True)
@_RUNBOOK
def grafana(target: str | None, out: Path, runbook: str) -> None:
    """Write dashboards for Grafana: one for every flow, and one for the flow of TARGET.

    Without TARGET the flow that AIOPYPE_FLOW or pyproject.toml names is taken. Needs the extra
    `deploy`.
    """
    made = _module("aiopype.deploy.grafana")
    flow, pipelines = _flow(target)
    _write(out / f"{made.BOARD}.json", made.board(runbook))
    _write(out / f"{made.BOARD}-{flow}.json", made.flow_board(flow, pipelines, runbook))


@deploy.command()
@click.argument("target", required=False)
@click.option("--out", type=_FOLDER, default="deploy/prometheus", show_default=True)
@_RUNBOOK
def prometheus(target: str | None, out: Path, runbook: str) -> None:
    """Write rules for Prometheus: alerts for every flow, and for what TARGET's flow must have.

    Without TARGET the flow that AIOPYPE_FLOW or pyproject.toml names is taken. Needs the extra
    `deploy`.
    """
    made = _module("aiopype.deploy.prometheus")
    flow, pipelines = _flow(target)
    _write(out / "rules.yml", made.rules(runbook))
    _write(out / f"rules-{flow}.yml", made.flow_rules(flow, pipelines, runbook))


@deploy.command()
@click.argument("target", required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A file, or a folder for values-FLOW.yaml.  [default: standard output]",
)
@click.option("--image", metavar="NAME[:TAG]", help="The image that has the flow.")
@click.option("--broker", metavar="HOST:PORT,...", help="The cluster it runs on there.")
@click.option(
    "--partitions",
    multiple=True,
    metavar="TOPIC=N",
    help="How many a topic has; of one that others make nobody else says it.",
)
@click.option("--embed", is_flag=True, help="Send the flow's file along; its image has aiopype.")
def kubernetes(
    target: str | None,
    out: Path | None,
    image: str | None,
    broker: str | None,
    partitions: tuple[str, ...],
    embed: bool,
) -> None:
    """Write values for the Helm chart deploy/helm/aiopype: what TARGET's flow needs of it.

    Without TARGET the flow that AIOPYPE_FLOW or pyproject.toml names is taken. Needs the extra
    `deploy`.
    """
    made = _module("aiopype.deploy.kubernetes_values")
    target = named(target)
    flow = load_flow(target)
    if not isinstance(flow, AsyncFlow):
        raise TargetError(f"{target} is a Flow, which runs in process; a cluster needs AsyncFlow")
    counts = dict(_count(text) for text in partitions)
    facts = facts_of(flow, partitions=counts, broker=broker, embed=embed)
    text = made.as_values(facts, target_in_image(target, Path.cwd(), embed=embed), image)
    if out is None:
        click.echo(text, nl=False)
    else:
        _write(out / f"values-{flow.name}.yaml" if out.is_dir() else out, text)


def _count(text: str) -> tuple[str, int]:
    topic, _, number = text.rpartition("=")
    if not topic or not number.isdecimal() or int(number) < 1:
        raise click.BadParameter(f"{text!r}: write TOPIC=N, N from 1", param_hint="--partitions")
    return topic, int(number)


def _module(name: str) -> Any:
    """Import what needs the extra.

    Raises:
        ConfigurationError: the extra is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("aiopype"):
            raise
        raise ConfigurationError(
            f"{error.name} is not installed; it comes with the extra: pip install 'aiopype[deploy]'"
        ) from error


def _flow(target: str | None) -> tuple[str, Pipelines]:
    """Return the name of a flow and its managers, built and not started.

    Raises:
        TargetError: it runs in process, and has no metrics.
    """
    target = named(target)
    flow = load_flow(target)
    if not isinstance(flow, AsyncFlow):
        raise TargetError(f"{target} is a Flow, which runs in process and has no metrics")
    return flow.name, flow.build()


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    click.echo(file)
