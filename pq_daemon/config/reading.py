"""A configuration file as text, and the text as tomllib reads it; each way to fail is named."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.config.problems import ConfigurationError, file_problem

if TYPE_CHECKING:
    from pathlib import Path

    from pq_daemon.config.problems import Problem

LARGEST: Final = 2**20
DEEPEST: Final = 16
TOO_DEEP: Final = "lists or tables lie too deep in each other"
WHERE: Final = re.compile(
    r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end.*)\)"
)
TWICE: Final = re.compile(r"Cannot declare \('(?P<table>user|watch)',\) twice")


def read_text(path: Path) -> str:
    """Read a configuration file.

    Raises:
        ConfigurationError: it is not there, not a readable regular file, or not UTF-8.

    """
    try:
        raw = _read(path)
    except OSError as error:
        problem = file_problem(f"cannot be read: {error.strerror or error}")
        raise ConfigurationError(path, (problem,)) from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problem = file_problem("not UTF-8 text", hint="save it as UTF-8", line=line)
        raise ConfigurationError(path, (problem,)) from None


def _read(path: Path) -> bytes:
    # a pipe or a device could keep a reload waiting for ever
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(0, "it is not a regular file")
        with os.fdopen(fd, "rb", closefd=False) as file:
            raw = file.read(LARGEST + 1)
    finally:
        os.close(fd)
    if len(raw) > LARGEST:
        raise OSError(0, "it is larger than 1 MiB")
    return raw


def read_toml(text: str, source: Path | None) -> dict[str, Any]:
    """Read TOML.

    Raises:
        ConfigurationError: it is not TOML.

    """
    try:
        raw = tomllib.loads(text)
    except RecursionError:
        problem = file_problem(TOO_DEEP)
    except ValueError as error:  # also an integer that Python refuses for its length
        problem = _syntax_problem(text, str(error))
    else:
        if _depth(raw) <= DEEPEST:
            return raw
        problem = file_problem(TOO_DEEP)
    raise ConfigurationError(source, (problem,))


def _depth(value: object) -> int:
    """How many lists and tables lie in each other."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _syntax_problem(text: str, message: str) -> Problem:
    where = WHERE.fullmatch(message)
    if where is None:
        return file_problem(f"not TOML: {message}")
    line = int(where["line"]) if where["line"] else text.count("\n") + (not text.endswith("\n"))
    column = f", column {where['column']}" if where["column"] else ", at the end"
    return file_problem(
        f"not TOML: {where['what']}{column}", hint=_syntax_hint(text, message), line=line
    )


def _syntax_hint(text: str, message: str) -> str:
    twice = TWICE.match(message)
    if twice:
        return f"write [[{twice['table']}]] with two brackets"
    if text.startswith("\ufeff"):
        return "it begins with a byte order mark: save it as UTF-8 without one"
    return ""
