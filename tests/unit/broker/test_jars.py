import hashlib
import sys
import threading

import pytest

from aiopype.broker import jars
from aiopype.broker.jars import Jar, classpath, download, locked
from aiopype.errors import BrokerError

CONTENT = {name: name.encode() * 1000 for name in ("kafka", "scala", "zstd")}


@pytest.fixture
def wanted():
    return [
        Jar("org.example", name, "1.0", hashlib.sha256(data).hexdigest(), len(data))
        for name, data in CONTENT.items()
    ]


class Repository:
    """Has the jars, in folders as Maven has them, and counts how often each was asked for."""

    def __init__(self, content=None, error=None):
        self.content = CONTENT if content is None else content
        self.error = error
        self.asked = []

    def __call__(self, jar, folder):
        self.asked.append(jar.artifact)
        if self.error:
            raise self.error
        path = folder / "org" / "example" / jar.artifact / jar.version / jar.name
        path.parent.mkdir(parents=True)
        path.write_bytes(self.content[jar.artifact])
        return path


def ignore(line):
    pass


def test_an_empty_cache_is_filled_in_the_order_of_the_lock_file(tmp_path, wanted):
    paths = classpath(tmp_path, ignore, jars=wanted, fetch=Repository())
    assert [path.name for path in paths] == ["kafka-1.0.jar", "scala-1.0.jar", "zstd-1.0.jar"]
    assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    assert not (paths[0].parent / "fetching").exists()


def test_a_complete_cache_is_used_without_asking_anyone(tmp_path, wanted):
    paths = classpath(tmp_path, ignore, jars=wanted, fetch=Repository())
    offline = Repository(error=OSError("no network"))
    assert classpath(tmp_path, pytest.fail, jars=wanted, fetch=offline) == paths
    assert offline.asked == []


@pytest.mark.parametrize("damage", [b"", CONTENT["scala"][:-1], b"S" + CONTENT["scala"][1:]])
def test_a_cut_or_altered_jar_is_fetched_again_and_no_other(tmp_path, wanted, damage):
    paths = classpath(tmp_path, ignore, jars=wanted, fetch=Repository())
    paths[1].write_bytes(damage)
    repository = Repository()
    classpath(tmp_path, ignore, jars=wanted, fetch=repository)
    assert repository.asked == ["scala"]
    assert paths[1].read_bytes() == CONTENT["scala"]


def test_a_jar_that_is_not_the_locked_one_never_enters_the_cache(tmp_path, wanted):
    evil = Repository({**CONTENT, "zstd": b"evil"})
    with pytest.raises(BrokerError, match=r"org\.example:zstd:1\.0.*another sha256"):
        classpath(tmp_path, ignore, jars=wanted, fetch=evil)
    assert evil.asked == ["kafka", "scala", "zstd", "zstd"]
    kept = {path.name for path in tmp_path.rglob("*.jar")}
    assert kept == {"kafka-1.0.jar", "scala-1.0.jar"}


def test_a_fetch_that_broke_off_goes_on_where_it_was(tmp_path, wanted):
    with pytest.raises(BrokerError):
        classpath(
            tmp_path,
            ignore,
            jars=wanted,
            fetch=Repository({**CONTENT, "zstd": CONTENT["zstd"][1:]}),
        )
    scratch = tmp_path / f"kafka-{jars.VERSION}" / "fetching"
    scratch.mkdir()
    (scratch / "half").touch()  # as a killed process leaves it
    repository = Repository()
    classpath(tmp_path, ignore, jars=wanted, fetch=repository)
    assert repository.asked == ["zstd"]


def test_without_network_the_error_says_what_is_missing_and_what_to_do(tmp_path, wanted):
    offline = Repository(error=OSError("Network is unreachable"))
    with pytest.raises(BrokerError) as caught:
        classpath(tmp_path, ignore, jars=wanted, fetch=offline)
    message = str(caught.value)
    for part in (
        "org.example:kafka:1.0",
        "Network is unreachable",
        "to the network once",
        f"copy the folder {tmp_path / 'kafka-4.3.1'}",
        "AIOPYPE_BROKER",
    ):
        assert part in message
    assert caught.value.__cause__ is offline.error


def test_two_at_once_both_have_the_jars_and_only_one_fetches(tmp_path, wanted):
    repository = Repository()
    results = []
    start = threading.Barrier(2)

    def one():
        start.wait()
        results.append(classpath(tmp_path, ignore, jars=wanted, fetch=repository))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(results) == 2
    assert results[0] == results[1]
    assert sorted(repository.asked) == ["kafka", "scala", "zstd"]


def test_progress_is_said_at_the_start_and_the_end_and_not_for_every_jar(tmp_path, wanted):
    said = []
    classpath(tmp_path, said.append, jars=wanted, fetch=Repository())
    assert said == [
        "fetching Apache Kafka 4.3.1: 0 of 3 jars, 0 of 0 MB",
        "fetching Apache Kafka 4.3.1: 3 of 3 jars, 0 of 0 MB",
    ]


def test_a_cache_that_cannot_be_written_is_an_error_that_names_it(tmp_path, wanted):
    (tmp_path / "file").touch()
    with pytest.raises(BrokerError, match=r"file/kafka-4\.3\.1: .*writable"):
        classpath(tmp_path / "file", ignore, jars=wanted, fetch=Repository())


def test_the_lock_file_has_kafka_and_a_voice_for_its_errors():
    found = locked()
    names = [jar.name for jar in found]
    assert f"kafka_2.13-{jars.VERSION}.jar" in names
    assert "slf4j-simple-1.7.36.jar" in names
    assert len(set(names)) == len(names) == 46
    assert all(len(jar.sha256) == 64 for jar in found)


def test_without_jgo_the_error_names_the_extra(tmp_path, wanted, monkeypatch):
    monkeypatch.setitem(sys.modules, "jgo.config", None)
    with pytest.raises(BrokerError, match=r"pip install 'aiopype\[broker\]'"):
        download(wanted[0], tmp_path)
