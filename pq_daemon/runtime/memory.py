"""How much memory processes hold, from /proc: of a tree, what is shared counted once.

The resident size is quick and counts a page once for each process that shares it; the proportional
size is exact and slow. So the first says whether the second must be asked. All of it blocks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
KIB: Final = 1024


def tree(leaders: Iterable[int]) -> set[int]:
    """Return processes and all that descend from them."""
    found: set[int] = set()
    ahead = list(leaders)
    while ahead:
        pid = ahead.pop()
        if pid not in found:
            found.add(pid)
            ahead += _children(pid)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            found += [int(each) for each in _read(f"/proc/{pid}/task/{thread}/children").split()]
    except OSError:  # it has ended meanwhile
        return found
    return found


def resident(pid: int) -> int:
    """Bytes a process holds in memory, shared ones too; 0 when there is none."""
    try:
        return int(_read(f"/proc/{pid}/statm").split()[1]) * PAGE
    except OSError:
        return 0


def proportional(pid: int) -> int:
    """Bytes a process holds in memory, its share of what others hold, too."""
    try:
        lines = _read(f"/proc/{pid}/smaps_rollup").splitlines()
    except OSError:  # it has ended, or may not be looked at
        return resident(pid)
    return sum(int(line.split()[1]) * KIB for line in lines if line.startswith(b"Pss:"))


def excess(pids: Iterable[int], limit: int) -> int | None:
    """Return how many bytes processes hold together when that is over a limit."""
    pids = tuple(pids)
    if sum(map(resident, pids)) <= limit:
        return None
    held = sum(map(proportional, pids))
    return held if held > limit else None


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - asked each second
        return file.read()
