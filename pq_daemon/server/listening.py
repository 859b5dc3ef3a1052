"""The two doors: a TCP address for browsers, a Unix socket for this machine's commands.

Both are bound before anything is served, so that a port in use is told at the start, with who has
it. The socket's file is put in place with its final owner and mode before it listens: there is no
moment at which somebody else could connect. A file that a dead daemon left is replaced; one behind
which somebody still listens is not.
"""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from pq_daemon.errors import PqError
from pq_daemon.server.access import split_host

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG: Final = 128
LISTEN_STATE: Final = "0A"
PATH_MOST: Final = 107
"""Bytes that fit into a Unix socket's address (unix(7))."""


class ListenError(PqError):
    """An address cannot be listened on (exit status 78)."""

    code: ClassVar[str] = "listen"


# --- TCP -----------------------------------------------------------------------------------------


def tcp_sockets(listen: str) -> list[socket.socket]:
    """Bind an address such as 127.0.0.1:8501, [::1]:8501 or localhost:8501. Blocks.

    Raises:
        ListenError: it is in use, or not ours to bind.

    """
    name, port = split_host(listen)
    if port is None:
        raise ListenError(f'listen: "{listen}" is not an address such as 127.0.0.1:8501')
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            bound.append(_bound(family, kind, protocol, address))
    except OSError as error:
        for door in bound:
            door.close()
        raise _refused(listen, port, error) from error
    return bound


def _bound(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    door = socket.socket(family, kind, protocol)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        door.bind(address)
        door.listen(BACKLOG)
        door.setblocking(False)
    except OSError:
        door.close()
        raise
    return door


def _refused(listen: str, port: int, error: OSError) -> ListenError:
    if error.errno != errno.EADDRINUSE:
        return ListenError(f"cannot listen on {listen}: {error.strerror or error}")
    pid = listener_on(port)
    who = f"process {pid} ({_command(pid)}) has it" if pid else "another process has it"
    return ListenError(
        f"cannot listen on {listen}: {who}; stop it, or set server.listen to another port"
    )


def listener_on(port: int) -> int | None:
    """Return the process that listens on a port, if we may see it."""
    inodes = {
        fields[9]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for fields in _lines(table)
        if fields[3] == LISTEN_STATE and int(fields[1].rpartition(":")[2], 16) == port
    }
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit() and wanted & set(_open_files(directory / "fd")):
            return int(directory.name)
    return None


def _lines(table: str) -> Iterator[list[str]]:
    with suppress(OSError):
        for line in Path(table).read_text("ascii").splitlines()[1:]:
            yield line.split()


def _open_files(directory: Path) -> Iterator[str]:
    with suppress(OSError):
        for entry in directory.iterdir():
            with suppress(OSError):
                yield str(entry.readlink())


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "gone by now"


# --- the control socket --------------------------------------------------------------------------


@contextmanager
def unix_socket(path: Path, group: int | None) -> Iterator[socket.socket]:
    """Bind the control socket, listening; its file is gone when the block ends. Blocks briefly.

    Without a group the socket is the owner's alone (0600), with one 0660.

    Raises:
        ListenError: the directory is not there, or somebody listens there already.

    """
    with _directory(path) as directory:
        _clear(path, directory)
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            door.bind(_address(path, directory))
            place = _place(path)
            path.chmod(0o600)
            if group is not None:
                os.chown(path, -1, group)
                path.chmod(0o660)
            door.listen(BACKLOG)
            door.setblocking(False)
        except OSError as error:
            door.close()
            raise ListenError(f"cannot listen on {path}: {error.strerror}") from error
    try:
        yield door
    finally:
        door.close()
        if _place(path) == place:
            path.unlink(missing_ok=True)


def group_number(name: str) -> int | None:
    """Return the number of `socket_group`; None when there is none.

    Raises:
        ListenError: no such group.

    """
    if not name:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ListenError(f'server.socket_group: there is no group "{name}"') from None


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ListenError(
            f"cannot listen on {path}: the directory {path.parent}: {error.strerror}"
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _address(path: Path, directory: int) -> str:
    """The path as a socket address; one that is too long goes through its open directory."""
    if len(os.fsencode(path)) <= PATH_MOST:
        return str(path)
    return f"/proc/self/fd/{directory}/{path.name}"


def _clear(path: Path, directory: int) -> None:
    """Remove the file of a dead daemon."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ListenError(f"cannot listen on {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(f"cannot listen on {path}: something else has that name")
    if _answers(_address(path, directory)):
        raise ListenError(f"cannot listen on {path}: another daemon listens there")
    path.unlink(missing_ok=True)


def _answers(address: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(1.0)
        try:
            door.connect(address)
        except TimeoutError:
            return True  # alive, but its line is full
        except OSError:
            return False
        return True


def _place(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
