"""Passwords: hashed with argon2id, compared, and known when they are the demo's.

The cost (19 MiB, 2 passes, 1 lane) is the least that OWASP recommends: about 36 ms for us, and for
an attacker at each guess. All of it blocks: the server calls it in threads, two at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from pq_daemon.config.password_entry import set_password

if TYPE_CHECKING:
    from pq_daemon.config.settings import Settings, UserSettings

__all__ = [
    "DEMO_PASSWORD",
    "demo_users",
    "hash_password",
    "is_hash",
    "needs_rehash",
    "set_password",
    "uses_demo_password",
    "verify",
]

DEMO_PASSWORD: Final = "admin123"  # noqa: S105 - public on purpose, and refused once others can connect
_HASHER: Final = argon2.PasswordHasher(
    time_cost=2, memory_cost=19 * 1024, parallelism=1, hash_len=32, salt_len=16
)


def hash_password(password: str) -> str:
    """Return what a `[[user]]` keeps of a password. Slow."""
    return _HASHER.hash(password)


def verify(password_hash: str, password: str) -> bool:
    """Whether this is the password. Slow; False for a hash that is none."""
    try:
        return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError, UnicodeEncodeError):
        return False


def needs_rehash(password_hash: str) -> bool:
    """Whether the hash was made with other costs than today's."""
    return _HASHER.check_needs_rehash(password_hash)


def is_hash(text: str) -> bool:
    """Whether a text is a whole argon2id hash."""
    try:
        return argon2.extract_parameters(text).type is argon2.Type.ID
    except InvalidHashError:
        return False


def uses_demo_password(user: UserSettings) -> bool:
    """Whether the user's password is the one the demo publishes. Slow."""
    return verify(user.password_hash, DEMO_PASSWORD)


def demo_users(settings: Settings) -> tuple[str, ...]:
    """Return the names of the users to warn of while they have the demo password. Slow."""
    return tuple(user.name for user in settings.users if uses_demo_password(user))
