"""Who may come in at all: the accounts, the hosts we answer to, how public /ops is.

Replaced whole by a reload; everything that decides reads it at the moment it decides, so a role
that was taken away is gone with the next request.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pq_daemon.config import Settings
    from pq_daemon.config.settings import Role, UserSettings

RANK: Final = {"viewer": 1, "operator": 2, "manager": 3}
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def outranks(role: Role | None, needed: Role) -> bool:
    """Whether a role includes the needed one."""
    return role is not None and RANK[role] >= RANK[needed]


class Access:
    """The rules in force."""

    def __init__(self, settings: Settings) -> None:
        self.configure(settings)

    def __repr__(self) -> str:
        return f"<Access users={len(self.users)} ops_public={self.ops_public}>"

    def configure(self, settings: Settings) -> None:
        self.users: dict[str, UserSettings] = {user.name: user for user in settings.users}
        self.ops_public: Literal["off", "counts", "full"] = settings.server.ops_public
        self._hosts = frozenset(_allowed(settings))

    @property
    def only_user(self) -> UserSettings | None:
        """The account, when there is exactly one: then nobody has to type its name."""
        users = tuple(self.users.values())
        return users[0] if len(users) == 1 else None

    def answers_to(self, host: str) -> bool:
        """Whether a Host header names us. A name without a port is allowed with any.

        A foreign page can make a browser resolve its own name to our address (DNS rebinding), but
        it cannot make it send another name; ports play no part in that, and tunnels change them.
        """
        name, port = split_host(host)
        return bool(name) and ((name, None) in self._hosts or (name, port) in self._hosts)


def split_host(host: str) -> tuple[str, int | None]:
    """Return (name, port) of a host as headers and settings write it; ("", None) for nonsense."""
    try:
        parts = urlsplit(f"//{host}")
        if parts.username is not None or parts.path or parts.query or parts.fragment:
            return "", None
        return (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return "", None


def is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _allowed(settings: Settings) -> Iterator[tuple[str, int | None]]:
    listen, _ = split_host(settings.server.listen)
    yield listen, None
    yield "localhost", None
    if is_loopback(listen):
        yield from ((name, None) for name in LOOPBACK)
    yield from (split_host(host.lower()) for host in settings.server.allowed_hosts)
    if settings.server.public_url:
        yield split_host(urlsplit(settings.server.public_url).netloc)
