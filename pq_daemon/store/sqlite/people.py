"""Changes about people: the audit trail and sessions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pq_daemon.store.sqlite import queries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pq_daemon.jobs.order import Moment
    from pq_daemon.store.protocol import Actor
    from pq_daemon.store.sqlite.transaction import Transaction


def record(
    transaction: Transaction,
    actor: Actor,
    action: str,
    target: str,
    *,
    job: int | None = None,
    reason: str = "",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write who did what and why, in the transaction that does it."""
    transaction.change(
        queries.INSERT_AUDIT,
        (
            transaction.moment,
            actor.name,
            actor.role,
            actor.via,
            actor.address,
            action,
            target,
            job,
            reason,
            json.dumps(dict(detail or {}), ensure_ascii=False),
        ),
    )


def open_session(transaction: Transaction, token_hash: bytes, user: str) -> None:
    now = transaction.moment
    transaction.change(queries.INSERT_SESSION, (token_hash, user, now, now))


def touch_session(transaction: Transaction, token_hash: bytes) -> None:
    transaction.change(queries.TOUCH_SESSION, (transaction.moment, token_hash))


def forget_sessions(transaction: Transaction, opened_before: Moment) -> int:
    return transaction.change(queries.FORGET_SESSIONS, (opened_before,))


def close_sessions(transaction: Transaction, token_hash: bytes | None, user: str | None) -> int:
    closed = 0
    if token_hash is not None:
        closed += transaction.change(queries.CLOSE_SESSION, (token_hash,))
    if user is not None:
        closed += transaction.change(queries.CLOSE_SESSIONS_OF, (user,))
    return closed
