"""Files of secrets for handlers: KEY=VALUE a line, for nobody else's eyes. Values are never told.

Read when a configuration is checked, and again when it is applied. Blocking.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINE: Final = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)")
BYTES_MOST: Final = 1024 * 1024
OTHERS: Final = 0o077
OTHERS_BUT_READING_GROUP: Final = 0o037
"""What root's file may not grant: its group may read it, as the service's does."""


class EnvFileError(Exception):
    """A file of secrets that cannot be used; the message tells no value."""


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables in a file.

    Raises:
        EnvFileError: it cannot be read, may be read by others, or is no list of KEY=VALUE.

    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            _check(os.fstat(file.fileno()))
            raw = file.read(BYTES_MOST + 1)
    except OSError as error:
        raise EnvFileError(f"cannot be read: {error.strerror}") from None
    if len(raw) > BYTES_MOST:
        raise EnvFileError("is larger than 1 MiB")
    try:
        return dict(_variables(raw.decode("utf-8")))
    except UnicodeDecodeError:
        raise EnvFileError("is not UTF-8") from None


def _without_waiting(path: str, flags: int) -> int:
    """Open what may turn out to be a pipe nobody writes to."""
    return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)


def _check(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise EnvFileError("is not a regular file")
    if found.st_uid not in (0, os.geteuid()):
        raise EnvFileError(f"belongs to user {found.st_uid}: it must be the daemon's or root's")
    refused = OTHERS_BUT_READING_GROUP if found.st_uid == 0 else OTHERS
    if found.st_mode & refused:
        mode = stat.S_IMODE(found.st_mode)
        raise EnvFileError(f"has mode {mode:04o}, so others may read it: chmod 600")


def _variables(text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()  # noqa: PLW2901
        if not line or line.startswith("#"):
            continue
        found = LINE.fullmatch(line)
        if found is None or "\0" in line:
            raise EnvFileError(f"line {number} is not KEY=VALUE")
        yield found["name"], _unquoted(found["value"].strip())


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value
