"""The API as the commands see it: over the control socket, or over --url.

Whatever goes wrong becomes one of two errors, each with a message that says what to do and the
exit status it means: `Unreachable` (69) when no daemon answers, `Refused` when one does and says
no (1; 78 when it is its configuration that is refused).
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import stat
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import aiohttp

from pq_daemon.cli.exits import Exit
from pq_daemon.errors import PqError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE: Final = 30.0
"""Seconds a daemon has for an answer."""

API: Final = "/api/v1"
Wanted = Mapping[str, object]
"""Query parameters."""


class Unreachable(PqError):
    """No daemon answers."""

    code: ClassVar[str] = "unreachable"
    exit: ClassVar[Exit] = Exit.UNREACHABLE


class Refused(PqError):
    """The daemon answered, and said no. `text` is its whole answer."""

    code: ClassVar[str] = "refused"

    def __init__(self, message: str, *, status: int, text: str, problem: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.text = text
        self.problem = problem

    @property
    def exit(self) -> Exit:
        return (
            Exit.CONFIGURATION if self.status == HTTPStatus.UNPROCESSABLE_ENTITY else Exit.REFUSED
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What the daemon said: as it was sent, and as values."""

    text: str
    body: Any


class Api:
    """One connection to one daemon."""

    def __init__(self, session: aiohttp.ClientSession, door: str) -> None:
        self._session = session
        self._door = door  # as people name it: the socket's path, or the URL

    async def get(
        self, path: str, wanted: Wanted | None = None, *, patience: float = PATIENCE
    ) -> Answer:
        """Ask for something. A parameter that is None is left out, one that is a list repeats."""
        return _understood(*await self._ask("GET", path, wanted or {}, patience=patience))

    async def post(self, path: str, body: object = None) -> Answer:
        content = {} if body is None else body
        return _understood(*await self._ask("POST", path, {}, body=content))

    async def patch(self, path: str, body: object) -> Answer:
        return _understood(*await self._ask("PATCH", path, {}, body=body))

    async def content(
        self,
        path: str,
        wanted: Wanted | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Ask for bytes. Returns the status, too: 416 means that there is nothing (more)."""
        status, content = await self._ask("GET", path, wanted or {}, headers=headers)
        if status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            _check(status, content)
        return status, content

    async def _ask(
        self,
        method: str,
        path: str,
        wanted: Wanted,
        *,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        patience: float = PATIENCE,
    ) -> tuple[int, bytes]:
        try:
            async with self._session.request(
                method,
                API + path,
                params=_parameters(wanted),
                json=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=patience, connect=5.0),
                allow_redirects=False,
            ) as answer:
                return answer.status, await answer.read()
        except TimeoutError:
            raise Unreachable(f"the daemon at {self._door} does not answer; see its log") from None
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(_why(self._door, error.os_error)) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"the daemon at {self._door} broke off: {error}") from None


def _parameters(wanted: Wanted) -> list[tuple[str, str]]:
    pairs = []
    for name, value in wanted.items():
        if value is None:
            continue
        values = value if isinstance(value, list | tuple) else [value]
        pairs += [(name, str(one)) for one in values]
    return pairs


def _understood(status: int, content: bytes) -> Answer:
    text = content.decode("utf-8", "replace")
    _check(status, content)
    try:
        return Answer(text, json.loads(text))
    except ValueError:
        raise Unreachable("what answers is not a pq daemon: it does not speak JSON") from None


def _check(status: int, content: bytes) -> None:
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return
    text = content.decode("utf-8", "replace")
    try:
        problem = json.loads(text)
        message = str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, AttributeError):
        problem, message = {}, f"the daemon answered {status}"
    if status == HTTPStatus.UNAUTHORIZED:
        message += ": over --url pq asks without a login; use the control socket of its machine"
    raise Refused(message, status=status, text=text, problem=problem)


@asynccontextmanager
async def connected(socket: Path | None, url: str | None = None) -> AsyncIterator[Api]:
    """Open the way to a daemon, by its socket or its address. Nothing is sent before a question.

    Raises:
        Unreachable: there is no such socket, or we may not use it.

    """
    if socket is None:
        async with aiohttp.ClientSession(url) as session:
            yield Api(session, str(url))
        return
    directory = _directory_of(socket)
    try:
        # A socket's address is limited to 107 bytes; through the descriptor any path fits.
        connector = aiohttp.UnixConnector(f"/proc/self/fd/{directory}/{socket.name}")
        async with aiohttp.ClientSession("http://localhost", connector=connector) as session:
            yield Api(session, str(socket))
    finally:
        os.close(directory)


def _directory_of(socket: Path) -> int:
    try:
        return os.open(socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Unreachable(_why(str(socket), error)) from None


def _why(door: str, error: OSError) -> str:
    """Say why nobody answered there, and what to do."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return (
            f"no daemon at {door}: there is no such socket. Is pq running? Start it with "
            '"pq run" (or "systemctl start pq"); --config or $PQ_SOCKET name another one'
        )
    if isinstance(error, ConnectionRefusedError):
        return f'nobody listens at {door}. Is pq running? Start it with "pq run"'
    if isinstance(error, PermissionError):
        return f"permission denied at {door}{_owned(door)}"
    return f"cannot reach {door}: {error.strerror or error}"


def _owned(door: str) -> str:
    """Say whose the socket is, or the directory that keeps us from seeing it."""
    for place in (Path(door), *Path(door).parents):
        try:
            found = place.stat()
        except OSError:
            continue
        if not _usable(found):
            user = _user(found.st_uid)
            return (
                f": {place} belongs to user {user}, group {_group(found.st_gid)} (mode "
                f"{stat.S_IMODE(found.st_mode):04o}). Run the command as that user (sudo -u {user} "
                "pq …), or have server.socket_group name a group you are in"
            )
    return ""


def _usable(found: os.stat_result) -> bool:
    """Whether the mode lets us through a directory, or write to a socket."""
    need = 1 if stat.S_ISDIR(found.st_mode) else 2
    if found.st_uid == os.geteuid():
        return bool(found.st_mode >> 6 & need)
    if found.st_gid in {os.getegid(), *os.getgroups()}:
        return bool(found.st_mode >> 3 & need)
    return bool(found.st_mode & need)


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
