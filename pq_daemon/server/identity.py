"""Who is asking: a signed-in browser, a process on the control socket, or nobody.

A socket's peer is told by the kernel. The state directory's owner and root are managers there,
members of `socket_group` operators; anybody else is refused, whatever the file's mode let through.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from pq_daemon.server.access import outranks
from pq_daemon.server.keys import ACCESS, SESSIONS
from pq_daemon.server.problems import Problem
from pq_daemon.store.protocol import Actor

if TYPE_CHECKING:
    from aiohttp import web

    from pq_daemon.config.settings import Role

SO_PEERGROUPS: Final = 59
CREDENTIALS: Final = struct.Struct("iII")
GROUPS_MOST: Final = 256
"""Python takes answers of 1,024 bytes at most; who is in more groups is in none here."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Somebody, or nobody. Without a role nothing is allowed that needs one."""

    name: str = ""
    role: Role | None = None
    via: str = "page"
    address: str = ""
    token_hash: bytes | None = None

    def may(self, role: Role) -> bool:
        return outranks(self.role, role)

    @property
    def actor(self) -> Actor:
        return Actor(self.name, self.role or "", self.via, self.address)


@dataclass(frozen=True, slots=True)
class Peer:
    pid: int
    uid: int
    groups: frozenset[int]


@dataclass(frozen=True, slots=True)
class SocketRights:
    """Whom the control socket obeys, settled when it is bound."""

    owner: int
    group: int | None

    def role(self, peer: Peer) -> Role | None:
        if peer.uid in {0, self.owner}:
            return "manager"
        return "operator" if self.group in peer.groups else None


async def who_asks(request: web.Request, rights: SocketRights) -> Asker:
    """Return who asks.

    Raises:
        Problem: 401 for a bearer token; 403 for a socket's peer that is not ours.

    """
    if "Authorization" in request.headers:
        raise Problem(401, "unauthorized", "bearer tokens are not yet available; sign in instead")
    peer = peer_of(request)
    if peer is not None:
        return _from_socket(peer, rights)
    return await _from_browser(request)


def is_on_socket(request: web.Request) -> bool:
    return peer_of(request) is not None


def peer_of(request: web.Request) -> Peer | None:
    """Return the process at the other end, when it came over the control socket."""
    transport = request.transport
    door = transport.get_extra_info("socket") if transport else None
    if door is None or door.family != socket.AF_UNIX:
        return None
    credentials = door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid, uid, gid = CREDENTIALS.unpack(credentials)
    return Peer(pid, uid, frozenset({gid, *_groups(door)}))


def _groups(door: socket.socket) -> tuple[int, ...]:
    try:
        raw = door.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_MOST * 4)
    except OSError:
        return ()
    return cast("tuple[int, ...]", struct.unpack(f"{len(raw) // 4}I", raw))


def _from_socket(peer: Peer, rights: SocketRights) -> Asker:
    role = rights.role(peer)
    if role is None:
        raise Problem(
            403,
            "forbidden",
            f"uid {peer.uid} may not use the control socket: it obeys the owner of the state "
            "directory, root, and members of server.socket_group",
        )
    return Asker(f"uid {peer.uid}", role, "socket", f"pid {peer.pid}")


async def _from_browser(request: web.Request) -> Asker:
    via = "api" if request.path.startswith("/api/") else "page"
    address = request.remote or ""
    cookie = request.cookies.get(request.app[SESSIONS].cookie_name)
    signed_in = await request.app[SESSIONS].find(cookie, touch=True) if cookie else None
    if signed_in is None:
        return Asker(via=via, address=address)
    user = request.app[ACCESS].users[signed_in.user.name]
    return Asker(user.name, user.role, via, address, signed_in.token_hash)
