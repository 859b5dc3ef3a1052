"""Whether what a queue runs can be found, with the PATH its handler will have.

The code of a Python handler is only imported in a process of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pq_daemon.config.masking import masked_value
from pq_daemon.consumers.environment import DEFAULT_PATH
from pq_daemon.consumers.handlers.workers import PROGRAM
from pq_daemon.inspection import rights
from pq_daemon.inspection.findings import Finding, Grade

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pq_daemon.config.settings import QueueSettings, Settings


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


def handler(
    where: str, queue: QueueSettings, settings: Settings, *, imports: bool
) -> Iterator[Finding]:
    """Say whether what a queue runs can be found."""
    if queue.command is not None:
        yield _program(where, queue, queue.command)
        yield from _shell(where, queue.command)
    if queue.python is not None and imports:
        yield _python(where, queue, settings)
    if queue.http is not None:
        yield Finding(Grade.OK, where, f"posts to {masked_value(queue.http, 'http')}")


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
    return Finding(Grade.OK, where, f"runs {found} as user {rights.ourselves()}")


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
