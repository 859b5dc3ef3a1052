"""The init command: four questions, and a configuration that works.

On a terminal it asks what the options did not say; elsewhere the options say it all, with defaults.
It writes nothing before everything is known and found valid, and never over a file that is there.
Only here, and in the demo, are watched folders made.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pq_daemon.cli import people, printing, recipes
from pq_daemon.cli.exits import Exit
from pq_daemon.config import notation
from pq_daemon.config.loading import parse
from pq_daemon.config.passwords import hash_password
from pq_daemon.errors import ConflictError, InvalidRequestError, PqError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import TypeVar

    from pq_daemon.cli.command import Register
    from pq_daemon.cli.recipes import Recipe

    T = TypeVar("T")

EXISTING: Final = {
    "run": "run them, too",
    "skip": "leave them alone",
    "hold": "take them in, but let me release each",
}
USER: Final = "admin"
FOLDER: Final = "in"
PORTS: Final = range(8501, 8521)

TEMPLATE: Final = """\
# Written by pq init. README.md explains every key; after a change: pq check, then pq reload

[daemon]
state_dir = "data/state"      # the database and what the handlers print: on a local disk
log_file = "data/pq.log"

[server]
listen = "127.0.0.1:{port}"
{user}
[[watch]]
name = {name}
path = {path}
existing = "{existing}"              # files that were there before: run, skip or hold
{watch}
{remark}[queue.{key}]
{queue}"""
USER_TEMPLATE: Final = """
[[user]]                      # pq passwd {name} changes the password
name = "{name}"
role = "manager"
password_hash = {hash}
"""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is wanted. `folder` is as it was written, relative to the configuration's directory."""

    folder: str
    recipe: Recipe
    existing: str
    password: str | None


def add_commands(commands: Register) -> None:
    words = commands.add("init", init, "write a first configuration: asks, or takes options")
    words.add_argument("directory", metavar="DIR", nargs="?", type=Path, default=Path())
    words.add_argument("--folder", metavar="PATH", help=f'to watch; default "{FOLDER}" in DIR')
    words.add_argument("--do", choices=recipes.KINDS, help="what to do with each file")
    words.add_argument("--command", dest="line", metavar="LINE", help='such as "wc -l {path}"')
    words.add_argument("--existing", choices=list(EXISTING), help="files already there; run")
    words.add_argument(
        "--password-stdin", action="store_true", help=f"one line of stdin is {USER}'s password"
    )


def init(arguments: argparse.Namespace) -> Exit:
    target = _target(arguments)
    if target.exists():
        raise ConflictError(f"{target} is there already; init never overwrites. See: pq check")
    wishes = _wishes(arguments, target.parent)
    text = written(wishes, _free_port())
    settings = parse(text, target)
    _make(target, text, settings.watches[0].path, wishes)
    _report(target, settings.watches[0].path, wishes)
    return Exit.DONE


def _target(arguments: argparse.Namespace) -> Path:
    if arguments.config is not None:
        return Path(arguments.config).absolute()
    return Path(os.path.abspath(arguments.directory / "config.toml"))  # noqa: PTH100 - tidies ".."


# --- what is wanted ------------------------------------------------------------------------------


def _wishes(arguments: argparse.Namespace, home: Path) -> Wishes:
    if arguments.line is not None and arguments.do not in {None, "command"}:
        raise InvalidRequestError("--command is for --do command")
    kind = arguments.do or ("command" if arguments.line is not None else None)
    asks = sys.stdin.isatty() and not arguments.password_stdin
    folder, existing = arguments.folder, arguments.existing
    if asks:
        printing.say(f"Four questions, then {home / 'config.toml'} is written. Enter takes [this].")
        folder = folder or _asked("Which folder shall be watched?", FOLDER)
        kind = kind or _chosen("What shall be done with each file?", _kinds())
    recipe = _again(asks, lambda: _recipe(kind or "hash", arguments.line, asks=asks))
    if asks:
        existing = existing or _chosen(_existing_question(home / (folder or FOLDER)), EXISTING)
    return Wishes(folder or FOLDER, recipe, existing or "run", _password(arguments, asks=asks))


def _kinds() -> dict[str, str]:
    return {
        kind: "run a command of yours" if kind == "command" else recipes.recipe(kind).words
        for kind in recipes.KINDS
    }


def _recipe(kind: str, line: str | None, *, asks: bool) -> Recipe:
    if kind == "command" and line is None:
        if not asks:
            raise InvalidRequestError('--do command needs --command "PROGRAM {path}"')
        line = _asked("Which command? {path} stands for the file:", "")
    return recipes.recipe(kind, line or "")


def _existing_question(folder: Path) -> str:
    try:
        count = sum(1 for _ in os.scandir(folder))
    except OSError:
        count = 0
    there = "now there are none" if not count else f"now there are {count}"
    return f"What about files that are there before the first start ({there})?"


def _password(arguments: argparse.Namespace, *, asks: bool) -> str | None:
    if arguments.password_stdin:
        password = people.one_line()
        people.refuse_weak(password, USER)
        return password
    if not asks:
        return None
    printing.say(f"A password for {USER}, to log in with ({people.LEAST} characters or more).")
    return _again(asks, _new_password)


def _new_password() -> str:
    password = people.asked_twice(USER)
    people.refuse_weak(password, USER)
    return password


# --- asking --------------------------------------------------------------------------------------


def _asked(question: str, default: str) -> str:
    printing.say()
    printing.say(question)
    return _line(f"[{default}] > " if default else "> ") or default


def _chosen(question: str, choices: dict[str, str]) -> str:
    """Have one of the choices chosen, by its number or its word."""
    words = [question, *(f"  {n}  {said}" for n, said in enumerate(choices.values(), start=1))]
    names = list(choices)
    while True:
        printing.say()
        for line in words:
            printing.say(line)
        answer = _line("[1] > ") or "1"
        if answer in names:
            return answer
        if answer.isdecimal() and 1 <= int(answer) <= len(names):
            return names[int(answer) - 1]
        printing.say(f"A number from 1 to {len(names)} is needed.")


def _line(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except EOFError:
        raise InvalidRequestError("no answer; nothing was written") from None


def _again(asks: bool, ask: Callable[[], T]) -> T:
    """Ask until the answer will do; where nobody can be asked again, once."""
    while True:
        try:
            return ask()
        except InvalidRequestError as error:
            if not asks or "nothing was written" in str(error):
                raise
            printing.complain(str(error))


# --- writing -------------------------------------------------------------------------------------


def written(wishes: Wishes, port: int) -> str:
    """Return the text of the configuration. Slow: a password is hashed."""
    user = ""
    if wishes.password is not None:
        hashed = notation.string(hash_password(wishes.password))
        user = USER_TEMPLATE.format(name=USER, hash=hashed)
    remark = f"# {wishes.recipe.remark}\n" if wishes.recipe.remark else ""
    name = _named(wishes.folder)
    return TEMPLATE.format(
        port=port,
        user=user,
        name=notation.string(name),
        key=notation.key(name),
        path=notation.string(wishes.folder),
        existing=wishes.existing,
        watch=recipes.lines(wishes.recipe.watch),
        remark=remark,
        queue=recipes.lines(wishes.recipe.queue),
    )


def _named(folder: str) -> str:
    """Return a name for the watch and its queue: what the folder is called."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(folder).name).strip("-._")
    return plain[:64] or "files"


def _free_port() -> int:
    """Return a port nobody listens on now, the usual one if it can be."""
    for port in PORTS:
        with socket.socket() as door:
            try:
                door.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    return PORTS.start


def _make(target: Path, text: str, folder: Path, wishes: Wishes) -> None:
    """Make the folders and the files, the configuration last."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        (target.parent / "data").mkdir(exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        if "python" in wishes.recipe.queue:
            _write_new(target.with_name(recipes.HANDLERS), recipes.HANDLERS_TEXT, 0o644)
        if not _write_new(target, text, 0o600 if wishes.password else 0o644):
            raise ConflictError(f"{target} has come to be meanwhile; it was left as it is")
    except OSError as error:
        raise PqError(f"cannot write {error.filename}: {error.strerror}") from None


def _write_new(path: Path, text: str, mode: int) -> bool:
    """Write a file that is not there yet; whether it was not."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        return False
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        file.write(text)
    return True


def _report(target: Path, folder: Path, wishes: Wishes) -> None:
    """Say what was written, what is missing, and the next three commands."""
    printing.say()
    printing.say(f"written  {target}")
    if "python" in wishes.recipe.queue:
        printing.say(f"written  {target.with_name(recipes.HANDLERS)}: put your own work there")
    printing.say(f"watched  {folder}")
    missing = wishes.recipe.missing
    if missing is not None:
        how = f": {wishes.recipe.install}" if wishes.recipe.install else ""
        printing.say(f"missing  {missing} is not installed{how}")
    if wishes.password is None:
        printing.say(f"missing  nobody can log in yet: {_pq(target)} passwd {USER} --role manager")
    printing.say()
    printing.say("Next:")
    printing.say(f"  {_pq(target)} check")
    printing.say(f"  {_pq(target)} run")
    printing.say(f"  cp SOME-FILE {shlex.quote(_from_here(folder))}/    (in another terminal)")


def _pq(target: Path) -> str:
    if target == Path.cwd() / "config.toml":
        return "pq"
    return f"pq --config {shlex.quote(_from_here(target))}"


def _from_here(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
