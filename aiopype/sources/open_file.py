"""An open file, known again by what it begins with. All of it blocks."""

from __future__ import annotations

import codecs
import hashlib
import os
import weakref
from pathlib import Path

import msgspec

__all__ = ["FilePosition", "OpenFile", "find_renamed"]

#: From so many of its first bytes a file is known again.
HEAD_BYTES = 1_024


class FilePosition(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a source is, and in which file: a name can pass to another one.

    Attributes:
        offset: bytes of the file that are done.
        is_in_long: whether they end within a line that is too long and passed over.
        inode: of the file; 0 when none was read yet.
        head: a digest of the first `head_bytes` bytes of the file.
        head_bytes: how many those are; never more than are done.
    """

    offset: int = 0
    is_in_long: bool = False
    inode: int = 0
    head: str = ""
    head_bytes: int = 0


class OpenFile:
    """A file that stays open when it is renamed or deleted.

    It is closed when nobody refers to it any more: a thread that still reads when its source was
    cancelled must not find its number taken by another file.

    Raises:
        OSError: in every method, when it cannot be opened or read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._number)
        self.inode = os.fstat(self._number).st_ino

    @property
    def size(self) -> int:
        """How many bytes it has now."""
        return os.fstat(self._number).st_size

    @property
    def begin(self) -> int:
        """Where the text begins: spreadsheets put a byte order mark in front."""
        mark = codecs.BOM_UTF8
        return len(mark) if self.read(0, len(mark)) == mark else 0

    def mark(self) -> object:
        """Return what changes when somebody has written to it."""
        found = os.fstat(self._number)
        return found.st_size, found.st_mtime_ns

    def read(self, offset: int, size: int) -> bytes:
        """Return so many bytes from an offset on; fewer at the end."""
        return os.pread(self._number, size, offset)

    def position(
        self, before: FilePosition, offset: int, *, is_in_long: bool = False
    ) -> FilePosition:
        """Return the position at an offset that comes after another position in this file."""
        head, head_bytes = before.head, before.head_bytes
        if head_bytes < HEAD_BYTES:
            head_bytes = min(offset, HEAD_BYTES)
            head = self._digest(head_bytes)
        return FilePosition(offset, is_in_long, self.inode, head, head_bytes)

    def goes_on_from(self, at: FilePosition) -> bool:
        """Say whether it has what was done up to a position."""
        return self.size >= at.offset and (not at.head or self._digest(at.head_bytes) == at.head)

    def _digest(self, size: int) -> str:
        return hashlib.blake2b(self.read(0, size), digest_size=8).hexdigest()


def find_renamed(folder: Path, at: FilePosition) -> OpenFile | None:
    """Return the file of a position, whatever its name is now; None if it is not in the folder."""
    try:
        with os.scandir(folder) as entries:
            paths = [Path(e) for e in entries if e.inode() == at.inode and e.is_file()]
        files = [OpenFile(path) for path in paths]
    except OSError:
        return None
    return next((file for file in files if file.goes_on_from(at)), None)
