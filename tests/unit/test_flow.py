import asyncio
import runpy
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from aiopype import AsyncFlow, Flow, Processor, RestartPolicy, Source
from aiopype.errors import BrokerError, ConfigurationError, GraphError, RecordingError
from aiopype.inputs import RawInput
from aiopype.playback import Replay
from aiopype.recording import EMITTED, RecordingWriter

FLOW = """
import asyncio
from aiopype import Flow, Manager, Source

class Endless(Source):
    async def start(self):
        print("up", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            print("tidied", flush=True)

class Ticks(Manager):
    name = "ticks"
    def __init__(self, handler):
        super().__init__(handler)
        self.source = Endless(self.build_processor_name("source"), handler)

class Config:
    FLOWS = ["ticks"]

dataflow = Flow(Config())
if __name__ == "__main__":
    dataflow.start()
"""


class Endless(Source):
    """Runs until it is cancelled; says when it has begun and when it has tidied up."""

    def __init__(self, name, handler, begun):
        super().__init__(name, handler)
        self.begun = begun
        self.is_tidied = False

    async def start(self):
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            self.is_tidied = True


def config(*names, **settings):
    return SimpleNamespace(FLOWS=list(names), **settings)


@pytest.fixture
def begun():
    return threading.Event()


@pytest.fixture
def built():
    """The components that a flow built, by the last part of their names."""
    return {}


@pytest.fixture
def pipeline(declare, numbers, collector, built):
    """Declares a manager of three numbers and a handler; returns its name."""

    def make(handler="take"):
        def wire(manager):
            source = numbers(manager.build_processor_name("source"), manager.handler)
            sink = collector(manager.build_processor_name("sink"), manager.handler)
            source.on("number", getattr(sink, handler))
            built[manager.name] = sink

        return declare(wire).name

    return make


@pytest.fixture
def endless(declare, begun, built):
    """Declares a manager whose source runs until it is cancelled; returns its name."""

    def wire(manager):
        name = manager.build_processor_name("source")
        built["endless"] = Endless(name, manager.handler, begun)

    return declare(wire).name


@pytest.fixture
def beside():
    """Runs a function in a thread of its own; the test waits for it at the end."""
    threads = []

    def run(function):
        threads.append(threading.Thread(target=function))
        threads[-1].start()

    yield run
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


# --- in process


def test_a_flow_runs_until_its_sources_have_ended(pipeline, built):
    name = pipeline()

    Flow(config(name)).start()

    assert built[name].got == [(0,), (1,), (2,)]


def test_a_flow_awaits_coroutine_handlers(pipeline, built):
    name = pipeline("take_async")

    Flow(config(name)).start()

    assert built[name].got == [(0,), (1,), (2,)]


def test_a_flow_runs_all_its_managers(pipeline, built):
    names = [pipeline(), pipeline()]

    Flow(config(*names)).start()

    assert [built[name].got for name in names] == [[(0,), (1,), (2,)]] * 2


def test_a_flow_can_be_started_again(pipeline, built):
    name = pipeline()
    flow = Flow(config(name))

    flow.start()
    first = built[name]
    flow.start()

    assert built[name] is not first
    assert built[name].got == [(0,), (1,), (2,)]


@pytest.fixture
def failing(declare):
    """Declares a manager whose source raises, and is not started again soon; returns its name."""

    class Fails(Source):
        async def start(self):
            raise LookupError("mine")

    def wire(manager):
        Fails(manager.build_processor_name("source"), manager.handler)

    return declare(wire, restarts=RestartPolicy(failures=0)).name


def test_a_source_in_quarantine_makes_the_status_1_when_all_others_have_ended(
    pipeline, built, failing
):
    good = pipeline()

    with pytest.raises(SystemExit) as end:
        Flow(config(failing, good)).start()

    assert end.value.code == 1
    assert built[good].got == [(0,), (1,), (2,)]


def test_a_wrong_configuration_starts_nothing(built, endless, begun):
    with pytest.raises(ConfigurationError, match="FLOWS"):
        Flow(SimpleNamespace()).start()
    with pytest.raises(GraphError, match="no_such_manager"):
        Flow(config(endless, "no_such_manager")).start()

    assert not begun.is_set()


# --- a replay


@pytest.fixture
def recording(tmp_path):
    """Writes a recording of so many events `number` of a source; returns a replay of it."""

    def make(source, *numbers):
        path = tmp_path / "recording.jsonl"
        with RecordingWriter(path, "flow", 0.0) as writer:
            for number in numbers:
                meta = {"event": "number"}
                writer.write(source, RawInput(EMITTED, b"[%d]" % number, 0.0, meta))
        return Replay(file=path, speed=0)

    return make


def test_a_recording_is_played_and_ends_the_flow(pipeline, built, recording):
    name = pipeline()
    flow = Flow(config(name))
    flow.replay = recording(f"{name}.source", 7, 8)

    flow.start()

    assert built[name].got == [(7,), (8,)]


def test_the_sources_that_a_recording_has_nothing_of_do_nothing(pipeline, built, recording):
    names = [pipeline(), pipeline()]
    flow = Flow(config(*names))
    flow.replay = recording(f"{names[0]}.source", 7)

    flow.start()

    assert [built[name].got for name in names] == [[(7,)], []]


def test_a_recording_that_does_not_fit_starts_nothing(endless, begun, recording):
    flow = Flow(config(endless))
    flow.replay = recording(f"{endless}.sorce", 7)

    with pytest.raises(RecordingError, match=rf"did you mean {endless}\.source\?"):
        flow.start()

    assert not begun.is_set()


def test_a_flow_in_process_plays_what_the_one_on_kafka_would(recording):
    flow = AsyncFlow(config(), "quotes")
    flow.replay = recording("m.source", 7)

    assert flow.in_process().replay is flow.replay


# --- being stopped


def test_a_flow_can_be_stopped_from_another_thread(endless, begun, built, beside):
    flow = Flow(config(endless))

    def stop():
        assert begun.wait(10)
        flow.stop()

    beside(stop)
    flow.start()

    assert built["endless"].is_tidied


def test_a_flow_that_is_stopped_ends_well_whatever_is_down(endless, begun, failing, beside):
    flow = Flow(config(failing, endless))

    def stop():
        assert begun.wait(10)
        flow.stop()

    beside(stop)
    flow.start()


def test_a_flow_can_be_stopped_by_a_handler(declare, built):
    def wire(manager):
        built["source"] = Counting(manager.build_processor_name("source"), manager.handler)
        stopper = Stopper(manager.build_processor_name("stopper"), manager.handler)
        built["source"].on("number", stopper.stop_at_3)

    class Counting(Source):
        count = 0

        async def start(self):
            while True:
                self.count += 1
                await self.emit_async("number", self.count)
                await asyncio.sleep(0)

    class Stopper(Processor):
        def stop_at_3(self, number):
            if number == 3:
                flow.stop()

    flow = Flow(config(declare(wire).name))
    flow.start()

    assert built["source"].count >= 3


def test_a_stopped_source_can_await_its_own_tasks_while_it_tidies_up(declare, begun, beside):
    done = []

    class Writing(Source):
        async def start(self):
            writer = asyncio.ensure_future(self.write())
            begun.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await writer

        async def write(self):
            while not flow_is_stopped.is_set():
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.001)
            done.append("written")

    def stop():
        assert begun.wait(10)
        flow.stop()
        flow_is_stopped.set()

    flow_is_stopped = threading.Event()
    name = declare(lambda manager: Writing(f"{manager.name}.source", manager.handler)).name
    flow = Flow(config(name))
    beside(stop)
    flow.start()

    assert done == ["written"]


def test_stopping_a_flow_that_does_not_run_is_nothing(pipeline):
    flow = Flow(config(pipeline()))

    flow.stop()
    flow.start()
    flow.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_signal_ends_the_flow_with_status_0(environment, tmp_path, number):
    file = tmp_path / "ticks.py"
    file.write_text(FLOW)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(file)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"

    process.send_signal(number)
    out, err = process.communicate(timeout=20)

    assert (process.returncode, out) == (0, "tidied\n"), err
    assert "Traceback" not in err


def test_a_second_sigterm_does_not_spoil_the_end_that_the_first_one_asked_for(
    environment, tmp_path
):
    file = tmp_path / "ticks.py"
    file.write_text(FLOW + "\nimport os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    process = subprocess.Popen(
        [sys.executable, str(file)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)

    assert process.returncode == 0


def test_the_signals_are_given_back_at_the_end(pipeline):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    Flow(config(pipeline())).start()

    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


# --- the name


def test_the_name_is_the_given_one():
    assert Flow(config(NAME="configured"), name="given").name == "given"


def test_the_name_is_the_configurations():
    assert Flow(config(NAME="configured")).name == "configured"


@pytest.mark.parametrize("cls", [Flow, AsyncFlow])
def test_the_name_is_the_stem_of_the_file_that_makes_the_flow(cls):
    assert cls(config()).name == "test_flow"


@pytest.mark.parametrize("run_name", ["__main__", "ticks"])
def test_the_name_is_the_same_whether_a_file_is_run_or_imported(tmp_path, run_name):
    file = tmp_path / "ticks.py"
    file.write_text(FLOW.replace("dataflow.start()", "pass"))

    assert runpy.run_path(str(file), run_name=run_name)["dataflow"].name == "ticks"


@pytest.mark.parametrize("stem", ["__init__", "__main__"])
def test_the_name_of_a_package_is_its_folders(tmp_path, stem):
    folder = tmp_path / "quotes"
    folder.mkdir()
    (folder / f"{stem}.py").write_text(FLOW)

    found = runpy.run_path(str(folder / f"{stem}.py"), run_name="quotes")

    assert found["dataflow"].name == "quotes"


def test_a_flow_made_without_a_file_has_a_name():
    namespace = {"Flow": Flow, "config": config()}

    exec("flow = Flow(config)", namespace)

    assert namespace["flow"].name == "flow"


# --- on Kafka


class FakeWorker:
    """Stands for the worker: notes what it was made of, ends when it is told to."""

    made: ClassVar[list] = []
    fails = False

    def __init__(self, settings, address, pipelines):
        self.settings, self.address, self.pipelines = settings, address, pipelines
        self.is_stopped = False
        self.made.append(self)

    def stop(self):
        self.is_stopped = True

    async def run(self):
        if self.fails:
            self.pipelines.supervisor.fail(self.settings.flows[0], LookupError(), "what")


@pytest.fixture
def worker(monkeypatch):
    """The workers that flows make."""
    from aiopype import worker  # noqa: PLC0415 - it loads Faust

    monkeypatch.setattr(worker, "Worker", FakeWorker)
    monkeypatch.setattr(FakeWorker, "made", [])
    monkeypatch.delenv("AIOPYPE_BROKER", raising=False)
    return FakeWorker


@pytest.fixture
def embedded(monkeypatch):
    """The folders in which an embedded broker was started, and whether it was stopped."""
    from aiopype import broker  # noqa: PLC0415 - only here

    steps = []

    @contextmanager
    def running(folder):
        steps.append(folder)
        yield SimpleNamespace(address="embedded:1")
        steps.append("stopped")

    monkeypatch.setattr(broker, "running", running)
    return steps


def test_a_worker_runs_on_the_configured_broker(worker, embedded, pipeline):
    AsyncFlow(config(pipeline(), BROKER="configured:1")).start()

    (made,) = worker.made
    assert made.address == "configured:1"
    assert embedded == []


def test_a_worker_runs_on_the_broker_of_the_command_line(worker, embedded, pipeline):
    AsyncFlow(config(pipeline(), BROKER="configured:1")).start(broker="given:1")

    (made,) = worker.made
    assert made.address == "given:1"


def test_a_worker_without_a_broker_runs_on_an_embedded_one(worker, embedded, pipeline, tmp_path):
    AsyncFlow(config(pipeline(), DATA_DIR=tmp_path)).start()

    (made,) = worker.made
    assert made.address == "embedded:1"
    assert embedded == [tmp_path / "kafka", "stopped"]


def test_a_worker_gets_the_settings_and_the_managers(worker, pipeline):
    name = pipeline()

    AsyncFlow(config(name, BROKER="configured:1"), name="quotes").start()

    (made,) = worker.made
    assert made.settings.name == "quotes"
    assert [manager.name for manager in made.pipelines.managers] == [name]


def test_stopping_the_flow_stops_the_worker(worker, pipeline):
    flow = AsyncFlow(config(pipeline(), BROKER="configured:1"))
    flow.start()

    flow.stop()

    assert worker.made[0].is_stopped


def test_a_worker_that_was_asked_to_stop_ends_well_whatever_is_down(worker, pipeline, monkeypatch):
    monkeypatch.setattr(FakeWorker, "fails", True)

    AsyncFlow(config(pipeline(), BROKER="configured:1")).start()

    assert worker.made[0].pipelines.supervisor.failures


def test_a_worker_gets_the_web_host_of_the_command_line(worker, pipeline):
    flow = AsyncFlow(config(pipeline(), BROKER="configured:1", WEB_HOST="0.0.0.0"))
    flow.web_host = "unix:socket"

    flow.start()

    assert worker.made[0].settings.web_host == "unix:socket"


def test_a_worker_gets_the_web_port_of_the_command_line(worker, pipeline):
    AsyncFlow(config(pipeline(), BROKER="configured:1", WEB_PORT=7000)).start(web_port=0)

    assert worker.made[0].settings.web_port == 0


@pytest.mark.parametrize(
    ("namespace", "replay", "namespaces"),
    [
        (None, None, None),
        ("staging", None, "staging"),
        (None, Replay(file=Path("a")), "replay"),
        ("staging", Replay(file=Path("a"), name="two"), "staging.replay.two"),
    ],
)
def test_a_replay_has_a_namespace_of_its_own(pipeline, namespace, replay, namespaces):
    flow = AsyncFlow(config(pipeline(), NAMESPACE=namespace), "quotes")
    flow.replay = replay

    settings = flow.settings(broker="k:1")

    assert (settings.namespace, settings.broker) == (namespaces, "k:1")
    topics = flow.build_for_kafka(settings).protocol.graph.topics()
    assert all(topic.name == f"{namespaces or ''}.{topic.full_name}".strip(".") for topic in topics)


def test_a_replay_of_a_wrong_name_is_refused(pipeline):
    flow = AsyncFlow(config(pipeline()), "quotes")
    flow.replay = Replay(file=Path("a"), name="no name")

    with pytest.raises(ConfigurationError, match=r"namespace 'replay\.no name'"):
        flow.settings()


def test_a_worker_that_plays_is_stopped_when_the_replay_is_through(
    worker, pipeline, recording, monkeypatch
):
    from aiopype import completion  # noqa: PLC0415 - it loads aiokafka

    async def until_played(settings, address, pipelines, playback):
        assert (settings.namespace, address) == ("replay", "configured:1")
        assert not playback.is_through({})

    async def run(self):
        while not self.is_stopped:
            await asyncio.sleep(0)

    monkeypatch.setattr(completion, "until_played", until_played)
    monkeypatch.setattr(FakeWorker, "run", run)
    name = pipeline()
    flow = AsyncFlow(config(name, BROKER="configured:1"))
    flow.replay = recording(f"{name}.source", 7)

    flow.start()

    assert worker.made[0].is_stopped


def test_a_wrong_configuration_starts_no_broker(worker, embedded):
    with pytest.raises(GraphError):
        AsyncFlow(config("no_such_manager")).start()

    assert embedded == []
    assert worker.made == []


def test_a_broker_that_cannot_be_started_is_said_so(worker, pipeline, monkeypatch):
    from aiopype import broker  # noqa: PLC0415 - only here

    @contextmanager
    def running(folder):
        raise BrokerError("no Java")
        yield

    monkeypatch.setattr(broker, "running", running)

    with pytest.raises(BrokerError, match="no Java"):
        AsyncFlow(config(pipeline())).start()
    assert worker.made == []
