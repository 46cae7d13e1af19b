import os
import weakref

import pytest

from aiopype.sources.open_file import FilePosition, OpenFile, find_renamed


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "data.log"
    path.write_bytes(b"1\n2\n")
    return path


def test_it_is_read_from_any_offset(path):
    file = OpenFile(path)

    assert (file.read(2, 1), file.read(2, 9), file.read(9, 9)) == (b"2", b"2\n", b"")


def test_it_is_the_same_under_another_name_or_none(path):
    file = OpenFile(path)
    path.unlink()

    assert (file.read(0, 9), file.size) == (b"1\n2\n", 4)


def test_it_shows_that_somebody_has_written_to_it(path):
    file = OpenFile(path)
    before = file.mark()
    assert file.mark() == before

    with path.open("ab") as other:
        other.write(b"3\n")

    assert file.mark() != before


@pytest.mark.parametrize(("data", "begin"), [(b"\xef\xbb\xbf1", 3), (b"1", 0), (b"", 0)])
def test_the_text_begins_behind_a_byte_order_mark(path, data, begin):
    path.write_bytes(data)

    assert OpenFile(path).begin == begin


def test_a_position_knows_as_much_of_the_file_as_is_done_at_most(path):
    path.write_bytes(b"x" * 2_000)
    file = OpenFile(path)

    first = file.position(FilePosition(), 4)
    second = file.position(first, 2_000)

    assert (first.offset, first.head_bytes, first.inode) == (4, 4, path.stat().st_ino)
    assert second.head_bytes == 1_024
    assert file.position(second, 2_000) == second


@pytest.mark.parametrize(
    ("data", "goes_on"),
    [
        (b"1\n2\n", True),
        (b"1\n2\n3\n", True),
        (b"1\n", False),
        (b"1\n3\n", False),
        (b"", False),
    ],
)
def test_a_file_goes_on_from_a_position_if_it_has_what_was_done(path, data, goes_on):
    at = OpenFile(path).position(FilePosition(), 4)
    path.write_bytes(data)

    assert OpenFile(path).goes_on_from(at) is goes_on


def test_every_file_goes_on_from_the_beginning(path):
    assert OpenFile(path).goes_on_from(FilePosition())


def test_a_renamed_file_is_found_by_what_it_is_and_what_it_has(path, tmp_path):
    at = OpenFile(path).position(FilePosition(), 4)
    (tmp_path / "copy").write_bytes(path.read_bytes())
    renamed = path.rename(tmp_path / "data.log.1")

    found = find_renamed(tmp_path, at)
    assert found is not None
    assert found.path == renamed

    renamed.write_bytes(b"other")  # the same inode
    assert find_renamed(tmp_path, at) is None


def test_in_a_folder_that_is_not_there_nothing_is_found(path, tmp_path):
    assert find_renamed(tmp_path / "nowhere", FilePosition(inode=1)) is None


def test_it_is_closed_when_nobody_refers_to_it_any_more(path):
    file = OpenFile(path)
    gone, number = weakref.ref(file), file._number
    os.fstat(number)

    del file

    assert gone() is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
