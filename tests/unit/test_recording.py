import json
import os

import pytest

from aiopype import recording
from aiopype.errors import RecordingError
from aiopype.inputs import RawInput
from aiopype.recording import Recording, RecordingWriter


@pytest.fixture
def path(tmp_path):
    return tmp_path / "recording.jsonl"


@pytest.fixture
def write(path):
    """Writes a recording of these inputs, each a source's name and what it got."""

    def make(*inputs, flow="prices"):
        with RecordingWriter(path, flow, 1_000.5) as writer:
            for source, raw in inputs:
                writer.write(source, raw)
        return path

    return make


def frame(data=b"{}", at=1.0, **meta):
    return RawInput("frame", data, at, meta)


def read(path):
    with Recording(path) as found:
        return list(found.inputs())


# --- writing and reading


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"price": 1.5}',
        "Grüße, \u2028 und 🎉".encode(),
        b"two\nlines\r\n",
        b"\x00\x1f\x7f",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        bytes(range(256)),
    ],
)
def test_bytes_come_back_as_they_were(write, data):
    path = write(("prices.feed", frame(data)))

    assert read(path) == [("prices.feed", frame(data))]


def test_inputs_come_back_in_order_with_all_they_had(write):
    inputs = [
        ("prices.a", RawInput("response", b"1", 1767225600.123456, {"status": 200, "none": None})),
        ("prices.b", RawInput("tick", b"2", 0.1 + 0.2)),
        ("prices.a", RawInput("response", b"3", -1.0, {"deep": [{"er": 1.5}]})),
    ]

    assert read(write(*inputs)) == inputs


def test_text_can_be_read_by_a_person_and_by_any_json_tool(write):
    path = write(("prices.feed", frame(b"hello", page=2)))

    head, line = path.read_text().splitlines()
    assert json.loads(line) == {
        "at": 1.0, "source": "prices.feed", "kind": "frame", "data": "hello", "meta": {"page": 2},
    }  # fmt: skip
    assert json.loads(head)["aiopype_recording"] == 1


def test_a_recording_says_what_it_is_of(write):
    with Recording(write(("prices.b", frame(at=7.0)), ("prices.a", frame()))) as found:
        assert (found.flow, found.at, found.first_at) == ("prices", 1_000.5, 7.0)
        assert found.sources == ["prices.b", "prices.a"]
        assert len(found) == 2


def test_no_two_recordings_have_the_same_id(tmp_path):
    ids = set()
    for number in range(2):
        path = tmp_path / f"{number}.jsonl"
        RecordingWriter(path, "prices", 0.0).close()
        with Recording(path) as found:
            ids.add(found.id)

    assert len(ids) == 2


def test_the_inputs_of_a_source_are_read_by_their_places(write):
    path = write(*[(f"prices.{'ab'[n % 2]}", frame(at=float(n))) for n in range(6)])

    with Recording(path) as found:
        places = found.places("prices.b")
        assert list(places) == [1, 3, 5]
        assert [found.read(place).at for place in reversed(places)] == [5.0, 3.0, 1.0]
        assert list(found.places("prices.c")) == []


def test_a_recording_without_inputs_is_one(write):
    with Recording(write()) as found:
        assert list(found.inputs()) == []
        assert found.first_at == found.at


def test_an_input_is_in_the_file_as_soon_as_it_is_written(path):
    with RecordingWriter(path, "prices", 0.0) as writer:
        for count in range(1, 4):
            writer.write("prices.feed", frame())
            assert len(read(path)) == count


def test_an_existing_file_is_left_alone(path):
    path.write_text("precious")

    with pytest.raises(RecordingError, match="exists already; name another file"):
        RecordingWriter(path, "prices", 0.0)

    assert path.read_text() == "precious"


def test_a_file_that_cannot_be_written_is_said_so(tmp_path):
    with pytest.raises(RecordingError, match=r"writing .*no_folder"):
        RecordingWriter(tmp_path / "no_folder" / "a.jsonl", "prices", 0.0)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")  # noqa: PTH110
def test_a_full_disk_is_an_error_once_and_again(path):
    with RecordingWriter(path, "prices", 0.0) as writer:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, writer._file.fileno())
        os.close(full)

        for _ in range(2):
            with pytest.raises(RecordingError, match="No space left"):
                writer.write("prices.feed", frame())


def test_an_input_that_is_too_long_is_refused_and_the_recording_goes_on(path, monkeypatch):
    monkeypatch.setattr(recording, "LINE_BYTES", 1_000)
    with RecordingWriter(path, "prices", 0.0) as writer:
        with pytest.raises(RecordingError, match=r"a frame of 'prices.feed' .* takes 1,000"):
            writer.write("prices.feed", frame(b"x" * 1_000))
        writer.write("prices.feed", frame())

    assert read(path) == [("prices.feed", frame())]


# --- files that are not as they should be


def test_what_was_cut_off_within_a_line_is_read_up_to_the_line_before(write, caplog):
    path = write(("prices.feed", frame(b"1")), ("prices.feed", frame(b"2")))
    whole = path.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1

    for end in range(last + 1, len(whole)):
        path.write_bytes(whole[:end])
        assert read(path) == [("prices.feed", frame(b"1"))]

    assert "ends within line 3, which is left out" in caplog.text


def test_what_was_cut_off_between_two_lines_is_whole(write, caplog):
    path = write(("prices.feed", frame(b"1")), ("prices.feed", frame(b"2")))
    whole = path.read_bytes()
    path.write_bytes(whole[: whole[:-1].rindex(b"\n") + 1])

    assert read(path) == [("prices.feed", frame(b"1"))]
    assert caplog.text == ""


@pytest.mark.parametrize(
    "text",
    ["", "\n", "{}\n", "no json\n", '{"aiopype_recording": "one"}\n', '{"aiopype_recording": 1}\n',
     '{"aiopype_recording": 1, "id": "a", "flow": "f", "at": 1}', "\udcff\n"],
)  # fmt: skip
def test_what_is_no_recording_is_refused(path, text):
    path.write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(RecordingError, match="is no recording"):
        Recording(path)


def test_a_version_that_is_not_known_is_refused(path):
    path.write_text('{"aiopype_recording": 2, "all": "else", "is": "different"}\n')

    with pytest.raises(RecordingError, match="of version 2, and this aiopype reads version 1"):
        Recording(path)


def test_a_missing_file_is_said_so(path):
    with pytest.raises(RecordingError, match="No such file"):
        Recording(path)


def test_a_folder_is_said_so(tmp_path):
    with pytest.raises(RecordingError, match="Is a directory"):
        Recording(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "garbage",
        "[]",
        '{"at": 1, "source": "a.b", "kind": "frame"}',
        '{"at": 1, "source": "a.b", "kind": "frame", "data": "", "base64": ""}',
        '{"at": 1, "source": "a.b", "kind": "frame", "base64": "???"}',
        '{"at": null, "source": "a.b", "kind": "frame", "data": ""}',
        '{"source": "a.b", "kind": "frame", "data": ""}',
        '{"at": 1, "source": "a.b", "kind": "frame", "data": "", "meta": []}',
    ],
)
def test_a_line_that_is_no_input_is_refused_with_its_number(write, line):
    path = write(("prices.feed", frame()), ("prices.feed", frame()))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n")

    with pytest.raises(RecordingError, match="line 3 "):
        Recording(path)


def test_members_that_are_not_known_and_empty_lines_are_passed_over(write):
    path = write(("prices.feed", frame(b"1")), ("prices.feed", frame(b"2")))
    head, first, second = path.read_text().splitlines()
    first = json.dumps(json.loads(first) | {"later": {"version": 3}})
    path.write_text(f"{head}\n\n{first}\n  \n{second}\n")

    assert read(path) == [("prices.feed", frame(b"1")), ("prices.feed", frame(b"2"))]


def test_a_line_without_an_end_is_not_read_into_memory(write, monkeypatch):
    path = write(("prices.feed", frame(b"x" * 2_000)))
    monkeypatch.setattr(recording, "LINE_BYTES", 1_000)

    with pytest.raises(RecordingError, match="line 2 is longer than 1,000 bytes"):
        Recording(path)


def test_a_file_that_has_become_another_is_noticed(write):
    path = write(("prices.feed", frame()))
    with Recording(path) as found:
        path.write_bytes(b"x" * 500)

        with pytest.raises(RecordingError, match="input 1 is no input"):
            found.read(0)
