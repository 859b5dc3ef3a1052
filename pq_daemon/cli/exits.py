"""The exit statuses of pq: the numbers of sysexits.h where it has one."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    DONE = 0
    REFUSED = 1  # or failed; an unknown id, too
    USAGE = 2
    UNREACHABLE = 69
    HELD = 75  # another daemon holds the state directory
    CONFIGURATION = 78
