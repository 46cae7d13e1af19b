import inspect
import json
import types

import pytest

import aiopype
import aiopype.sources
import aiopype.testing

PUBLIC = [aiopype, aiopype.sources, aiopype.testing]

#: Libraries that only a flow on Kafka needs.
HEAVY = {"faust", "mode", "aiokafka"}

STATE = """
import asyncio, json, logging, os, signal, sys, threading, warnings

def state():
    return {
        "argv": sys.argv,
        "environment": dict(os.environ),
        "files": os.listdir(),
        "filters": len(warnings.filters),
        "log handlers": [repr(h) for h in logging.getLogger().handlers],
        "log level": logging.getLogger().level,
        "loop policy": repr(asyncio.events._event_loop_policy),
        "path": sys.path,
        "signals": {n: repr(signal.getsignal(n)) for n in signal.valid_signals()},
        "streams": [repr(sys.stdout), repr(sys.stderr)],
        "threads": [t.name for t in threading.enumerate()],
    }
"""

CHECK = (
    STATE
    + """
before = json.loads(json.dumps(state()))
import aiopype, aiopype.sources, aiopype.cli, aiopype.target, aiopype.testing
after = json.loads(json.dumps(state()))
print(json.dumps({key: [before[key], after[key]] for key in before if before[key] != after[key]}))
"""
)

IN_PROCESS = """
import json, sys
from aiopype import Flow, Manager, Processor, Source

class Numbers(Source):
    async def start(self):
        await self.emit_async("number", 1)

class Sink(Processor):
    got = []
    def take(self, number):
        self.got.append(number)

class Pipeline(Manager):
    name = "pipeline"
    def __init__(self, handler):
        super().__init__(handler)
        self.source = Numbers(self.build_processor_name("source"), handler)
        self.sink = Sink(self.build_processor_name("sink"), handler)
        self.source.on("number", self.sink.take)

class Config:
    FLOWS = ["pipeline"]

Flow(Config(), "flow").start()
print(json.dumps({"got": Sink.got, "loaded": sorted({name.split(".")[0] for name in sys.modules})}))
"""


def public_names(module):
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    ]


@pytest.mark.parametrize("module", PUBLIC, ids=lambda m: m.__name__)
def test_the_public_names_are_those_of_all_in_order(module):
    assert module.__all__ == sorted(public_names(module))


@pytest.mark.parametrize("module", PUBLIC, ids=lambda m: m.__name__)
def test_every_public_name_is_documented(module):
    assert [n for n in module.__all__ if not inspect.getdoc(getattr(module, n))] == []


def test_the_names_of_the_first_aiopype_are_still_there():
    first = {"AsyncFlow", "AsyncProtocol", "Flow", "Manager", "Processor", "SyncProtocol"}

    assert first <= set(aiopype.__all__)


def test_importing_the_package_does_nothing_else(python):
    ended = python("-W", "error", "-c", CHECK)

    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {}


@pytest.mark.parametrize("module", ["aiopype", "aiopype.testing"])
def test_importing_the_package_loads_nothing_of_kafka(python, module):
    code = f"import json, sys, {module}; print(json.dumps([n.split('.')[0] for n in sys.modules]))"

    ended = python("-W", "error", "-c", code)

    assert ended.returncode == 0, ended.stderr
    assert set(json.loads(ended.stdout)) & {*HEAVY, "pytest"} == set()


def test_a_flow_in_process_loads_nothing_of_kafka(python, tmp_path):
    (tmp_path / "program.py").write_text(IN_PROCESS)

    ended = python("-W", "error", "program.py")

    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert result["got"] == [1]
    assert set(result["loaded"]) & HEAVY == set()
