"""`aiopype deploy`: writes what is needed to run a flow as a service."""

from __future__ import annotations

import click

__all__ = ["deploy"]


@click.group()
def deploy() -> None:
    """Write dashboards and the values of a deployment, made for a flow.

    Nothing is started and no broker is asked; the components' constructors run.
    """
