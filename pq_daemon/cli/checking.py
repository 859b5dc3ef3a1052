"""What `pq check` looks at beyond the file: whether folders are there and programs are found.

It looks with the rights and the PATH of whoever asks: as the daemon's user it sees what the daemon
will see. The code of a Python handler is only imported in a process of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pq_daemon.consumers.environment import DEFAULT_PATH
from pq_daemon.consumers.handlers.workers import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pq_daemon.config.settings import QueueSettings, Settings, WatchSettings


class Grade(StrEnum):
    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    grade: Grade
    where: str  # watch.files, queue.files
    what: str


SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "busybox"})
NAMES: Final = re.compile(r"\{(path|name|stem|suffix|parent|relpath|relparent|output)\}")
IMPORT_LIMIT: Final = 30.0
"""Seconds a handler's module has to be imported."""

IMPORT: Final = """
import sys
from pathlib import Path
from pq_daemon.consumers.handlers.resolve import Unresolved, resolve
found = resolve(sys.argv[1], Path(sys.argv[2]), map(Path, sys.argv[3:]))
sys.exit(found.why if isinstance(found, Unresolved) else 0)
"""


def findings(settings: Settings) -> Iterator[Finding]:
    """Look at every watch and every queue, in file order."""
    for watch in settings.watches:
        yield _folder(watch)
    for queue in settings.queues.values():
        where = f"queue.{queue.name}"
        if queue.command is not None:
            yield _program(where, queue, queue.command)
            yield from _shell(where, queue.command)
        if queue.python is not None:
            yield _python(where, queue, settings)


def _folder(watch: WatchSettings) -> Finding:
    where = f"watch.{watch.name}"
    try:
        count = sum(1 for _ in os.scandir(watch.path))
    except FileNotFoundError:
        return Finding(Grade.MISSING, where, f"{watch.path} does not exist; it is never created")
    except NotADirectoryError:
        return Finding(Grade.MISSING, where, f"{watch.path} is not a directory")
    except OSError as error:
        return Finding(Grade.MISSING, where, f"{watch.path} cannot be read: {error.strerror}")
    if not os.access(watch.path, os.X_OK):
        return Finding(Grade.MISSING, where, f"{watch.path} may be listed, but not its files read")
    return Finding(Grade.OK, where, f"{watch.path} can be read, {count} entries")


def _program(where: str, queue: QueueSettings, command: tuple[str, ...]) -> Finding:
    program = command[0]
    if "{" in program:
        return Finding(Grade.WARNING, where, f"the program itself comes from the file: {program}")
    if "/" in program and not program.startswith("/"):
        if queue.cwd is None:
            return Finding(
                Grade.MISSING,
                where,
                f"{program} is looked for in the attempt's empty directory: write the whole path",
            )
        program = str(queue.cwd / program)
    path = queue.env.get("PATH") or os.environ.get("PATH") or DEFAULT_PATH.decode()
    found = shutil.which(program, path=path)
    if found is None:
        return Finding(Grade.MISSING, where, f"no program {program} in {path}")
    return Finding(Grade.OK, where, f"runs {found}")


def _shell(where: str, command: tuple[str, ...]) -> Iterator[Finding]:
    """Warn of a file name that a shell would read as a program."""
    if Path(command[0]).name not in SHELLS or "-c" not in command:
        return
    script = command[command.index("-c") + 1 :][:1]
    for name in sorted(set(NAMES.findall("".join(script)))):
        yield Finding(
            Grade.WARNING,
            where,
            f"{{{name}}} inside sh -c: the shell would run what a file's name says. Pass it as "
            f'an argument instead: ["sh", "-c", "… \\"$1\\"", "sh", "{{{name}}}"]',
        )


def _python(where: str, queue: QueueSettings, settings: Settings) -> Finding:
    target = str(queue.python)
    places = [str(settings.directory), *map(str, queue.python_path)]
    program = queue.interpreter or sys.executable
    how = ["-c", IMPORT] if queue.isolation == "loop" else [str(PROGRAM), "--check"]
    try:
        asked = subprocess.run(  # noqa: S603 - the configured interpreter, and our own script
            [program, *how, target, *places],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=IMPORT_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding(Grade.MISSING, where, f"importing {target} takes over {IMPORT_LIMIT:g} s")
    except OSError as error:
        return Finding(Grade.MISSING, where, f"{program} cannot be started: {error.strerror}")
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Finding(Grade.MISSING, where, reason)
    under = f" under {queue.interpreter}" if queue.interpreter else ""
    return Finding(Grade.OK, where, f"calls {target}{under}")
