"""The jars of Apache Kafka: which ones, where they are kept, and how they get there.

The lock file beside this module names each jar with its sha256, so that what runs is the same
everywhere, whichever repository or cache it came from. Every start checks every jar (45 MB of
sha256 take 32 ms, measured), and one that was cut short or altered is fetched again.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import platformdirs

from aiopype.broker import lock
from aiopype.errors import BrokerError

__all__ = ["VERSION", "Jar", "classpath", "default_cache", "download", "locked"]

VERSION = "4.3.1"

_TRIES = 2  # one request in fifty may fail by chance; a missing network should be reported soon
_REQUEST_SECONDS = 30
_REPORT_SECONDS = 0.5


@dataclass(frozen=True)
class Jar:
    """One jar of the lock file."""

    group: str
    artifact: str
    version: str
    sha256: str
    size: int
    """In bytes."""

    @property
    def coordinate(self) -> str:
        """Maven's name for it, `group:artifact:version`."""
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def name(self) -> str:
        """The name of its file, in a Maven repository and in the cache."""
        return f"{self.artifact}-{self.version}.jar"

    def is_at(self, path: Path) -> bool:
        """Whether the file exists and is, byte for byte, the jar of the lock file."""
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return False


def default_cache() -> Path:
    """The folder for this user's caches of aiopype; it need not exist yet."""
    return platformdirs.user_cache_path("aiopype")


def locked() -> list[Jar]:
    """The jars of the lock file, in its order, which is that of the class path."""
    text = (files("aiopype.broker") / f"kafka-{VERSION}.lock").read_text("utf-8")
    jars = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            coordinate, sha256, size = line.split()
            group, artifact, version = coordinate.split(":")
            jars.append(Jar(group, artifact, version, sha256, int(size)))
    return jars


def classpath(
    cache: Path,
    say: Callable[[str], None],
    *,
    jars: list[Jar] | None = None,
    fetch: Callable[[Jar, Path], Path] | None = None,
) -> list[Path]:
    """Return the jars' files, all checked; fetch those that are missing or differ.

    A complete cache needs neither the network nor the right to write. Any number of processes
    may call this at once: one fetches, the others wait for it. A jar takes its place in the cache
    with one rename and only after its check, so an interrupted call leaves nothing half-written,
    and the next one goes on from there.

    Args:
        cache: the folder of caches; the jars are in its folder `kafka-<version>`.
        say: takes lines of progress for a person, at most about two a second.
        jars: what to have; by default what the lock file names.
        fetch: brings one jar into a folder and returns its file; by default `download`.

    Raises:
        BrokerError: a jar is missing and cannot be fetched, or the cache cannot be written.
    """
    jars = locked() if jars is None else jars
    folder = cache / f"kafka-{VERSION}"
    try:
        if any(_missing(jars, folder)):
            folder.mkdir(parents=True, exist_ok=True)
            with lock.exclusive(folder / "fetching.lock"):
                _complete(jars, folder, say, fetch or download)
    except OSError as error:
        raise BrokerError(
            f"keeping the jars of Apache Kafka in {folder}: {error}; "
            "make room there or the folder writable"
        ) from error
    return [folder / jar.name for jar in jars]


def download(jar: Jar, folder: Path) -> Path:
    """Bring one jar into a folder from Maven Central, or from the repositories of jgo's settings.

    jgo neither writes a file at one stroke nor checks what it finds in its cache, so the folder
    should be a new one, and the result wants a check. Nothing is read from `~/.m2`.

    Raises:
        BrokerError: jgo is not installed.
        OSError, RuntimeError: no repository can be reached, or none has the jar.
    """
    try:  # here, since it is optional, and needed once
        from jgo.config import GlobalSettings  # noqa: PLC0415
        from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
        from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415
    except ImportError as error:
        raise BrokerError(
            "fetching Apache Kafka needs jgo: pip install 'aiopype[broker]', "
            "or set AIOPYPE_BROKER to the address of an existing broker"
        ) from error
    maven = MavenContext(
        resolver=PythonResolver(),
        repo_cache=folder,
        # An entry "central" in the user's jgo.conf is a mirror and takes the place of Central.
        remote_repos={"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories},
        timeout=_REQUEST_SECONDS,
    )
    return Path(maven.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve())


def _missing(jars: list[Jar], folder: Path) -> Iterator[Jar]:
    return (jar for jar in jars if not jar.is_at(folder / jar.name))


def _complete(
    jars: list[Jar],
    folder: Path,
    say: Callable[[str], None],
    fetch: Callable[[Jar, Path], Path],
) -> None:
    missing = list(_missing(jars, folder))  # again: another process may have just fetched them
    have = len(jars) - len(missing)
    size = sum(jar.size for jar in jars)
    fetched = size - sum(jar.size for jar in missing)
    scratch = folder / "fetching"
    reported = -_REPORT_SECONDS
    for jar in missing:
        if time.monotonic() - reported >= _REPORT_SECONDS:
            say(_progress(have, len(jars), fetched, size))
            reported = time.monotonic()
        _fetch(jar, scratch, fetch).replace(folder / jar.name)
        have += 1
        fetched += jar.size
    if missing:
        say(_progress(have, len(jars), fetched, size))
    shutil.rmtree(scratch, ignore_errors=True)


def _fetch(jar: Jar, scratch: Path, fetch: Callable[[Jar, Path], Path]) -> Path:
    """Fetch one jar into an empty folder, with a second try, and check it."""
    reason: Exception | str = ""
    for _ in range(_TRIES):
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            path = fetch(jar, scratch)
        except (OSError, RuntimeError) as error:
            reason = error
            continue
        if jar.is_at(path):
            return path
        reason = f"what arrived has another sha256 than {jar.sha256}"
    shutil.rmtree(scratch, ignore_errors=True)
    raise BrokerError(
        f"fetching {jar.coordinate}, a part of Apache Kafka {VERSION}: {reason}. "
        f"Connect this machine to the network once, or copy the folder {scratch.parent} from a "
        "machine that has it, or set AIOPYPE_BROKER to the address of an existing broker."
    ) from (reason if isinstance(reason, Exception) else None)


def _progress(have: int, count: int, fetched: int, size: int) -> str:
    megabyte = 1_000_000
    return (
        f"fetching Apache Kafka {VERSION}: {have} of {count} jars, "
        f"{fetched // megabyte} of {size // megabyte} MB"
    )
