"""The embedded broker for real: Kafka's jars, Java, signals. The first run fetches 45 MB."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from aiopype import broker
from aiopype.broker import lock, process
from aiopype.errors import BrokerError

pytestmark = pytest.mark.kafka

PRICES = TopicPartition("prices", 0)
VALUES = [b"%d" % number for number in range(1000)]


def eventually(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def javas(data_dir):
    """The Java processes that work in the folder."""
    found = []
    for candidate in psutil.process_iter():
        try:
            if "java" in candidate.name() and Path(candidate.cwd()) == data_dir:
                found.append(candidate.pid)
        except psutil.Error:
            continue
    return found


def write(address):
    async def run():
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        await admin.create_topics([NewTopic(PRICES.topic, 1, 1)])
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=address, acks="all") as producer:
            sent = [await producer.send(PRICES.topic, value, partition=0) for value in VALUES]
            await asyncio.gather(*sent)

    asyncio.run(run())


def read(address):
    async def run():
        consumer = AIOKafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest")
        async with consumer:
            consumer.assign([PRICES])
            async with asyncio.timeout(20):
                return [(await consumer.getone()).value for _ in VALUES]

    return asyncio.run(run())


@pytest.fixture
def script():
    """Runs Python code in a process of its own, with the folder as `data_dir`; ends it."""
    started = []
    assert broker.__file__
    environment = {**os.environ, "PYTHONPATH": str(Path(broker.__file__).parents[2])}

    def run(code, data_dir):
        head = "import sys, threading; from pathlib import Path; from aiopype import broker\n"
        head += "data_dir = Path(sys.argv[1])\n"
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", head + code, str(data_dir)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                text=True,
            )
        )
        return started[-1]

    yield run
    for child in started:
        child.kill()
        child.communicate()


OWN = """
owned = broker.start(data_dir)
print(owned.address, owned.pid, owned.process.keeper.pid, flush=True)
sys.stdin.read()
"""

OWN_FROM_A_THREAD = """
def start():
    owned = broker.start(data_dir)
    kept.append(owned)
    print(owned.address, owned.pid, owned.process.keeper.pid, flush=True)
kept = []
threading.Thread(target=start).start()
sys.stdin.read()
"""

SERVE = "sys.exit(broker.serve(data_dir))"


def test_records_survive_a_stop_and_a_restart(tmp_path):
    with broker.running(tmp_path) as first:
        assert first.owned
        assert first.alive()
        assert broker.find(tmp_path) == first.address
        write(first.address)
    assert not first.alive()
    assert broker.find(tmp_path) is None
    assert gone(first.pid)
    first.stop()  # again
    with broker.running(tmp_path, port=process.free_ports()[0]) as second:
        assert second.address != first.address
        assert read(second.address) == VALUES


@pytest.mark.parametrize("victim", ["java", "keeper"])
def test_records_survive_kill_9(tmp_path, victim):
    first = broker.start(tmp_path)
    write(first.address)
    os.kill(first.pid if victim == "java" else first.process.keeper.pid, signal.SIGKILL)
    eventually(lambda: not first.alive() and gone(first.pid))
    first.stop()
    with broker.running(tmp_path) as second:
        assert read(second.address) == VALUES


def test_it_listens_on_loopback_only_and_is_out_of_reach_of_ctrl_c(tmp_path):
    with broker.running(tmp_path) as started:
        connections = psutil.Process(started.pid).net_connections()
        listening = [c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN]
        assert len(listening) == 2
        assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
        assert os.getsid(started.pid) != os.getsid(0)


def test_a_second_process_joins_and_takes_over_when_the_first_is_killed(tmp_path, script):
    owner = script(OWN, tmp_path)
    eventually(lambda: lock.holder(tmp_path / "broker.lock") is not None)
    joined = broker.start(tmp_path)  # waits for the owner's
    assert not joined.owned
    assert joined.address == owner.stdout.readline().split()[0]
    write(joined.address)
    joined.stop()
    assert joined.alive()
    owner.kill()
    eventually(lambda: not joined.alive())
    with broker.running(tmp_path) as own:
        assert own.owned
        assert read(own.address) == VALUES


def test_who_waits_for_an_owner_that_is_killed_while_starting_takes_over(tmp_path, script):
    owner = script(OWN, tmp_path)
    eventually(lambda: javas(tmp_path))
    threading.Timer(0.2, owner.kill).start()
    with broker.running(tmp_path) as own:
        assert own.owned
        assert len(javas(tmp_path)) == 1


def test_a_broker_whose_parent_is_killed_leaves_no_process(tmp_path, script):
    parent = script(OWN_FROM_A_THREAD, tmp_path)
    address, java, keeper = parent.stdout.readline().split()
    assert broker.find(tmp_path) == address
    parent.kill()
    eventually(lambda: gone(int(java)) and gone(int(keeper)))
    assert broker.find(tmp_path) is None


def test_serve_says_where_it_is_and_ends_well_on_sigterm(tmp_path, script):
    served = script(SERVE, tmp_path)
    line = served.stdout.readline()
    address = broker.find(tmp_path)
    assert address
    assert address in line
    assert str(tmp_path) in line
    with pytest.raises(BrokerError, match=f"process {served.pid} already runs .* at {address}"):
        broker.serve(tmp_path)
    served.terminate()
    assert served.wait(20) == 0
    assert javas(tmp_path) == []


def test_serve_fails_and_shows_the_end_of_the_log_when_the_broker_dies(tmp_path, script):
    served = script(SERVE, tmp_path)
    served.stdout.readline()
    os.kill(javas(tmp_path)[0], signal.SIGKILL)
    _, errors = served.communicate(timeout=20)
    assert served.returncode == 1
    assert f"The end of its log, {tmp_path / 'broker.log'}" in errors


def test_a_broker_that_cannot_start_is_an_error_with_the_end_of_its_log(tmp_path):
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "meta.properties").write_text("version=99\ncluster.id=x\n")
    with pytest.raises(BrokerError, match=r"(?s)ended before it served.*broker\.log:\n.*version"):
        broker.start(tmp_path)
    assert javas(tmp_path) == []


def test_a_port_lost_in_a_race_is_replaced_after_an_interrupted_formatting(tmp_path, monkeypatch):
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "bootstrap.checkpoint").touch()  # and no meta.properties
    with socket.create_server(("127.0.0.1", 0)) as winner:
        lost = (winner.getsockname()[1], process.free_ports()[1])
        answers = iter([lost, process.free_ports()])
        monkeypatch.setattr(process, "free_ports", lambda port: next(answers))
        with broker.running(tmp_path) as started:
            assert started.alive()
            assert not started.address.endswith(f":{lost[0]}")


def test_offline_with_an_empty_cache_the_error_says_what_to_do(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    said = []
    with pytest.raises(BrokerError, match=r"network once, or copy .*, or set AIOPYPE_BROKER"):
        broker.start(tmp_path / "data", cache=tmp_path / "cache", say=said.append)
    assert said == ["fetching Apache Kafka 4.3.1: 0 of 46 jars, 0 of 45 MB"]
    assert json.dumps(sorted(p.name for p in tmp_path.rglob("*.jar"))) == "[]"
