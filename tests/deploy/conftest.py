"""The tools that deploy/ is checked with: fetched once, into .tools; nothing is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import debian

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder for what is fetched; it stays from run to run."""
    return REPOSITORY / ".tools"


@pytest.fixture(scope="session")
def prometheus_programs(tools: Path) -> dict[str, Path]:
    """`promtool` and `prometheus`: those of this machine, or Debian's."""
    return debian.programs("prometheus", ("promtool", "prometheus"), tools)
