"""What a watched directory is: which one, on what kind of file system, and what that allows.

Two identities. `live` tells within one run of the daemon that the path leads to another directory
than before: device, inode, time of birth and the number of the mount, which the kernel never gives
twice. `mark` is what of it survives a reboot; the ledger's rows belong to the mark under which they
were written, so that the empty directory below an unmounted disk makes nobody vanish.

The kernel's lease and its notifications are exact where all writers are on this machine. On network
and user-space file systems they are blind to the others: there we scan and wait longer.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

libc: Final = ctypes.CDLL(None, use_errno=True)


class Filesystem(NamedTuple):
    """What may be relied on. `settle` is in seconds, for settle = "auto"."""

    name: str = "local"
    shared: bool = False  # others write without this kernel's knowledge: no events, no lease
    inodes_count: bool = True  # an inode number stays with its file
    settle: float = 1.0


LOCAL: Final = Filesystem()
KINDS: Final[Mapping[int, Filesystem]] = {
    0x6969: Filesystem("NFS", shared=True, inodes_count=False, settle=5.0),
    0x517B: Filesystem("SMB", shared=True, inodes_count=False, settle=10.0),
    0xFF534D42: Filesystem("SMB", shared=True, inodes_count=False, settle=10.0),
    0xFE534D42: Filesystem("SMB", shared=True, inodes_count=False, settle=10.0),
    0x65735546: Filesystem("FUSE", shared=True, inodes_count=False, settle=10.0),
    0x01021997: Filesystem("9p", shared=True, inodes_count=False, settle=10.0),
    0x00C36400: Filesystem("ceph", shared=True, settle=5.0),
    0x5346414F: Filesystem("AFS", shared=True, inodes_count=False, settle=10.0),
    0x0BD00BD0: Filesystem("Lustre", shared=True, settle=5.0),
    0x01161970: Filesystem("GFS2", shared=True, settle=5.0),
    0x7461636F: Filesystem("OCFS2", shared=True, settle=5.0),
    0x786F4256: Filesystem("vboxsf", shared=True, inodes_count=False, settle=10.0),
    0x4D44: Filesystem("FAT", inodes_count=False),
    0x2011BAB0: Filesystem("exFAT", inodes_count=False),
}
UNSTEADY: Final = frozenset({0x794C7630})
"""Overlay: a directory may change its number with a remount, so the mark leaves it out."""


@dataclass(frozen=True, slots=True)
class Settle:
    """How long a file must stay unchanged. `asked` in seconds; None is "auto"."""

    asked: float | None = None

    def seconds(self, filesystem: Filesystem, *, empty: bool, lease_tells: bool) -> float:
        wait = filesystem.settle if self.asked is None else self.asked
        if empty or not lease_tells:
            return max(wait, UNTOLD)
        return max(wait, TICK)


UNTOLD: Final = 2.0
"""Seconds, at least, for an empty file and where the lease cannot tell."""

TICK: Final = 0.01
"""Seconds: time stamps may be that coarse, so less cannot show a change."""


class Live(NamedTuple):
    device: tuple[int, int]
    inode: int
    born_ns: int
    mount: int


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a root that is there and can be read."""

    live: Live
    mark: str
    filesystem: Filesystem


def look(root: bytes) -> Look:
    """Look at a root. Blocking.

    Raises:
        OSError: it is not there, not a directory, or may not be read.

    """
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        live, magic = statx(fd), filesystem_magic(fd)
    finally:
        os.close(fd)
    filesystem = KINDS.get(magic, LOCAL)
    steady = filesystem.inodes_count and magic not in UNSTEADY
    mark = f"{magic:x}:{live.inode}:{live.born_ns}" if steady else f"{magic:x}"
    return Look(live, mark, filesystem)


def filesystem_of(fd: int) -> Filesystem:
    return KINDS.get(filesystem_magic(fd), LOCAL)


def filesystem_magic(fd: int) -> int:
    """Return the f_type of fstatfs(2), the first word of its answer."""
    answer = (ctypes.c_long * 64)()
    if libc.fstatfs(fd, ctypes.byref(answer)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(answer[0]) & 0xFFFFFFFF


STATX_WANTED: Final = 0x7FF | 0x800 | 0x1000 | 0x4000  # basics, birth, mount id, the unique one
AT_EMPTY_PATH: Final = 0x1000
STATX_BORN: Final = struct.Struct("=qI")
STATX_DEVICE: Final = struct.Struct("=IIQ")


def statx(fd: int) -> Live:
    """Ask the one call that knows birth and mount; Python has no name for it."""
    answer = ctypes.create_string_buffer(256)
    if libc.statx(fd, b"", AT_EMPTY_PATH, STATX_WANTED, answer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    mask = struct.unpack_from("=I", answer, 0)[0]
    inode = struct.unpack_from("=Q", answer, 32)[0]
    seconds, nanoseconds = STATX_BORN.unpack_from(answer, 80)
    born = seconds * 10**9 + nanoseconds if mask & 0x800 else 0
    major, minor, mount = STATX_DEVICE.unpack_from(answer, 136)
    return Live((major, minor), inode, born, mount if mask & 0x5000 else 0)


def trouble(error: OSError) -> str:
    """Say in words why a root cannot be looked at."""
    words = {
        errno.ENOENT: "missing",
        errno.ENOTDIR: "not a directory",
        errno.ELOOP: "replaced by a symbolic link",
        errno.EACCES: "unreadable: permission denied",
    }
    return words.get(error.errno or 0) or f"unreadable: {error.strerror or error}"
