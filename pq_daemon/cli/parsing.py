"""The words of the command line: which commands there are, and what each takes.

`--config`, `--url` and `--json` are understood before the command and after it. A word that is no
command is a usage error that names the nearest one.
"""

from __future__ import annotations

import argparse
import difflib
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pq_daemon import __version__
from pq_daemon.cli import (
    doctor,
    explaining,
    files,
    init,
    jobs,
    live,
    output,
    people,
    queues,
    running,
    service,
    trying,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pq_daemon.cli.command import Act

FAMILIES: Final = (
    running,
    init,
    jobs,
    output,
    queues,
    files,
    explaining,
    trying,
    live,
    people,
    doctor,
    service,
)
DESCRIPTION: Final = (
    "Files copied into watched folders become jobs, each carried to a recorded end."
)
EPILOG: Final = (
    "exit status: 0 done, 1 refused or failed, 2 usage, 69 daemon not reachable, "
    "75 another daemon holds the state directory, 78 configuration"
)


class Commands:
    """Collects the commands of the families, in the order they are shown."""

    def __init__(self, top: argparse.ArgumentParser) -> None:
        self._group = top.add_subparsers(
            title="commands", metavar="COMMAND", dest="command", required=True
        )

    def add(self, name: str, act: Act, summary: str) -> argparse.ArgumentParser:
        parser = self._group.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            parents=[_everywhere()],
            allow_abbrev=False,
        )
        parser.set_defaults(act=act, follow=False)
        return parser

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._group.choices)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Understand a command line.

    Raises:
        SystemExit: it was a question for help (0), or it is not understood (2).

    """
    top, commands = _parser()
    rest = _everywhere().parse_known_args(argv)[1]
    word = next((each for each in rest if not each.startswith("-")), None)
    if word is not None and word not in commands.names:
        top.error(_unknown(word, commands.names))
    return top.parse_args(argv, argparse.Namespace(config=None, url=None, json=False))


def names() -> tuple[str, ...]:
    """Every command there is, in the order help shows them."""
    return _parser()[1].names


def _parser() -> tuple[argparse.ArgumentParser, Commands]:
    top = argparse.ArgumentParser(
        prog="pq",
        description=DESCRIPTION,
        epilog=EPILOG,
        parents=[_everywhere()],
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"pq-daemon {__version__}")
    commands = Commands(top)
    for family in FAMILIES:
        family.add_commands(commands)
    return top, commands


def _everywhere() -> argparse.ArgumentParser:
    """The options of every command. Without defaults: the place that was not used must not win."""
    options = argparse.ArgumentParser(
        add_help=False, argument_default=argparse.SUPPRESS, allow_abbrev=False
    )
    options.add_argument(
        "--config",
        metavar="FILE",
        help="the configuration (else $PQ_CONFIG, ./config.toml, /etc/pq/config.toml)",
    )
    options.add_argument(
        "--url",
        metavar="URL",
        type=address,
        help="ask the daemon at this address instead of through its socket",
    )
    options.add_argument(
        "--json", action="store_true", help="print the answer of the API as it is, for programs"
    )
    return options


def address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path.strip("/"):
        raise argparse.ArgumentTypeError(f'"{text}" is no address such as http://127.0.0.1:8501')
    return f"{parts.scheme}://{parts.netloc}"


def _unknown(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f'no command "{word}"; did you mean "{near[0]}"?'
    return f'no command "{word}"; there are: {", ".join(known)}'
