import os
import sys
import threading
from types import SimpleNamespace

import pytest
from opentelemetry import trace

from aiopype.errors import ConfigurationError
from aiopype.tracing import replay_of, traced
from aiopype.tracing import spans as spans_module

FLOW = """
from aiopype import Flow, Manager, Processor, Source

class Numbers(Source):
    async def start(self):
        await self.emit_async("number", 1)

class Shows(Processor):
    def show(self, n):
        print("shown", n)

class Line(Manager):
    name = "line"

    def __init__(self, handler):
        super().__init__(handler)
        self.source = Numbers(self.build_processor_name("source"), handler)
        self.shows = Shows(self.build_processor_name("shows"), handler)
        self.source.on("number", self.shows.show)

class Config:
    FLOWS = ["line"]
    TRACING = {tracing}

Flow(Config(), name="quotes").start()

import sys
from threading import enumerate as threads
print("loaded", any(name.startswith("opentelemetry") for name in sys.modules))
"""


def run(python, tmp_path, **texts):
    file = tmp_path / "flow.py"
    file.write_text(FLOW.replace("{tracing}", texts["tracing"]))
    return python(str(file))


def test_without_the_setting_nothing_of_opentelemetry_is_loaded(python, tmp_path):
    ended = run(python, tmp_path, tracing="False")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["shown 1", "loaded False"]


def test_with_it_a_run_ends_in_time_though_no_collector_answers(python, tmp_path, environment):
    environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
    began = os.times().elapsed

    ended = run(python, tmp_path, tracing="True")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["shown 1", "loaded True"]
    assert "spans were not exported in 3 s" in ended.stderr or "ERROR" in ended.stderr
    assert os.times().elapsed - began < 30


def test_without_opentelemetry_the_setting_is_refused(monkeypatch):
    monkeypatch.delitem(sys.modules, "aiopype.tracing.spans", raising=False)
    monkeypatch.delattr("aiopype.tracing.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    settings = SimpleNamespace(tracing=True)

    with (
        pytest.raises(ConfigurationError, match=r"pip install 'aiopype\[tracing\]'"),
        traced(SimpleNamespace(tracing=None), settings),
    ):
        pass


def test_a_flow_has_its_spans_made_meanwhile(monkeypatch, spans):
    monkeypatch.setattr(spans_module, "provider_of", lambda name: spans.provider)
    flow = SimpleNamespace(tracing=None)

    with traced(flow, SimpleNamespace(tracing=True, name="quotes", group="quotes")):
        flow.tracing.of_source("m.source", 1).end()

    assert flow.tracing is None
    assert spans.names == ["send m.source"]


def test_the_programs_own_provider_is_taken(monkeypatch, spans):
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: spans.provider)

    assert spans_module.provider_of("quotes") is spans.provider


def test_without_one_it_is_made_by_the_environment(monkeypatch):
    made = []
    monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)
    monkeypatch.setattr(trace, "set_tracer_provider", made.append)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")

    provider = spans_module.provider_of("quotes")

    assert made == [provider]
    assert provider.resource.attributes["service.name"] == "quotes"
    assert "0.25" in provider.sampler.get_description()


def test_the_service_is_called_as_the_environment_says(monkeypatch):
    monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)
    monkeypatch.setattr(trace, "set_tracer_provider", lambda provider: None)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")

    assert spans_module.provider_of("quotes").resource.attributes["service.name"] == "mine"


def test_a_collector_that_does_not_answer_holds_up_nobody(monkeypatch, caplog):
    release = threading.Event()
    monkeypatch.setattr(spans_module, "FLUSH_SECONDS", 0.05)

    spans_module.flush(SimpleNamespace(force_flush=release.wait))

    release.set()
    assert "spans were not exported in 0.05 s" in caplog.text


def test_a_replay_names_the_trace_of_its_letter():
    parent = ("traceparent", b"00-x")
    letter = SimpleNamespace(headers=(parent, ("source", b"web"), ("traceparent", None)))

    assert replay_of(letter) == (("aiopype-replay-of", b"00-x"),)
    assert replay_of(None) == ()
