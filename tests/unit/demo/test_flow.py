"""The demo's program, in process, as a whole."""

from aiopype import Flow
from aiopype.demo import flow


def test_the_flow_runs_in_process_and_ends_when_the_markets_close(small, capsys):
    Flow(flow.FlowConfig()).start()
    assert small.faults() == []
    assert "feed   lost: " in capsys.readouterr().out


def test_a_flow_that_runs_again_adds_nothing(small):
    for _ in range(2):
        Flow(flow.FlowConfig()).start()
    assert small.faults() == []
    assert len(small.gaps.rows()) == 1


def test_the_flow_has_the_demos_name_and_directory():
    assert flow.dataflow.name == "demo"
    assert flow.dataflow.config.FLOWS == ("aapl", "trades")
    assert flow.dataflow.config.DATA_DIR == flow.DATA_DIR
    assert flow.DATA_DIR.name == "demo"
