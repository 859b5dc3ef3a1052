"""What makes a file on disk a new version of itself.

Identity is (inode, size, mtime, ctime) of a path. ctime alone also changes on chmod, link and
rename-back, and uploaders set mtime late: there the content decides. Inode numbers are reused at
once on ext4 and mean nothing on FAT, SMB, FUSE and NFS: there they are left out. The device is
left out everywhere, it may change over a reboot.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple


class Identity(NamedTuple):
    """One look at a file. Times in nanoseconds."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def same_file(self, other: Identity, *, inodes_count: bool = True) -> bool:
        """Path, inode, size and mtime agree: nobody wrote to it in between."""
        return (
            self.size == other.size
            and self.mtime_ns == other.mtime_ns
            and (not inodes_count or self.inode == other.inode)
        )


class Verdict(Enum):
    """What to do about a file that was looked at."""

    KNOWN = auto()  # nothing has changed at all
    HASH = auto()  # something has: only the content can tell
    NEW = auto()  # never accepted, or gone since: a new version


def compare(
    accepted: Identity | None, found: Identity, *, gone: bool, inodes_count: bool
) -> Verdict:
    """Compare what was accepted with what is there now.

    `gone`: the accepted version was moved away by us, or seen gone while its root was unchanged.
    """
    if accepted is None or gone:
        return Verdict.NEW
    if accepted.same_file(found, inodes_count=inodes_count) and accepted.ctime_ns == found.ctime_ns:
        return Verdict.KNOWN
    return Verdict.HASH
