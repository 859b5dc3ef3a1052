"""Changes that follow the configuration or a person's hand on a queue: queues, watches, texts."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pq_daemon.errors import NotFoundError
from pq_daemon.store.feed import Fact
from pq_daemon.store.sqlite import queries
from pq_daemon.store.sqlite.people import record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pq_daemon.jobs.model import QueueName, WatchName
    from pq_daemon.store.protocol import Actor, QueueEntry
    from pq_daemon.store.sqlite.transaction import Transaction


def configure_queues(transaction: Transaction, queues: Sequence[QueueEntry]) -> None:
    """Follow the file: a value that changed in it takes back what a person had set."""
    transaction.change(queries.FORGET_PLACES)
    for place, queue in enumerate(queues):
        values = {
            "name": queue.name,
            "handler": queue.handler,
            "place": place,
            "concurrency": queue.concurrency,
            "paused": int(queue.paused),
        }
        if not transaction.change(queries.UPDATE_QUEUE, values):
            transaction.change(
                queries.INSERT_QUEUE,
                (queue.name, queue.handler, place, queue.concurrency, int(queue.paused)),
            )
    transaction.tell(Fact("queue.configured", data={"queues": [queue.name for queue in queues]}))


def configure_watches(
    transaction: Transaction, watches: Sequence[tuple[WatchName, bytes, QueueName]]
) -> None:
    transaction.change(queries.FORGET_WATCH_PLACES)
    for place, (name, root, queue) in enumerate(watches):
        transaction.change(queries.PUT_WATCH, (name, root, queue, place))


def surveyed(transaction: Transaction, watch: WatchName) -> None:
    transaction.change(queries.SURVEYED, (transaction.moment, watch))


def pause(
    transaction: Transaction, queue: QueueName, actor: Actor, reason: str, *, paused: bool
) -> None:
    number = _queue_id(transaction, queue)
    at = transaction.moment
    by = (reason, actor.name, at) if paused else ("", "", None)
    transaction.change(queries.PAUSE, (int(paused), *by, number))
    verb = "pause" if paused else "resume"
    record(transaction, actor, f"queue.{verb}", f"queue {queue}", reason=reason)
    transaction.tell(Fact(f"queue.{verb}d", None, queue, {"by": actor.name, "reason": reason}))


def limit(
    transaction: Transaction, queue: QueueName, concurrency: int | None, actor: Actor, reason: str
) -> None:
    transaction.change(queries.LIMIT, (concurrency, _queue_id(transaction, queue)))
    detail = {"concurrency": concurrency}
    record(transaction, actor, "queue.limit", f"queue {queue}", reason=reason, detail=detail)
    transaction.tell(Fact("queue.limited", None, queue, {"by": actor.name, **detail}))


def _queue_id(transaction: Transaction, queue: QueueName) -> int:
    found = transaction.rows(queries.QUEUE, (queue,))
    if not found:
        raise NotFoundError(f"no queue {queue!r}")
    return int(found[0][0])


def remember_config(transaction: Transaction, text: str) -> int:
    digest = hashlib.sha256(text.encode()).digest()
    [(number,)] = transaction.rows(queries.PUT_CONFIG, (digest, text, transaction.moment))
    return int(number)
