"""Programs out of Debian's packages: unpacked, not installed, so that no root is needed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

__all__ = ["programs"]

#: For a list of packages or a package.
DOWNLOAD_SECONDS = 300


def programs(package: str, names: tuple[str, ...], tools: Path) -> dict[str, Path]:
    """Return where programs are, by name: on the path, or below `tools`, fetched if need be.

    Raises:
        RuntimeError: they are not there and apt-get does not give them.
    """
    found = {name: shutil.which(name) for name in names}
    if all(found.values()):
        return {name: Path(path) for name, path in found.items() if path}
    folder = tools / package
    if not folder.exists():
        _unpack(package, folder)
    return {name: folder / "usr/bin" / name for name in names}


def _unpack(package: str, folder: Path) -> None:
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    # Lists of our own: those of the machine may be old or missing, and are root's to write.
    state, cache = new / "state", new / "cache"
    for path in (state / "lists/partial", cache / "archives/partial"):
        path.mkdir(parents=True)
    own = ["-o", f"Dir::State::Lists={state / 'lists'}", "-o", f"Dir::Cache={cache}"]
    try:
        _run(["apt-get", "download", "--quiet", package], new)
    except RuntimeError:
        _run(["apt-get", *own, "update", "--quiet"], new)
        _run(["apt-get", *own, "download", "--quiet", package], new)
    (archive,) = new.glob(f"{package}_*.deb")
    _run(["dpkg-deb", "-x", archive.name, "."], new)
    archive.unlink()
    shutil.rmtree(state)
    shutil.rmtree(cache)
    new.rename(folder)


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            check=False,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
        )
    except FileNotFoundError:
        raise RuntimeError(
            f"{command[0]} is not on this machine; put promtool and prometheus on the path"
        ) from None
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
