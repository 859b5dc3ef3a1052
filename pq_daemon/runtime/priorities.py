"""How gentle a process group is to others: its nice value, and its turn at the disk.

Set from outside right after the start, so that nothing runs between fork and exec; what it starts
later inherits it. Both are only ever made gentler, which needs no right.
"""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NICE_MOST: Final = 19
_IDLE: Final = 3 << 13  # IOPRIO_CLASS_IDLE, linux/ioprio.h
_ONE: Final = 1  # IOPRIO_WHO_PROCESS
_GROUP: Final = 2  # IOPRIO_WHO_PGRP
_IOPRIO_SET: Final[Mapping[str, int]] = {
    "x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282, "i686": 289,
    "armv7l": 314,
}  # fmt: skip
"""The call's number, which libc has no name for."""

_libc = ctypes.CDLL(None, use_errno=True)


def be_gentle(group: int, *, nice: int, io_idle: bool) -> None:
    """Have a group that has just been started run at our nice value plus `nice`, and idle I/O.

    A group that is gone already is none of our business.
    """
    with suppress(ProcessLookupError, PermissionError):
        if nice:
            value = min(NICE_MOST, os.getpriority(os.PRIO_PROCESS, 0) + nice)
            os.setpriority(os.PRIO_PGRP, group, value)
            for thread in _threads(group):
                os.setpriority(os.PRIO_PROCESS, thread, value)
    if io_idle:
        _set_idle(_GROUP, group)
        for thread in _threads(group):
            _set_idle(_ONE, thread)


def _threads(pid: int) -> list[int]:
    """Those the program has started before we came."""
    try:
        return [int(entry) for entry in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208
    except FileNotFoundError:
        return []


def _set_idle(kind: int, number: int) -> None:
    call = _IOPRIO_SET.get(platform.machine())
    if call is not None:
        _libc.syscall(call, kind, number, _IDLE)
