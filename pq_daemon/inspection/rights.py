"""Who may do what with a path, in the words of a person who has to mend it. Blocking."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from typing import TYPE_CHECKING

from pq_daemon.runtime.names import shown

if TYPE_CHECKING:
    from collections.abc import Iterator


def user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def ourselves() -> str:
    return user(os.geteuid())


def words(found: os.stat_result) -> str:
    mode = stat.S_IMODE(found.st_mode)
    return f"owner {user(found.st_uid)}, group {group(found.st_gid)}, mode {mode:04o}"


def obstacle(directory: bytes, *, write: bool = False) -> str | None:
    """Say what keeps us from the files in a directory: it, or one above it; None when nothing."""
    for each in _from_the_top(directory):
        is_last = each == directory
        try:
            found = os.stat(each)  # noqa: PTH116 - names are bytes
        except OSError as error:
            return f"{shown(each)}: {(error.strerror or str(error)).lower()}"
        if not stat.S_ISDIR(found.st_mode):
            return f"{shown(each)} is not a directory"
        need = os.X_OK | (os.R_OK if is_last else 0) | (os.W_OK if is_last and write else 0)
        if not os.access(each, need, effective_ids=True):
            verb = _verb(each, is_last=is_last, write=write)
            return f"{shown(each)} may not be {verb} by user {ourselves()} ({words(found)})"
    return None


def _from_the_top(directory: bytes) -> Iterator[bytes]:
    parts = directory.strip(b"/").split(b"/")
    yield b"/"
    for number in range(1, len(parts) + 1):
        if parts[0]:
            yield b"/" + b"/".join(parts[:number])


def _verb(directory: bytes, *, is_last: bool, write: bool) -> str:
    if not os.access(directory, os.X_OK, effective_ids=True):
        return "entered"
    if is_last and not os.access(directory, os.R_OK, effective_ids=True):
        return "listed"
    return "written to" if write else "listed"
