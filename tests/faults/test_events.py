"""Events that cannot be handled: each becomes a dead letter, and holds up nothing else."""

from __future__ import annotations

import time
from typing import Any

import pytest

from .load import KEYS, program

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(180)]

MEGABYTE = 1_000_000

#: Bytes that a foreign or hostile producer may write, none of which the first step can take.
MALICIOUS: dict[str, bytes | None] = {
    "no value": None,
    "empty": b"",
    "no JSON": b"{garbage",
    "cut short": b"[1, 2",
    "invalid UTF-8": b'["\xff\xfe", 1]',
    "nested 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "objects 20,000 deep": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "NaN": b"[NaN, 1]",
    "Infinity": b"[1, -Infinity]",
    "lone surrogate": b'["\\ud800", 1]',
    "bare scalar": b"7",
    "too many arguments": b"[1, 2, 3]",
    "too few": b"[1]",
    "object with a key twice": b'{"key": 1, "key": 2}',
    "wrong names": b'{"$args": [], "$kwargs": {"no_such_name": 1}}',
    "broken envelope": b'{"$args": 7}',
    "class and file": b'{"__class__": "os.system", "__init__": {"__globals__": 1}}',
    "a zip bomb's start": b"\x1f\x8b\x08\x00" + b"\x00" * 1000,
}

#: Bytes that are JSON of two arguments, so they pass or fail; nobody else may notice.
STRANGE: dict[str, bytes] = {
    "2**64": b"[18446744073709551616, 1]",
    "1e400": b"[1e400, 1]",
    "integer of 100,000 digits": b"[" + b"9" * 100_000 + b", 1]",
    "key of 900 kB": b'["' + b"x" * 900_000 + b'", 1]',
    "null": b"[null, null]",
    "control characters": b'["\\u0000\\u001f", 1]',
}


def test_poison_in_the_middle_of_batches_becomes_dead_letters(trial: Any) -> None:
    trial.begin()
    for count in (1, 1_000):
        trial.checker.run(trial.load.write([b"{poison"] * count))
    trial.recovers(5.0)
    result = trial.finish("1 and 1,000 poison records", letters=1_001)
    assert result.dead_letters == 1_001


@pytest.mark.long
def test_a_topic_of_poison_only_becomes_dead_letters(trial: Any) -> None:
    trial.checker.run(trial.load.write([b"{poison"] * 10_000))
    trial.begin()
    result = trial.finish("10,000 records, all poison, before any other", letters=10_000)
    assert result.dead_letters == 10_000


@pytest.mark.long
def test_malicious_values_hurt_nobody_else(trial: Any) -> None:
    trial.program = program(tries=2)
    trial.begin(workers=2)
    trial.checker.run(trial.load.write(list(MALICIOUS.values())))
    trial.checker.run(trial.load.write(list(STRANGE.values())))
    trial.recovers()
    counts = trial.checker.counts
    total = len(MALICIOUS) + len(STRANGE)
    trial.until(
        lambda: len(trial.checker.read_letters()) + counts.foreign == total, 60,
        f"{total} strange records are accounted for",
    )  # fmt: skip
    result = trial.finish("malicious values", letters=len(MALICIOUS))
    assert result.dead_letters + counts.foreign == total


@pytest.mark.long
def test_compressed_values_and_strange_headers_hurt_nobody_else(trial: Any) -> None:
    trial.begin(workers=2)
    bomb = b'["' + b"x" * (20 * MEGABYTE) + b'", 1]'  # 20 kB on the wire
    trial.checker.run(trial.load.write([bomb] * 3, compression_type="gzip"))
    headers = [("", b""), ("x" * 10_000, None), ("\u2603", b"\xff" * 10_000), ("same", b"1")]
    trial.checker.run(trial.load.write([b"{poison"] * 3, headers=[*headers, *headers * 50]))
    trial.checker.run(trial.load.write([b"{poison"] * 3, key=b"\xff" * 500_000))
    trial.checker.run(trial.load.write([b"{poison"] * 3, key=None))
    trial.recovers()
    # Decompressed they are larger than any topic takes: no output, and letters that are cut.
    trial.finish("gzip bombs, abuse of headers, keys of 500 kB", letters=12)


RAISES = "raise ValueError('no such luck')"


@pytest.mark.long
@pytest.mark.parametrize(
    ("hook", "what"),
    [
        (f"if (key, n) == (7, 20): {RAISES}", "a handler raises for one event"),
        (f"if key == 7: {RAISES}", "a handler raises for every event of one key"),
        (f"if n % 10 == 3: {RAISES}", "a handler raises for one event in ten"),
    ],
)
def test_a_handler_raises(trial: Any, hook: str, what: str) -> None:
    trial.program = program(hook, tries=2)
    trial.begin()
    time.sleep(5)
    trial.finish(what, letters=1)


@pytest.mark.long
def test_a_handler_raises_for_everything(trial: Any) -> None:
    trial.program = program(RAISES, tries=1)
    trial.checker.feed(1_000, 5_000)
    worker = trial.work()
    trial.checker.wait_fed(60)
    result = trial.finish("a handler raises for everything", letters=5_000)
    assert result.dead_letters == 5_000
    assert trial.checker.counts.total == 0
    assert worker.text.count("no such luck") < 5_000, "a line of log for each would fill the disk"


@pytest.mark.long
def test_a_handler_raises_on_the_first_try_only(trial: Any) -> None:
    head = "TRIED = set()\n"
    hook = """
        if n % 10 == 3 and (key, n) not in TRIED:
            TRIED.add((key, n))
            raise ValueError("not yet")
    """
    trial.program = program(hook, head=head, tries=3)
    trial.begin()
    time.sleep(5)
    result = trial.finish("a handler raises for one event in ten, on the first try only")
    assert result.dead_letters == 0
    assert trial.checker.counts.total == result.events


@pytest.mark.long
def test_waiting_events_of_a_key_keep_their_order_over_a_kill(trial: Any) -> None:
    """Tries beyond a second are parked: the key waits, also over a crash, the others flow."""
    hook = """
        if key == 7 and time.time() < float(os.environ["UNTIL"]):
            raise ValueError("not yet")
    """
    trial.program = program(hook, head="import time\n")
    trial.env["UNTIL"] = str(time.time() + 25)
    trial.begin()
    trial.until(lambda: trial.checker.counts.total > 5_000, 30, "the other keys flow")
    assert not trial.checker.counts.has(7, 0)
    trial.kill(trial.workers[0])
    trial.work()
    trial.recovers()
    result = trial.finish("a key fails for 25 s, SIGKILL of the worker meanwhile", within=90)
    assert result.dead_letters == 0


@pytest.mark.long
def test_outputs_too_large_for_their_topic_become_dead_letters(new_trial: Any) -> None:
    trial = new_trial(out={"max.message.bytes": "20000"})
    trial.program = program("if n % 100 == 7: key = 'x' * 50_000", tries=1)
    trial.begin(workers=1)
    time.sleep(10)
    result = trial.finish("one output in a hundred is larger than its topic takes", letters=KEYS)
    assert result.dead_letters >= KEYS


TYPED_HEAD = """
    from dataclasses import dataclass

    @dataclass
    class Old:
        key: int
        n: int

    """


@pytest.mark.long
def test_a_new_schema_of_a_producer_meets_an_old_worker(trial: Any) -> None:
    text = program(head=TYPED_HEAD, tries=1)
    text = text.replace("def forward(self, key, n):", "def forward(self, event: Old):")
    text = text.replace('self.emit("mid", key, n)', 'self.emit("mid", event.key, event.n)')
    trial.program = text
    own = trial.load.event

    def event(number: int) -> tuple[str, bytes, bytes]:
        topic, _, key = own(number)
        # Version 2 of the event has one more field.
        value = b'{"key": %d, "n": %d, "added": {"later": true}}' % (number % KEYS, number // KEYS)
        return topic, value, key

    trial.load.event = event
    trial.begin()
    # Version 3 has another type in a field, version 4 another name.
    trial.checker.run(trial.load.write([b'{"key": "seven", "n": 1}'] * 10))
    trial.checker.run(trial.load.write([b'{"name": 7, "n": 1}'] * 10))
    trial.recovers(5.0)
    result = trial.finish("a field more, a field of another type, a field renamed", letters=20)
    assert result.dead_letters == 20
