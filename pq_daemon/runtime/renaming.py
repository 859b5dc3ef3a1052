"""Renames that never overwrite: two writers of one name, and both files live.

renameat2(RENAME_NOREPLACE) where the filesystem has it, else a hard link and an unlink. Where
neither exists the rename is refused: it would not be safe.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

_AT_FDCWD: Final = -100
_NOREPLACE: Final = 1
_WITHOUT_IT: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

_libc = ctypes.CDLL(None, use_errno=True)


def rename_new(source: bytes, target: bytes) -> None:
    """Rename to a name that is free.

    Raises:
        FileExistsError: the name is taken; nothing has changed.
        OSError: it cannot be done, EXDEV for another filesystem among the reasons.

    """
    if _libc.renameat2(_AT_FDCWD, source, _AT_FDCWD, target, _NOREPLACE) == 0:
        return
    number = ctypes.get_errno()
    if number not in _WITHOUT_IT:
        raise OSError(number, os.strerror(number), source, None, target)
    os.link(source, target, follow_symlinks=False)
    os.unlink(source)  # noqa: PTH108 - names are bytes


def numbered(name: bytes, number: int) -> bytes:
    """Return `report-2.pdf` for `report.pdf`; 1 is the name itself. Fits into 255 bytes."""
    if number == 1:
        return name
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - names are bytes
    mark = b"-%d" % number
    if len(suffix) > 255 - len(mark) - 1:
        stem, suffix = name, b""
    return stem[: 255 - len(mark) - len(suffix)] + mark + suffix


def sync_directory(directory: bytes) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
