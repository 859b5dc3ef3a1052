"""The `pq` command: one file per family of commands, no logic of its own.

Commands talk to the daemon through its API; none opens its database. Only this room may print.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from pq_daemon.cli import parsing, printing, problems
from pq_daemon.cli.client import Refused, Unreachable
from pq_daemon.cli.exits import Exit
from pq_daemon.config.problems import ConfigurationError
from pq_daemon.errors import PqError, StoreHeldError

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED: Final = 130  # 128 + SIGINT, as shells say it


def main(argv: Sequence[str]) -> int:
    """Carry out one command line and return its exit status."""
    printing.prepare()
    try:
        arguments = parsing.parse(argv)
    except SystemExit as ending:  # argparse has said what there is to say
        return int(ending.code or 0)
    try:
        status = int(arguments.act(arguments))
        printing.flush()
    except PqError as error:
        return explain(error, as_json=arguments.json)
    except KeyboardInterrupt:
        return Exit.DONE if arguments.follow else INTERRUPTED
    except BrokenPipeError:
        _stop_writing()
        return Exit.DONE
    return status


def explain(error: PqError, *, as_json: bool) -> Exit:
    """Say what went wrong and return the exit status it means."""
    if isinstance(error, ConfigurationError):
        problems.complain(error)
        return Exit.CONFIGURATION
    if isinstance(error, Refused) and as_json:
        printing.answer(error.text)
    printing.complain(str(error))
    if isinstance(error, Refused | Unreachable):
        return error.exit
    if isinstance(error, StoreHeldError):
        return Exit.HELD
    return Exit.CONFIGURATION if error.code == "listen" else Exit.REFUSED


def _stop_writing() -> None:
    """The reader of the pipe has seen enough (`pq jobs | head`): what is left goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
