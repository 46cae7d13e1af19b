"""Reads a compose file as Docker Compose does, and has it looked at by two linters."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
FILE = REPOSITORY / "docker-compose.yml"
LOADER = Path(__file__).parent / "compose_loader"
TOOLS = REPOSITORY / ".tools"
DCLINT = "dclint@3.1.0"

#: For fetching and building.
SECONDS = 300


def load(file: Path, **environ: str) -> dict[str, Any]:
    """Return the project of a file, as Docker Compose would run it.

    Raises:
        ValueError: the loader of Docker Compose refuses it; the text is its own.
    """
    known = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    done = subprocess.run(
        [_loader(), file], env=known | environ, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise ValueError(done.stderr)
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found


def security_findings(file: Path) -> str:
    """Return what compose-lint says of a file; empty when it is content."""
    program = _beside_python("compose-lint")
    config = REPOSITORY / "deploy/check/compose-lint.yml"
    options = ("--strict-config", "--no-env", "--no-merge-overrides", "--fail-on", "low", "--quiet")
    return _said([program, "check", "--config", config, *options, file])


def style_findings(file: Path) -> str:
    """Return what dclint says of a file; empty when it is content."""
    config = REPOSITORY / "deploy/check/dclint.yml"
    return _said([_dclint(), "--config", config, "--max-warnings", "0", file])


def dockerfile_findings(file: Path) -> str:
    """Return what hadolint says of a Dockerfile; empty when it is content."""
    return _said([_beside_python("hadolint"), "--failure-threshold", "info", file])


def _said(command: list[Any]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return (done.stdout + done.stderr) if done.returncode else ""


def _beside_python(name: str) -> Path:
    program = Path(sys.executable).with_name(name)
    if not program.exists():
        pytest.fail(f"{name} is not installed: pip install -r deploy/check/requirements.txt")
    return program


def _loader() -> Path:
    """Build the loader once; anew when its source has changed."""
    program = TOOLS / "compose-loader"
    newest = max(path.stat().st_mtime for path in LOADER.iterdir())
    if not program.exists() or program.stat().st_mtime < newest:
        go = _tool("go")
        TOOLS.mkdir(exist_ok=True)
        command = [go, "build", "-o", program, "."]
        subprocess.run(command, cwd=LOADER, check=True, timeout=SECONDS)
    return program


def _dclint() -> Path:
    folder = TOOLS / DCLINT.replace("@", "-")
    program = folder / "node_modules/.bin/dclint"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}\n')
        command = [_tool("npm"), "install", "--no-save", "--no-audit", "--no-fund", DCLINT]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=SECONDS)
    return program


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed, which the checks of docker-compose.yml need")
    return found
