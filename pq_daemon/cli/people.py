"""The passwd command: create a user or change a password, in the configuration file.

The password comes from the terminal, without echo, or as one line of stdin; never from the command
line, where every process of the machine could read it.
"""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Final, get_args

from pq_daemon.cli import place, printing
from pq_daemon.cli.exits import Exit
from pq_daemon.config.passwords import hash_password, set_password
from pq_daemon.config.settings import Role
from pq_daemon.errors import InvalidRequestError

if TYPE_CHECKING:
    import argparse

    from pq_daemon.cli.command import Register

LEAST: Final = 12
"""Characters of a new password."""


def add_commands(commands: Register) -> None:
    words = commands.add("passwd", passwd, "create a user, or change a password or role")
    words.add_argument("user", metavar="USER")
    words.add_argument(
        "--role", choices=get_args(Role), help="of the first user manager, else viewer"
    )


def passwd(arguments: argparse.Namespace) -> Exit:
    source = place.found(arguments)
    password = asked_twice(arguments.user) if sys.stdin.isatty() else one_line()
    refuse_weak(password, arguments.user)
    set_password(source, arguments.user, hash_password(password), role=arguments.role)
    printing.say(
        f"{arguments.user} is written to {source}. Have a running daemon read it: pq reload"
    )
    return Exit.DONE


def asked_twice(user: str) -> str:
    try:
        password = getpass.getpass(f"New password for {user}: ")
        again = getpass.getpass("The same again: ")
    except EOFError:
        raise InvalidRequestError("no password was given; nothing was changed") from None
    if password != again:
        raise InvalidRequestError("the two are not the same; nothing was changed")
    return password


def one_line() -> str:
    try:
        line = sys.stdin.buffer.readline().decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequestError("the password on stdin is not UTF-8 text") from None
    if not line:
        raise InvalidRequestError("no password on stdin: one line is read")
    return line.removesuffix("\n").removesuffix("\r")


def refuse_weak(password: str, user: str) -> None:
    """Ask for length and nothing else: rules about kinds of characters make passwords worse."""
    if len(password) < LEAST:
        raise InvalidRequestError(
            f"a password has at least {LEAST} characters, this one has {len(password)}"
        )
    if password.casefold() == user.casefold():
        raise InvalidRequestError("the password is the user's name")
