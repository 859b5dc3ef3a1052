"""Which kind of filesystem a path lies on, by statfs(2): what can be trusted there depends on it.

Numbers from statfs(2) and linux/magic.h.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KINDS: Final[Mapping[int, str]] = {
    0x6969: "nfs",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x517B: "smb",
    0x65735546: "fuse",
    0x01021997: "9p",
    0x00C36400: "ceph",
    0x4D44: "vfat",
    0x2011BAB0: "exfat",
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x2FC12FC1: "zfs",
    0x01021994: "tmpfs",
    0x794C7630: "overlay",
}
NETWORK: Final = frozenset({"nfs", "cifs", "smb2", "smb", "fuse", "9p", "ceph"})
"""Changes made elsewhere give no events; leases and locks cannot be trusted."""

WITHOUT_INODES: Final = NETWORK | {"vfat", "exfat"}
"""Inode numbers mean nothing there."""

_libc = ctypes.CDLL(None, use_errno=True)


def filesystem(path: Path | bytes) -> str:
    """Return the kind of filesystem, as a word or a hexadecimal number.

    Raises:
        OSError: the path cannot be asked.

    """
    room = ctypes.create_string_buffer(256)  # struct statfs is 120 bytes on 64-bit Linux
    if _libc.statfs(os.fsencode(path), room) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(path))
    magic = ctypes.c_long.from_buffer(room).value & 0xFFFFFFFF
    return KINDS.get(magic, hex(magic))
