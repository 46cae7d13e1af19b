"""The examples of docs/testing.md run as they stand; tests/kafka/test_testing.py runs the last."""

import re
from pathlib import Path

import pytest

import aiopype

GUIDE = Path(aiopype.__file__).parents[1] / "docs" / "testing.md"

FILES = {
    name: code
    for code, name in re.findall(r"```python\n(# (\S+\.py)\n.*?)```", GUIDE.read_text(), re.DOTALL)
}


def test_every_example_is_a_file_of_its_own():
    assert len(FILES) == GUIDE.read_text().count("```python") == 6


@pytest.fixture
def run(tmp_path, python):
    """Runs pytest over some of the files; returns how it ended."""

    def start(*names):
        for name in ("prices.py", *names):
            (tmp_path / name).write_text(FILES[name])
        (tmp_path / "pytest.ini").write_text(
            "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
        )
        options = ("-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "50")
        return python(*options, *names)

    return start


def test_the_examples_pass(run):
    names = [name for name in FILES if name.startswith("test_") and name != "test_both.py"]

    ended = run(*names)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "7 passed" in ended.stdout
