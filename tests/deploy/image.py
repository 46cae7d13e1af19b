"""What the Dockerfile says, done without an engine: its environment, and its command confined."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
DOCKERFILE = REPOSITORY / "deploy/docker/Dockerfile"

#: For the environment: everything is fetched.
BUILD_SECONDS = 600


class Instruction(NamedTuple):
    """One of a Dockerfile's instructions, on one line."""

    name: str
    value: str


def stages(file: Path = DOCKERFILE) -> list[list[Instruction]]:
    """Return the instructions of a Dockerfile by stage; those before the first are left out."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found: list[list[Instruction]] = []
    for line in filter(None, text.splitlines()):
        name, value = line.split(maxsplit=1)
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append(Instruction(name, value))
    return found


def values(stage: list[Instruction], name: str) -> list[str]:
    """Return what a stage says with an instruction."""
    return [each.value for each in stage if each.name == name]


def environ(stage: list[Instruction]) -> dict[str, str]:
    """Return the variables that a stage sets."""
    words = [word for value in values(stage, "ENV") for word in shlex.split(value)]
    return dict(word.split("=", 1) for word in words)


def command(stage: list[Instruction]) -> list[str]:
    """Return what the image runs."""
    words = [json.loads(values(stage, name)[-1]) for name in ("ENTRYPOINT", "CMD")]
    return [*words[0], *words[1]]


class Image:
    """The environment that the first stage makes, in a folder that everybody may read.

    Arguments:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venv = folder / "venv"
        self.data = folder / "data"
        self.flow = folder / "flow"
        self._build, self._final = stages()

    def build(self) -> None:
        """Copy what the Dockerfile copies, and do what it does with it."""
        source = self.folder / "src"
        source.mkdir()
        for copied in values(self._build, "COPY"):
            *names, _ = copied.split()
            for name in names:
                _copy(REPOSITORY / name, source / name)
        (extras,) = (v.removeprefix("EXTRAS=") for v in values(self._build, "ARG"))
        subprocess.run([sys.executable, "-m", "venv", self.venv], check=True)
        install = values(self._build, "RUN")[-1]
        environ_of_build = {
            "HOME": str(self.folder),
            "PATH": f"{self.venv}/bin:/usr/bin:/bin",
            "EXTRAS": extras,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_QUIET": "1",
            # There is no compiler in the base image.
            "PIP_ONLY_BINARY": ":all:",
        } | {n: v for n, v in os.environ.items() if n.startswith(("PIP_INDEX", "PIP_TRUSTED"))}
        subprocess.run(
            install, shell=True, cwd=source, env=environ_of_build, check=True,
            timeout=BUILD_SECONDS,
        )  # fmt: skip
        shutil.rmtree(source)
        self.flow.mkdir()
        self.data.mkdir(mode=0o777)
        self.data.chmod(0o777)

    def environ(self, **others: str) -> dict[str, str]:
        """Return the variables of a container; its folders are those of this one."""
        said = environ(self._final)
        here = {"PATH": f"{self.venv}/bin:/usr/bin:/bin", "AIOPYPE_DATA_DIR": str(self.data)}
        return said | here | {"HOME": str(self.flow)} | others

    def command(self) -> list[str]:
        """Return what a container runs, confined as docker-compose.yml confines it."""
        return [*confined(self.data), *command(self._final)]

    def health_check(self) -> list[str]:
        """Return what asks whether a container is healthy."""
        (value,) = values(self._final, "HEALTHCHECK")
        found: list[str] = json.loads(value[value.index("[") :])
        return found


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def can_confine() -> bool:
    """Return whether this user may make namespaces."""
    probe = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"]
    try:
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


#: As process 1, with all file systems but one read-only, as a user without rights. What of the
#: interpreter's folder only root could enter is opened by a file system laid over it.
_CONFINED = """
set -e
prefix=$1 hidden=$2 data=$3 keep=$4; shift 4
mount --bind "$data" "$data"
if [ -n "$hidden" ]; then
    mount --bind "$prefix" "$keep"
    mount -t tmpfs -o mode=755 tmpfs "$hidden"
    mkdir -p "$prefix"
    mount --bind "$keep" "$prefix"
    mount -o remount,bind,ro "$prefix"
    mount -o remount,ro "$hidden"
fi
mount -o remount,bind,ro /
exec setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --inh-caps=-all \
    --bounding-set=-all -- "$@"
"""


def confined(data: Path) -> list[str]:
    """Return what a command is put behind to be run as in a container."""
    if not can_confine():
        return []
    prefix = Path(sys.base_prefix).resolve()
    closed = (p for p in reversed(prefix.parents) if not p.stat().st_mode & 0o001)
    keep = data.parent / "interpreter"
    keep.mkdir(exist_ok=True)
    return [
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        "sh", "-c", _CONFINED, "sh", str(prefix), str(next(closed, "")), str(data), str(keep),
    ]  # fmt: skip
