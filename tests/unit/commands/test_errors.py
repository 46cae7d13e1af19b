import json
import time

import msgspec
import pytest

from aiopype.commands import deciding, flows
from aiopype.replays import REQUEST_BYTES, ReplayRequest

NOW_MS = int(time.time() * 1000)
HOUR_MS = 3_600_000
CHOICES = [("--all",), ("--component", "prices.*"), ("--error", "OSError"), ("--since", "99999d")]


# --- list


def test_a_flow_without_failures_has_no_letters(aiopype, shelf):
    result = aiopype("list")

    assert (result.exit_code, result.output) == (0, "no dead letters\n")


def test_topics_that_do_not_exist_have_no_letters(aiopype, shelf):
    shelf.topics = {}

    result = aiopype("list", "--json")

    assert json.loads(result.output) == {"letters": [], "groups": [], "total": 0}


def test_the_letters_are_listed_by_time(aiopype, put):
    late, early = put(at_ms=5_000), put(at=2, at_ms=4_000)

    result = aiopype("list")

    lines = result.output.splitlines()
    assert lines[0].split() == ["id", "time", "state", "tries", "replays", "error"]
    assert [line.split()[0] for line in lines[1:]] == [early, late]
    assert lines[1].endswith("OSError: disk full")


def test_the_latest_are_listed_and_the_others_counted(aiopype, put):
    for at in range(7):
        put(at_ms=1_000 + at)

    result = aiopype("list", "--limit", "2")

    assert result.output.splitlines()[1].split() == ["7", "prices.writer", "OSError", "open"]
    assert "prices.writer:0:6" in result.output
    assert "prices.writer:0:4" not in result.output
    assert "the latest 2 of 7" in result.output


def test_many_letters_have_a_summary(aiopype, put):
    for number in range(10):
        put(error="OSError" if number else "ValueError")

    result = aiopype("list")

    assert [line.split() for line in result.output.splitlines()[:3]] == [
        ["letters", "component", "error", "state"],
        ["9", "prices.writer", "OSError", "open"],
        ["1", "prices.writer", "ValueError", "open"],
    ]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (("--component", "prices.writer"), 4),
        (("--component", "prices.*"), 4),
        (("--component", "other.*"), 0),
        (("--error", "OSError"), 1),
        (("--error", "my.app.BusyError"), 1),
        (("--error", "BusyError"), 1),
        (("--error", "*Error"), 4),
        (("--since", "2h"), 2),
        (("--until", "2h"), 2),
        (("--since", "5h", "--until", "2h"), 1),
        (("--since", "2001-01-01"), 3),
        (("--since", "1970-01-01T00:00:00+00:00", "--error", "*"), 4),
    ],
)
def test_letters_are_chosen_by_component_error_and_time(aiopype, put, filters, expected):
    put(at_ms=NOW_MS - HOUR_MS)
    put(at_ms=NOW_MS - HOUR_MS, error="my.app.BusyError")
    put(at_ms=NOW_MS - 4 * HOUR_MS, error="ValueError")
    put(at_ms=10, error="ValueError")

    result = aiopype("list", "--json", *filters)

    assert json.loads(result.output)["total"] == expected


def test_only_topics_that_may_have_wanted_letters_are_read(aiopype, shelf):
    aiopype("list", "--component", "prices.writer", "--since", "2001-01-01T00:00:00+00:00")

    assert shelf.reads[-1] == (["prices.writer.error", "prices.replays.error"], 978_307_200_000)


@pytest.mark.parametrize("when", ["yesterday", "-2h", "forever", "2 fortnights"])
def test_a_time_that_is_none_is_a_wrong_use(aiopype, shelf, when):
    result = aiopype("list", "--since", when)

    assert result.exit_code == 2
    assert "how long ago" in result.output


def test_open_letters_are_listed_unless_others_are_asked_for(aiopype, put):
    first, second, third = put(), put(), put()
    aiopype("replay", first)
    aiopype("discard", second)

    def listed(*state):
        letters = json.loads(aiopype("list", "--json", *state).output)["letters"]
        return [(letter["id"], letter["state"]) for letter in letters]

    assert listed() == [(third, "open")]
    assert listed("--state", "replayed") == [(first, "replayed")]
    assert listed("--state", "discarded") == [(second, "discarded")]
    assert len(listed("--state", "all")) == 3


@pytest.mark.parametrize("value", [None, b"", b"{garbage", b"[]", b'{"component": 1}', b"\xff"])
def test_garbage_is_listed_as_such(aiopype, shelf, value):
    shelf.put("prices.writer.error", value)

    result = aiopype("list")

    assert result.exit_code == 0
    assert "prices.writer:0:0" in result.output
    assert "not a dead letter" in result.output


def test_garbage_among_the_decisions_decides_nothing(aiopype, shelf, put):
    put()
    for value in (None, b"{garbage", b'{"do":"dance","letters":[["prices.writer.error",0,0]]}'):
        shelf.put("prices.replays.request", value)

    assert json.loads(aiopype("list", "--json").output)["total"] == 1


def test_what_a_terminal_would_obey_is_not_printed(aiopype, put):
    name = put(message="a\x1b[2J\nb", traceback="\x1b[2J", value=b'"\x7f"')

    for arguments in (("list",), ("show", name)):
        output = aiopype(*arguments).output
        assert "\x1b" not in output
        assert "\x7f" not in output


def test_a_letter_that_the_user_emitted_is_listed_with_its_text(aiopype, put):
    put(error="", subscription=None, value=None)

    assert aiopype("list").output.endswith(" 0        disk full\n")


def test_a_time_beyond_the_calendar_is_listed_as_a_number(aiopype, put):
    put(at_ms=10**18)

    assert f"{10**18} ms" in aiopype("list").output


# --- show


def test_all_of_a_letter_is_shown(aiopype, put):
    name = put(headers=(("source", b"web"), ("none", None)), replays=2)

    output = aiopype("show", name).output

    for line in (
        f"id            {name}",
        "state         open",
        "component     prices.writer",
        "subscription  prices.writer.data -> prices.writer.write",
        "key           AAPL",
        "header        source = web",
        "header        none = none",
        "tries         10",
        "replays       2",
        "error         OSError: disk full",
        "Traceback ...\n  deep",
        'value, 14 bytes\n{\n  "price": 1.5\n}',
    ):
        assert line in output
    assert "origin        prices.writer.data[3] offset 70" in output


def test_a_value_that_is_no_json_is_shown_in_hex(aiopype, put):
    output = aiopype("show", put(value=b"\x00\xffprice")).output

    assert "00000000  00 ff 70 72 69 63 65" in output
    assert "..price" in output


def test_of_a_large_value_the_beginning_is_shown(aiopype, put):
    output = aiopype("show", put(value=b"\xff" * 5_000)).output

    assert "and 904 bytes more" in output


def test_a_value_that_was_cut_says_so(aiopype, put):
    output = aiopype("show", put(value=b'{"pri', value_bytes=5_000_000, is_cut=True)).output

    assert "value, 5,000,000 bytes, of which here are the first 5" in output


def test_a_letter_that_the_user_emitted_is_shown_with_its_arguments(aiopype, put):
    name = put(subscription=None, value=None, args=(1, "two"), kwargs={"three": 3})

    output = aiopype("show", name).output

    assert 'none: emitted with emit("error", ...)' in output
    assert '"two"' in output
    assert '"three": 3' in output


def test_garbage_is_shown_in_hex(aiopype, shelf):
    shelf.put("prices.writer.error", b"\xffrubbish")

    output = aiopype("show", "prices.writer:0:0").output

    assert "not a dead letter" in output
    assert "ff 72 75 62" in output


def test_a_letter_is_shown_as_json(aiopype, put):
    name = put()
    aiopype("discard", name)

    told = json.loads(aiopype("show", name, "--json").output)

    assert (told["id"], told["state"], told["error"]) == (name, "discarded", "OSError")
    assert told["value"] == "eyJwcmljZSI6IDEuNX0="
    assert told["decided_ms"] >= NOW_MS


def test_garbage_is_shown_as_json(aiopype, shelf):
    shelf.put("prices.writer.error", None)

    told = json.loads(aiopype("show", "prices.writer:0:0", "--json").output)

    assert (told["error"], told["value"]) == ("not a dead letter", "")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("prices.writer:0:7", "has no record at offset 7"),
        ("prices.nobody:0:0", "those that may have are: prices.writer"),
    ],
)
def test_a_letter_that_is_not_there_is_told(aiopype, put, name, says):
    put()

    result = aiopype("show", name)

    assert result.exit_code == 1
    assert says in result.output


def test_target_and_broker_are_handed_on(aiopype, put, shelf):
    name = put()

    aiopype("show", "flow.py", name, "--broker", "b:2")
    assert shelf.asked == ("flow.py", "b:2")
    aiopype("show", name)
    assert shelf.asked == (None, None)
    aiopype("list", "app:flow")
    assert shelf.asked == ("app:flow", None)


@pytest.mark.parametrize("words", [(), ("flow.py",), ("a.b:1:2", "a.b:1:3")])
def test_show_wants_one_id(aiopype, shelf, words):
    result = aiopype("show", *words)

    assert result.exit_code == 2
    assert "give the id of one dead letter" in result.output


# --- replay


def test_a_replay_names_the_trace_of_the_original(aiopype, put, shelf):
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    aiopype("replay", put(headers=(("traceparent", parent), ("source", b"web"))))

    (record,) = shelf.topics["prices.replays.request"]
    assert record.headers == (("aiopype-replay-of", parent),)


def test_a_replay_is_asked_for_with_the_whole_letter(aiopype, put, letter, requests):
    name = put(at=1)

    result = aiopype("replay", name)

    assert result.exit_code == 0
    assert result.output == (
        f"{name}  runs again through prices.writer.data -> prices.writer.write\n"
        "1 replayed, 0 refused\n"
    )
    ((_, key, request),) = requests()
    assert (key, request.do, request.letter) == (b"AAPL", "replay", letter())
    assert request.letters == (("prices.writer.error", 1, 0),)


def test_a_request_has_a_time_of_its_own(aiopype, put, shelf):
    aiopype("replay", put(at_ms=5))

    (record,) = shelf.topics["prices.replays.request"]
    assert record.timestamp >= NOW_MS


@pytest.mark.parametrize(
    ("exists", "key", "partition"),
    [
        (True, b"AAPL", 3),  # the origin has as many partitions: its choice holds
        (True, None, 3),
        (False, b"AAPL", 1),  # as Kafka's own clients hash the key
        (False, None, 3),
    ],
)
def test_the_request_goes_where_the_originals_key_belongs(
    aiopype, put, shelf, requests, exists, key, partition
):
    if exists:
        shelf.topics["prices.writer.data"] = []

    aiopype("replay", put(key=key))

    assert requests()[0].partition == partition


@pytest.mark.parametrize("action", ["replay", "discard"])
@pytest.mark.parametrize("choice", CHOICES)
def test_letters_are_taken_by_filters(aiopype, put, requests, action, choice):
    names = [put(), put(at=2)]

    result = aiopype(action, *choice)

    assert result.exit_code == 0
    assert all(name in result.output for name in names)
    assert len(requests()) == 2


@pytest.mark.parametrize("action", ["replay", "discard"])
@pytest.mark.parametrize("words", [(), ("flow.py",), ("--dry-run",)])
def test_nothing_is_taken_without_being_named(aiopype, put, requests, action, words):
    put()

    result = aiopype(action, *words)

    assert result.exit_code == 2
    assert "--all" in result.output
    assert requests() == []


@pytest.mark.parametrize("choice", CHOICES)
def test_ids_and_filters_are_not_mixed(aiopype, put, requests, choice):
    result = aiopype("replay", put(), *choice)

    assert result.exit_code == 2
    assert requests() == []


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ("replay", "would run again through prices.writer.data -> prices.writer.write"),
        ("discard", "would be discarded"),
    ],
)
def test_a_dry_run_says_what_would_be_done_and_does_nothing(aiopype, put, requests, action, says):
    name = put()

    result = aiopype(action, "--all", "--dry-run")

    assert f"{name}  {says}" in result.output
    assert f"1 would be {action}ed, 0 refused" in result.output
    assert requests() == []


def test_asked_twice_it_runs_once(aiopype, put, requests):
    name = put()
    aiopype("replay", name)

    again = aiopype("replay", name)
    by_filter = aiopype("replay", "--all")

    assert again.exit_code == 1
    assert f"{name}  refused: is replayed already; --again takes it" in again.output
    assert by_filter.exit_code == 0
    assert "0 replayed, 0 refused" in by_filter.output
    assert len(requests()) == 1


def test_named_twice_in_a_command_it_runs_once(aiopype, put, requests):
    name = put()

    aiopype("replay", name, name, name.replace(":0:", ":00:"))

    assert len(requests()) == 1


@pytest.mark.parametrize("by", ["id", "filter"])
def test_with_again_it_runs_once_more(aiopype, put, requests, by):
    name = put()
    aiopype("discard", name)

    result = aiopype("replay", "--again", name if by == "id" else "--all")

    assert result.exit_code == 0
    assert [request.do for _, _, request in requests()] == ["discard", "replay"]
    assert aiopype("show", name, "--json").output.count('"replayed"') == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"subscription": None}, 'was emitted with emit("error", ...)'),
        ({"subscription": "prices.writer.data -> prices.writer.gone"}, "no subscription"),
        ({"is_cut": True, "offset": 1}, "gone from prices.writer.data[3] offset 1"),
        ({"is_cut": True, "offset": None}, "gone from"),
        ({"value": b"x" * REQUEST_BYTES}, "too large for topic prices.replays.request"),
    ],
)
def test_what_cannot_run_again_is_refused_and_the_others_are_not(
    aiopype, put, requests, given, says
):
    bad, good = put(**given), put()

    result = aiopype("replay", "--all")

    assert result.exit_code == 1
    (line,) = [line for line in result.output.splitlines() if line.startswith(bad)]
    assert "refused: " in line
    assert says in line
    assert f"{good}  runs again" in result.output
    assert "1 replayed, 1 refused" in result.output
    assert len(requests()) == 1


def test_an_id_that_is_not_there_is_refused_and_the_others_are_not(aiopype, put, requests):
    good = put()

    result = aiopype("replay", "prices.writer:0:9", good, "rubbish")

    assert result.exit_code == 1
    assert "refused: prices.writer:0:9: partition 0" in result.output
    assert "refused: 'rubbish' is no id" in result.output
    assert "1 replayed, 2 refused" in result.output
    assert len(requests()) == 1


def test_garbage_is_not_run_but_discarded(aiopype, shelf, requests):
    shelf.put("prices.writer.error", b"{garbage")

    assert "refused: is not a dead letter; discard it" in aiopype("replay", "--all").output
    assert aiopype("discard", "--all").exit_code == 0
    assert [request.do for _, _, request in requests()] == ["discard"]


def test_of_a_cut_letter_the_original_is_fetched(aiopype, put, shelf, requests):
    value = b'"' + b"x" * 100 + b'"'
    shelf.put("prices.writer.data", value, 3, key=b"whole", headers=(("h", b"1"),))

    aiopype("replay", put(is_cut=True, offset=0, value=b'"x', key=None, value_bytes=len(value)))

    ((_, key, request),) = requests()
    letter = request.letter
    assert (key, letter.key, letter.value, letter.is_cut) == (b"whole", b"whole", value, False)
    assert letter.headers == (("h", b"1"),)


def test_another_event_in_the_originals_place_is_not_taken_for_it(aiopype, put, shelf, requests):
    shelf.put("prices.writer.data", b"[]", 3)

    result = aiopype("replay", put(is_cut=True, offset=0, value_bytes=5_000))

    assert "is another event" in result.output
    assert requests() == []


@pytest.mark.parametrize("action", ["replay", "discard"])
def test_without_the_topic_of_requests_it_is_told_how_to_get_it(aiopype, put, shelf, action):
    del shelf.topics["prices.replays.request"]

    result = aiopype(action, put())

    assert result.exit_code == 1
    assert "topic prices.replays.request does not exist; start the flow" in result.output


def test_many_letters_are_asked_for_in_batches(aiopype, put, shelf, requests, monkeypatch):
    monkeypatch.setattr(deciding, "TOGETHER", 3)
    for _ in range(8):
        put()
    sizes, write = [], shelf.write

    async def noted(records):
        sizes.append(len(records))
        return await write(records)

    shelf.write = noted

    result = aiopype("replay", "--all")

    assert sizes == [3, 3, 2]
    assert "8 replayed, 0 refused" in result.output


def test_large_letters_are_not_all_held_at_once(aiopype, put, shelf, monkeypatch):
    monkeypatch.setattr(deciding, "TOGETHER_BYTES", 1)
    put()
    put()
    written, write = [], shelf.write

    async def noted(records):
        written.append(len(records))
        return await write(records)

    shelf.write = noted

    aiopype("replay", "--all")

    assert written == [1, 1]


# --- waiting


def done_with(shelf):
    """Let the flow's group be done with each request that is written."""

    def note(record):
        shelf.done[record.topic, record.partition] = record.offset + 1

    return note


def test_with_wait_a_replay_that_ended_well_is_told(aiopype, put, shelf):
    shelf.after_write = done_with(shelf)
    name = put()

    result = aiopype("replay", name, "--wait", "5")

    assert result.exit_code == 0
    assert result.output.endswith(f"{name}  done\n1 done, 0 failed or not done yet\n")


def test_with_wait_a_replay_that_failed_again_is_told(aiopype, put, shelf):
    def fail(record):
        done_with(shelf)(record)
        if msgspec.json.decode(record.value, type=ReplayRequest).letter.offset == 71:
            put(at=2, offset=71, replays=1, message="still full")

    put(offset=71, replays=1, message="older")  # the failure of another one, or of an earlier time
    bad, good = put(offset=71), put(offset=72)
    shelf.after_write = fail

    result = aiopype("replay", bad, good, "--wait", "5")

    assert result.exit_code == 1
    assert f"{bad}  failed again: OSError: still full\n{good}  done\n" in result.output
    assert "1 done, 1 failed or not done yet" in result.output


def test_with_wait_a_failure_of_an_earlier_replay_is_not_taken_for_this_one(aiopype, put, shelf):
    shelf.after_write = done_with(shelf)
    name = put()
    put(replays=1, message="still full")

    result = aiopype("replay", name, "--again", "--wait", "5")

    assert f"{name}  done" in result.output


def test_with_wait_what_the_replays_themselves_could_not_do_is_told(aiopype, put, shelf):
    def fail(record):
        done_with(shelf)(record)
        place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        put(by="prices.replays", message="too large", **place)

    shelf.after_write = fail

    result = aiopype("replay", put(), "--wait", "5")

    assert "failed again: OSError: too large" in result.output


def test_with_wait_what_no_worker_has_done_in_time_is_told(aiopype, put):
    name = put()

    result = aiopype("replay", name, "--wait", "0")

    assert result.exit_code == 1
    assert f"{name}  not done yet: it runs when a worker of the flow does" in result.output


def test_a_dry_run_waits_for_nothing(aiopype, put):
    result = aiopype("replay", put(), "--dry-run", "--wait", "100")

    assert result.exit_code == 0


# --- discard


def test_a_letter_is_discarded(aiopype, put, requests):
    name = put()

    result = aiopype("discard", name)

    assert result.exit_code == 0
    assert result.output == f"{name}  discarded\n1 discarded, 0 refused\n"
    ((_, _, request),) = requests()
    assert (request.do, request.letter) == ("discard", None)


def test_a_letter_that_cannot_run_again_is_discarded(aiopype, put):
    assert aiopype("discard", put(subscription=None)).exit_code == 0


# --- the flow


FLOW = """
from aiopype import AsyncFlow, Flow, Manager

class Config:
    FLOWS = ["{name}"]

class Prices(Manager):
    name = "{name}"

dataflow = {cls}(Config())
"""


@pytest.fixture
def flow(tmp_path, monkeypatch):
    """Writes a flow of this class into an empty folder, which is the current one."""

    def write(cls):
        monkeypatch.chdir(tmp_path)
        # Classes of other tests may live on.
        (tmp_path / "prices_flow.py").write_text(FLOW.format(cls=cls, name=tmp_path.name))
        return "prices_flow.py"

    return write


def test_without_a_broker_none_is_started(aiopype, flow, tmp_path):
    result = aiopype("list", flow("AsyncFlow"))

    assert result.exit_code == 1
    assert "no broker is configured, and none runs in" in result.output
    assert not (tmp_path / ".aiopype").exists()


def test_the_running_embedded_broker_is_found(flow, monkeypatch, tmp_path):
    monkeypatch.setattr("aiopype.broker.find", lambda folder: f"found:{folder.name}")

    connection = flows.connection_to(flow("AsyncFlow"), None)

    assert connection.brokers == "found:kafka"
    assert (connection.group, connection.managers) == ("prices_flow", (tmp_path.name,))


def test_a_configured_broker_is_taken(flow):
    assert flows.connection_to(flow("AsyncFlow"), "b:2").brokers == "b:2"


def test_a_flow_in_process_has_no_letters(aiopype, flow):
    result = aiopype("list", flow("Flow"))

    assert result.exit_code == 1
    assert "runs in process" in result.output


def test_a_flow_must_be_named(aiopype, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIOPYPE_FLOW", raising=False)

    result = aiopype("list")

    assert result.exit_code == 2
    assert "no flow is named" in result.output
