import os
import tracemalloc

import msgspec
import pytest

from aiopype.errors import SourceError
from aiopype.sources import following
from aiopype.sources.following import Follower
from aiopype.sources.lines import Csv, JsonLines
from aiopype.sources.open_file import FilePosition, OpenFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.log"


@pytest.fixture
def append(path):
    """Adds bytes to the file."""

    def write(data, to=None):
        with (to or path).open("ab") as file:
            file.write(data)

    return write


class Reading:
    """Reads on with a new follower.

    Attributes:
        at: where it is.
        read: the bytes of what was whole.
        rejected: what was not.
        told: what happened to the file.
        steps: how many there were.
        is_over: whether the last one was.
    """

    def __init__(self, path, form, at=None, **options):
        options = {"follow": True, "start_again": True, "most_bytes": 1_000_000} | options
        self.follower = Follower(path, form, most_records=100, **options)
        self.at = at or FilePosition()
        self.read, self.rejected, self.told = [], [], []
        self.steps = 0
        self.is_over = False

    def step(self):
        """Take one step; say whether it leads anywhere."""
        step = self.follower.step(self.at)
        self.steps += 1
        if step.chunk is not None:
            (self.read if step.chunk.kind == "chunk" else self.rejected).append(step.chunk)
        if step.told:
            self.told.append((step.told, step.is_trouble))
        moved = step.position != self.at
        # As it is stored: nothing of it may be in the follower only.
        self.at = msgspec.json.decode(msgspec.json.encode(step.position), type=FilePosition)
        self.is_over = step.is_over
        return moved

    def look(self, times=3):
        """Go on until so many steps lead nowhere, or it is over."""
        while times and not self.is_over:
            times -= not self.step()
        return self

    @property
    def data(self):
        return b"".join(chunk.data for chunk in self.read)


@pytest.fixture
def reading(path):
    """Makes a `Reading` of the file."""
    return lambda form=None, at=None, **options: Reading(path, form or JsonLines(), at, **options)


# --- a file that grows


def test_what_is_there_is_read_and_then_what_is_added(reading, append):
    append(b"1\n2\n")
    one = reading().look()
    assert one.data == b"1\n2\n"

    append(b"3\n")

    assert one.look().data == b"1\n2\n3\n"
    assert [chunk.meta["offset"] for chunk in one.read] == [0, 4]
    assert [chunk.records for chunk in one.read] == [2, 1]


def test_a_half_written_line_waits_for_its_newline(reading, append):
    append(b"1\n2")
    one = reading().look()
    assert one.data == b"1\n"

    append(b"2")
    assert one.look().data == b"1\n"
    append(b"\n")

    assert one.look().data == b"1\n22\n"


def test_a_file_that_has_nothing_new_is_not_read(reading, append, monkeypatch):
    append(b"1\n2")
    one = reading().look()
    reads = []
    monkeypatch.setattr(OpenFile, "read", lambda *arguments: reads.append(arguments))

    one.look()

    assert reads == []


def test_a_chunk_has_so_many_records_at_most(reading, append):
    append(b"1\n" * 250)

    assert [chunk.records for chunk in reading().look().read] == [100, 100, 50]


def test_another_reader_goes_on_from_the_position(reading, append):
    append(b"1\n2\n")
    at = reading().look().at
    append(b"3\n")

    assert reading(at=at).look().data == b"3\n"


def test_without_following_it_is_over_at_the_end_and_the_last_line_counts(reading, append):
    append(b"1\n2")
    one = reading(follow=False).look()

    assert (one.data, one.is_over, one.at.offset) == (b"1\n2\n", True, 3)
    assert reading(at=one.at, follow=False).look().data == b""


def test_a_byte_order_mark_is_no_part_of_the_text(reading, append):
    append(b"\xef\xbb\xbf1\n")

    assert reading().look().data == b"1\n"


# --- records that are too long, or never end


def test_a_line_that_does_not_fit_is_rejected_with_its_beginning_and_the_next_one_counts(
    reading, append, monkeypatch
):
    monkeypatch.setattr(following, "CHUNK_BYTES", 10)
    append(b"1\n" + b"x" * 55 + b"\n2\n")

    one = reading(most_bytes=20).look()

    assert one.data == b"1\n2\n"
    ((kind, data, records, meta),) = one.rejected
    assert (kind, data, records, meta["offset"]) == ("line", b"x" * 20, 1, 2)
    assert "within 20 bytes" in meta["error"]


def test_a_long_line_is_rejected_once_also_when_another_goes_on_in_it(reading, append, monkeypatch):
    monkeypatch.setattr(following, "CHUNK_BYTES", 10)
    append(b"x" * 25)
    one = reading(most_bytes=20).look()
    assert len(one.rejected) == 1

    append(b"x" * 30 + b"\n2\n")

    other = reading(at=one.at, most_bytes=20).look()
    assert (other.rejected, other.data) == ([], b"2\n")


def test_a_line_of_any_length_takes_no_more_memory(reading, path):
    with path.open("wb") as file:
        file.truncate(1 << 28)  # a hole; no byte of it is a newline
        file.seek(0, os.SEEK_END)
        file.write(b"\n1\n")
    one = reading()
    tracemalloc.start()
    try:
        one.look()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (one.data, len(one.rejected)) == (b"1\n", 1)
    assert most < 4_000_000


@pytest.mark.parametrize("follow", [True, False])
def test_of_a_row_whose_quote_is_not_closed_only_the_first_line_is_rejected(
    reading, append, monkeypatch, follow
):
    monkeypatch.setattr(following, "CHUNK_BYTES", 10)
    append(b'a,b\n1,"x\n' + b"3,4\n" * 5)

    one = reading(Csv(), most_bytes=20, follow=follow).look()

    assert [chunk.data for chunk in one.rejected] == [b'1,"x\n']
    assert one.data == b"3,4\n" * 5


# --- the header


def test_each_chunk_has_the_header_and_rows_only(reading, append):
    append(b"\xef\xbb\xbfa,b\n1,2\n")
    one = reading(Csv()).look()

    append(b"3,4\n")

    one = reading(Csv(), at=one.at).look()
    (chunk,) = one.read
    assert (chunk.data, chunk.meta) == (b"3,4\n", {"offset": 11, "header": ["a", "b"]})


def test_rows_wait_for_a_header_that_is_not_whole(reading, append):
    append(b'a,"b')
    one = reading(Csv()).look()
    assert one.read == []

    append(b'"\n1,2\n')

    assert one.look().data == b"1,2\n"


def test_a_header_alone_is_no_record(reading, append):
    append(b"a,b")

    one = reading(Csv(), follow=False).look()

    assert (one.read, one.rejected, one.is_over) == ([], [], True)


def test_an_empty_file_is_over_without_a_header(reading, append):
    append(b"")

    assert reading(Csv(), follow=False).look().is_over


@pytest.mark.parametrize("data", [b"a,a\n", b'"' + b"x" * 30], ids=["twice", "endless"])
def test_a_file_whose_header_cannot_be_read_is_an_error(reading, append, monkeypatch, data):
    monkeypatch.setattr(following, "CHUNK_BYTES", 10)
    append(data)

    with pytest.raises(SourceError, match=r"data\.log: "):
        reading(Csv(), most_bytes=20).look()


# --- a file that is not there


def test_a_file_that_does_not_exist_is_waited_for_and_told_once(reading, append):
    one = reading().look(5)
    assert len(one.told) == 1
    assert "does not exist" in one.told[0][0]

    append(b"1\n")

    assert one.look().data == b"1\n"


def test_a_file_that_does_not_exist_and_is_not_followed_is_an_error(reading):
    with pytest.raises(SourceError, match="does not exist; correct the path"):
        reading(follow=False).step()


def test_a_folder_or_pipe_is_an_error(reading, path):
    os.mkfifo(path)

    with pytest.raises(SourceError, match="no regular file"):
        reading().step()


# --- a file that is truncated


def test_a_truncated_file_is_read_from_its_start(reading, append, path):
    append(b"1\n2\n")
    one = reading().look()

    path.write_bytes(b"3\n")

    assert one.look().data == b"1\n2\n3\n"
    ((told, is_trouble),) = one.told
    assert "was truncated or written anew: 4 bytes of what it held were done, and now it has 2" in (
        told
    )
    assert is_trouble


def test_a_file_that_was_written_anew_and_is_longer_now_is_read_from_its_start(
    reading, append, path
):
    append(b"1\n")
    one = reading().look()

    path.write_bytes(b"2\n3\n4\n")

    assert one.look().data == b"1\n2\n3\n4\n"


def test_a_file_that_was_truncated_while_nobody_read_it_is_read_from_its_start(
    reading, append, path
):
    append(b"1\n2\n")
    at = reading().look().at
    path.write_bytes(b"3\n")

    assert reading(at=at).look().data == b"3\n"


def test_with_another_header_the_rows_of_a_truncated_file_have_that_one(reading, append, path):
    append(b"a,b\n1,2\n")
    one = reading(Csv()).look()

    path.write_bytes(b"c\n3\n")

    assert one.look().read[-1].meta["header"] == ["c"]


def test_truncation_may_be_an_error(reading, append, path):
    append(b"1\n2\n")
    one = reading(start_again=False).look()
    path.write_bytes(b"3\n")

    with pytest.raises(SourceError, match="put it back, or set on_truncation='start_again'"):
        one.look()
    with pytest.raises(SourceError, match="was truncated"):
        reading(at=one.at, start_again=False).look()


# --- a file that gives its name to another


def test_a_renamed_file_is_read_to_its_end_before_the_next_one(reading, append, path, tmp_path):
    append(b"1\n")
    one = reading().look()
    renamed = path.rename(tmp_path / "data.log.1")
    append(b"2\n", to=renamed)
    append(b"a\n")

    one.look(1)
    append(b"3", to=renamed)  # the last line, for good

    assert one.look().data == b"1\n2\n3\na\n"
    ((told, is_trouble),) = one.told
    assert "data.log is another file now" in told
    assert not is_trouble


def test_a_file_that_was_replaced_is_left_only_when_it_had_nothing_new_for_a_while(
    reading, append, path, tmp_path
):
    append(b"1\n")
    one = reading().look()
    renamed = path.rename(tmp_path / "data.log.1")
    append(b"a\n")

    for _ in range(3):
        one.step()
        append(b"2\n", to=renamed)
        one.step()

    assert one.data == b"1\n2\n2\n2\n"


def test_a_renamed_file_is_followed_as_long_as_there_is_no_other(reading, append, path, tmp_path):
    append(b"1\n")
    one = reading().look()
    renamed = path.rename(tmp_path / "data.log.1")
    one.look()

    append(b"2\n", to=renamed)

    assert one.look().data == b"1\n2\n"


def test_a_deleted_file_that_is_open_is_read_to_its_end(reading, append, path):
    append(b"1\n")
    one = reading().look()
    append(b"2\n")
    path.unlink()
    append(b"a\n")

    assert one.look().data == b"1\n2\na\n"


def test_a_file_that_was_renamed_while_nobody_read_it_is_found(reading, append, path, tmp_path):
    append(b"1\n")
    at = reading().look().at
    append(b"2\n")
    path.rename(tmp_path / "data.log.1")
    append(b"a\n")

    one = reading(at=at).look()

    assert one.data == b"2\na\n"
    assert "data.log.1 now; its rest is read first" in one.told[0][0]
    assert not any(is_trouble for _, is_trouble in one.told)


def test_without_following_the_rest_of_a_renamed_file_comes_before_the_new_one(
    reading, append, path, tmp_path
):
    append(b"1\n")
    at = reading().look().at
    append(b"2")
    path.rename(tmp_path / "data.log.1")
    append(b"a")

    assert reading(at=at, follow=False).look(9).data == b"2\na\n"


def test_rows_of_the_new_file_are_under_its_own_header(reading, append, path, tmp_path):
    append(b"a\n1\n")
    one = reading(Csv()).look()
    path.rename(tmp_path / "data.log.1")
    append(b"b\n2\n")

    assert [c.meta["header"] for c in one.look().read] == [["a"], ["b"]]


def test_another_file_in_place_of_one_that_is_gone_is_read_from_its_start_and_told(
    reading, append, path
):
    append(b"1\n2\n")
    at = reading().look().at
    other = path.with_suffix(".new")
    append(b"a\nb\n", to=other)
    other.replace(path)

    one = reading(at=at).look()

    assert one.data == b"a\nb\n"
    ((told, is_trouble),) = one.told
    assert "behind byte 4 was not read" in told
    assert is_trouble


def test_a_copy_of_the_file_is_gone_on_with(reading, append, path, tmp_path):
    """As on another machine: it has another inode."""
    append(b"1\n")
    at = reading().look().at
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    (copy / "data.log").write_bytes(b"1\n2\n")

    assert Reading(copy / "data.log", JsonLines(), at).look().data == b"2\n"


def test_a_file_with_the_inode_of_another_one_is_not_taken_for_it(reading, append, path):
    append(b"x" * 2_000 + b"\n")
    at = reading().look().at
    path.write_bytes(b"y" * 2_000 + b"\n2\n")  # the same inode

    assert reading(at=at).look().data == b"y" * 2_000 + b"\n2\n"
