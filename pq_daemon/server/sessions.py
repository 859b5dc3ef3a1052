"""Sessions of browsers: a random token in a cookie, of which the store knows only the hash.

The cookie also carries a seal made with the account's password hash. So a new password ends every
session of the account, also one that was set while the daemon was down, without a list to keep.
A session ends after 30 idle minutes, and after 12 hours whatever happens.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiohttp import web

    from pq_daemon.config.settings import UserSettings
    from pq_daemon.server.access import Access
    from pq_daemon.store.protocol import Session, Store

IDLE_MOST_MS: Final = 30 * 60 * 1000
AGE_MOST_MS: Final = 12 * 3600 * 1000
TOUCH_EVERY_MS: Final = 60 * 1000
"""A session's last sight is written this often at most: a page of requests is not one of writes."""

COOKIE: Final = re.compile(r"([A-Za-z0-9_-]{43})\.([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that holds, and the account it is of."""

    user: UserSettings
    token_hash: bytes


class Sessions:
    """Opens, recognises and ends sessions."""

    def __init__(self, store: Store, access: Access, port: int) -> None:
        self._store = store
        self._access = access
        # Cookies do not know ports: two daemons on one loopback address would share one name.
        self.cookie_name = f"pq_{port}"

    async def open(self, user: UserSettings, response: web.Response) -> None:
        token = secrets.token_urlsafe(32)
        await self._store.open_session(_hash(token), user.name)
        response.set_cookie(
            self.cookie_name,
            f"{token}.{_seal(token, user)}",
            path="/",
            httponly=True,
            samesite="Strict",
        )

    async def find(self, cookie: str, *, touch: bool) -> SignedIn | None:
        """Return who a cookie's session is of, or None. `touch`: this is the person, not a poll."""
        parts = COOKIE.fullmatch(cookie)
        if not parts:
            return None
        token_hash = _hash(parts[1])
        session = await self._store.session(token_hash)
        user = self._access.users.get(session.user) if session else None
        if session is None or user is None:
            return None
        now = self._store.now()
        if _has_ended(session, now) or not hmac.compare_digest(_seal(parts[1], user), parts[2]):
            await self._store.close_sessions(token_hash=token_hash)
            return None
        if touch and now - session.seen_at >= TOUCH_EVERY_MS:
            await self._store.touch_session(token_hash)
        return SignedIn(user, token_hash)

    async def close(self, token_hash: bytes) -> None:
        await self._store.close_sessions(token_hash=token_hash)

    def forget(self, response: web.Response) -> None:
        response.del_cookie(self.cookie_name, path="/", httponly=True, samesite="Strict")


def _has_ended(session: Session, now: int) -> bool:
    return now - session.seen_at > IDLE_MOST_MS or now - session.created_at > AGE_MOST_MS


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _seal(token: str, user: UserSettings) -> str:
    return hmac.new(token.encode(), user.password_hash.encode(), hashlib.sha256).hexdigest()
