"""The service command: put this installation under systemd, show how, open a folder, undo it.

It writes files and has systemd read them; it starts nothing. What somebody edited since is neither
overwritten nor removed. With --root the files go below another directory, such as the tree of an
image, and nothing is run.
"""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pq_daemon.cli import printing, unit
from pq_daemon.cli.exits import Exit
from pq_daemon.cli.unit import Place
from pq_daemon.config.loading import load
from pq_daemon.config.problems import ConfigurationError
from pq_daemon.errors import ConflictError, InvalidRequestError, PqError
from pq_daemon.runtime.assets import PACKAGE, asset_dir

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pq_daemon.cli.command import Register
    from pq_daemon.config.settings import Settings

ACCOUNT: Final = "pq"
BOOTED: Final = Path("/run/systemd/system")
"""There when systemd runs this machine (sd_booted(3))."""

OTHERS_READ: Final = 0o004
OTHERS_ENTER: Final = 0o001
GROUP_READS: Final = 0o040


def add_commands(commands: Register) -> None:
    words = commands.add("service", service, "put pq under systemd: install, show, allow PATH, …")
    words.add_argument("what", choices=tuple(ACTS), help="what to do")
    words.add_argument("path", metavar="PATH", nargs="?", help="the folder, for allow")
    words.add_argument("--root", metavar="DIR", type=Path, help="write below DIR, and run nothing")


def service(arguments: argparse.Namespace) -> Exit:
    if (arguments.path is not None) != (arguments.what == "allow"):
        printing.complain("pq service allow takes a PATH, the others take none")
        return Exit.USAGE
    act = ACTS[arguments.what]
    if act is not show and arguments.root is None and os.geteuid() != 0:
        raise PqError(f"this needs root: sudo {_program()} service {arguments.what} …")
    return act(arguments)


# --- install, uninstall --------------------------------------------------------------------------


def install(arguments: argparse.Namespace) -> Exit:
    if arguments.root is None:
        _refuse_unreachable()
    files = _files(arguments)
    _refuse_edited(arguments, files)
    for target, text in files.items():
        _write(arguments, target, text)
    if arguments.root is not None:
        return Exit.DONE
    _run("systemd-sysusers", unit.PLACES["pq.sysusers.conf"])
    _run("systemd-tmpfiles", "--create", unit.PLACES["pq.tmpfiles.conf"])
    _reread()
    missing = [*_gaps(arguments)]
    for line in missing:
        printing.say(f"missing  {line}")
    first = "then: " if missing else "next: "
    printing.say(f"{first}{_program()} --config {_config(arguments)} check")
    printing.say(f"and:  systemctl {'restart' if _is_running() else 'enable --now'} pq")
    return Exit.DONE


def uninstall(arguments: argparse.Namespace) -> Exit:
    files = _files(arguments)
    _refuse_edited(arguments, files)
    if arguments.root is None and BOOTED.exists() and _on_disk(arguments, unit.UNIT).exists():
        printing.say("stopping pq; running jobs have their time to end")
        printing.flush()
        _run("systemctl", "--quiet", "disable", "--now", "pq")
    for target in files:
        found = _on_disk(arguments, target)
        if found.exists():
            found.unlink()
            printing.say(f"removed  {target}")
    if arguments.root is None:
        _reread()
    for kept in (Place(_config(arguments)), unit.STATE, *_drop_ins(arguments)):
        if _on_disk(arguments, kept).exists():
            printing.say(f"kept     {kept}")
    return Exit.DONE


def _files(arguments: argparse.Namespace) -> dict[Place, str]:
    """Every file of an installation, by its place."""
    assets = asset_dir("systemd")
    files = {
        target: (assets / name).read_text(encoding="utf-8") for name, target in unit.PLACES.items()
    }
    files[unit.UNIT] = unit.fitted(
        files[unit.UNIT],
        program=Place(_program()),
        config=Place(_config(arguments)),
        settings=_settings(arguments),
    )
    return files


def _refuse_edited(arguments: argparse.Namespace, files: dict[Place, str]) -> None:
    for target, text in files.items():
        found = _read(_on_disk(arguments, target))
        if found is not None and found != text and not unit.is_as_written(found):
            raise ConflictError(
                f"{target} was edited, or not written by pq: nothing was done. Move it away; "
                f"changes belong into a file in {unit.DROP_INS} (systemctl edit pq)"
            )


def _write(arguments: argparse.Namespace, target: Place, text: str) -> None:
    """Write one file whole, or leave it as it was."""
    path = _on_disk(arguments, target)
    whole = unit.signed(text)
    if _read(path) == whole:
        printing.say(f"as it is {target}")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(whole, encoding="utf-8")
    aside.chmod(0o644)
    aside.replace(path)
    printing.say(f"written  {target}")


# --- show ----------------------------------------------------------------------------------------


def show(arguments: argparse.Namespace) -> Exit:
    """Print what `install` would write, and what is added to it, as systemctl cat does."""
    text = unit.signed(_files(arguments)[unit.UNIT])
    there = _read(_on_disk(arguments, unit.UNIT))
    state = {None: "not installed", text: "installed"}.get(there, "installed is another one")
    _print(f"{unit.UNIT} ({state})", text)
    for target in _drop_ins(arguments):
        printing.say()
        _print(str(target), _read(_on_disk(arguments, target)) or "")
    return Exit.DONE


def _print(title: str, text: str) -> None:
    printing.say(f"# {title}")
    for line in text.splitlines():
        printing.say(line)


# --- allow ---------------------------------------------------------------------------------------


def allow(arguments: argparse.Namespace) -> Exit:
    path = _folder(arguments)
    if unit.is_below(path, unit.WRITABLE):
        printing.say(f"{path} is open to the service already")
        return Exit.DONE
    target = unit.drop_in_place(path)
    _write(arguments, target, unit.drop_in(path))
    if arguments.root is None:
        _reread()
        for line in _rights(path):
            printing.say(f"missing  {line}")
    printing.say("it counts when pq is started again: systemctl restart pq")
    return Exit.DONE


def _folder(arguments: argparse.Namespace) -> Place:
    """The real directory: the unit sees what a link leads to, not the link."""
    given = Path(os.path.abspath(arguments.path))  # noqa: PTH100 - Path would not tidy ".." away
    if arguments.root is not None:
        return Place(given)
    if not given.is_dir():
        raise InvalidRequestError(f"there is no directory {given}")
    real = given.resolve()
    if real != given:
        printing.say(f"{given} leads to {real}: watch it by that name")
    return Place(real)


def _rights(path: Place) -> Iterator[str]:
    """What the account lacks in a directory. The way there does not matter: the unit has its own.

    Asked by a process with the account's rights, so access lists count, too.
    """
    try:
        account = pwd.getpwnam(ACCOUNT)
    except KeyError:
        return
    groups = os.getgrouplist(ACCOUNT, account.pw_gid)
    asked = subprocess.run(
        ["test", "-r", ".", "-a", "-x", "."],  # noqa: S607 - the shell's own everywhere
        cwd=path,
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=groups,
        check=False,
    )
    if asked.returncode:
        yield (
            f"the user {ACCOUNT} may not read {path}: "
            f"setfacl -m u:{ACCOUNT}:rwX {shlex.quote(str(path))}"
        )


# --- what is missing -----------------------------------------------------------------------------


def _gaps(arguments: argparse.Namespace) -> Iterator[str]:
    """What keeps the installed service from working, as far as its configuration tells."""
    config = Path(_config(arguments))
    if not config.exists():
        yield f'{config}: write it, with state_dir = "{unit.STATE}" in [daemon]'
        return
    account = pwd.getpwnam(ACCOUNT)
    mode = config.stat()
    if not mode.st_mode & OTHERS_READ and not (
        mode.st_gid == account.pw_gid and mode.st_mode & GROUP_READS
    ):
        yield f"{config}: the user {ACCOUNT} cannot read it: chgrp {ACCOUNT} and chmod g+r"
    settings = _settings(arguments)
    if settings is None:
        yield f"{config}: it has mistakes"
        return
    if not _is_open(arguments, settings.daemon.state_dir):
        yield (
            f"state_dir = {settings.daemon.state_dir}: the service cannot write there; "
            f'"{unit.STATE}" is made for it'
        )
    for watch in settings.watches:
        if unit.is_below(Place(watch.path), unit.HIDDEN) and not _is_open(arguments, watch.path):
            yield (
                f"watch {watch.name}: {watch.path} is hidden from the service: "
                f"pq service allow {shlex.quote(str(watch.path))}"
            )


def _is_open(arguments: argparse.Namespace, path: Path) -> bool:
    here = Place(path)
    return unit.is_below(here, unit.WRITABLE) or any(
        _on_disk(arguments, unit.drop_in_place(each)).exists() for each in (here, *here.parents)
    )


def _refuse_unreachable() -> None:
    """Refuse an installation that the service could not run, before anything is written.

    Raises:
        ConflictError: the program, its Python or the package is hidden from the service.

    """
    for path in (Path(_program()), Path(sys.executable).resolve(), PACKAGE):
        obstacle = _obstacle(path)
        if obstacle:
            raise ConflictError(
                f"the service could not run {path}: {obstacle}. Install pq where everybody can "
                "run it: python3 -m venv /opt/pq, then /opt/pq/bin/pip install"
            )


def _obstacle(path: Path) -> str | None:
    """Say what keeps a user without rights, in the unit, from a file."""
    if unit.is_below(Place(path), unit.HIDDEN):
        return f"it lies below /{path.parts[1]}, which the unit hides"
    if not path.exists():
        return "it is not there"
    for each in (path, *path.parents):
        mode = each.stat().st_mode
        if not mode & OTHERS_ENTER:
            return f"{each} is closed to others (mode {mode & 0o7777:04o})"
    return None


# --- this machine --------------------------------------------------------------------------------


def _program() -> str:
    """The pq beside the Python that runs us. Not resolved: a venv is found by its own path."""
    return str(Path(sys.executable).with_name("pq"))


def _config(arguments: argparse.Namespace) -> str:
    return str(Path(arguments.config).absolute()) if arguments.config else str(unit.CONFIG)


def _settings(arguments: argparse.Namespace) -> Settings | None:
    """The service's configuration, None while there is none that is valid."""
    try:
        return load(_on_disk(arguments, Place(_config(arguments))))
    except ConfigurationError:
        return None


def _on_disk(arguments: argparse.Namespace, target: Place) -> Path:
    root = arguments.root or Path("/")
    return Path(root) / str(target).lstrip("/")


def _drop_ins(arguments: argparse.Namespace) -> list[Place]:
    found = _on_disk(arguments, unit.DROP_INS)
    return [unit.DROP_INS / each.name for each in sorted(found.glob("*.conf"))]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _is_running() -> bool:
    return BOOTED.exists() and not subprocess.call(["systemctl", "--quiet", "is-active", "pq"])  # noqa: S607


def _reread() -> None:
    if BOOTED.exists():
        _run("systemctl", "daemon-reload")


def _run(*words: object) -> None:
    """Run a program of systemd's.

    Raises:
        PqError: it is missing or failed; with what it said.

    """
    line = [str(word) for word in words]
    try:
        done = subprocess.run(line, check=False, capture_output=True, text=True)  # noqa: S603
    except FileNotFoundError:
        raise PqError(f"there is no {line[0]}: pq service needs systemd") from None
    if done.returncode:
        raise PqError(f"{shlex.join(line)} failed: {done.stderr.strip() or done.returncode}")


ACTS: Final = {"install": install, "uninstall": uninstall, "show": show, "allow": allow}
