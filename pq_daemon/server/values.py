"""Values as the API shows them: the shapes of the contract, one function each.

Times are UTC with milliseconds and a Z; ids are decimal strings, because JavaScript's numbers end
at 2**53; names are text, and `…_b64` carries the bytes where the text could not.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.jobs.states import State
from pq_daemon.jobs.status import WatchState
from pq_daemon.runtime.names import is_text, shown
from pq_daemon.store.protocol import FileState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pq_daemon.jobs.model import Attempt, FileVersion, Job, Progress
    from pq_daemon.jobs.order import Moment
    from pq_daemon.jobs.status import SlotStatus, WatchStatus
    from pq_daemon.store.feed import Told
    from pq_daemon.store.protocol import AuditEntry, LedgerEntry, QueueRecord, WatchRecord

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NO_FILE: Final[Mapping[str, Any]] = {
    "name": None,
    "relpath": None,
    "path": None,
    "size": None,
    "sha256": None,
}


def encoded(value: Any) -> bytes:
    """JSON as it goes out; what no encoding can carry is escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode("utf-8", "backslashreplace")


def time(moment: Moment | None) -> str | None:
    if moment is None:
        return None
    at = EPOCH + timedelta(milliseconds=moment)
    return at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def job(job: Job, progress: Progress | None = None) -> dict[str, Any]:
    """Show a job; `progress` is what its handler said last, while it runs."""
    return {
        "id": str(job.id),
        "queue": job.queue,
        "watch": job.file.watch if job.file else None,
        **(NO_FILE if job.file is None else _file(job.file)),
        "state": job.state.value,
        "reason": job.reason.value if job.reason else None,
        "priority": job.priority.value,
        "attempt": job.attempt,
        "spent": job.spent,
        "max_attempts": job.max_attempts,
        "created_at": time(job.created_at),
        "run_at": time(job.run_at),
        "started_at": time(job.started_at),
        "finished_at": time(job.finished_at),
        "progress": progress_of(progress or job.progress),
        "error": job.error,
        "result": _parsed(job.result),
        "cancel_requested_at": time(job.cancel_requested_at),
        "key": job.key,
        "run": job.run,
    }


def _file(file: FileVersion) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": shown(base_name(file.relpath)),
        "relpath": shown(file.relpath),
        "path": shown(file.path),
        "size": file.identity.size,
        "sha256": file.sha256.hex() if file.sha256 else None,
    }
    if not is_text(file.path):
        found["path_b64"] = base64.b64encode(file.path).decode()
    return found


def base_name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]


def _parsed(result: str | None) -> Any:
    if result is None:
        return None
    try:
        return json.loads(result)
    except (ValueError, RecursionError):
        return result


def progress_of(progress: Progress | None) -> dict[str, Any] | None:
    return None if progress is None else {"percent": progress.percent, "text": progress.text}


def attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "attempt": attempt.number,
        "outcome": attempt.outcome.value if attempt.outcome else None,
        "reason": attempt.reason,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "slot": attempt.slot,
        "started_at": time(attempt.started_at),
        "finished_at": time(attempt.finished_at),
        "output": {
            "stdout": attempt.output.stdout,
            "stderr": attempt.output.stderr,
            "cut": attempt.output.cut,
        },
        "config": None if attempt.config is None else str(attempt.config),
    }


def consumer(slot: SlotStatus, *, named: bool = True) -> dict[str, Any]:
    """Show a slot; without names for those who may only see counts."""
    job = None
    if slot.job is not None:
        job = {"id": str(slot.job), "name": slot.name if named else None, "queue": slot.queue}
    progress = progress_of(slot.progress)
    if progress is not None and not named:
        progress["text"] = ""
    return {
        "slot": slot.slot,
        "state": slot.state.value,
        "job": job,
        "attempt": slot.attempt,
        "since": time(slot.since),
        "progress": progress,
    }


def queue(record: QueueRecord, *, named: bool = True) -> dict[str, Any]:
    """Show a queue; without people's words for those who may only see counts."""
    paused = None
    if record.paused is not None:
        paused = {
            "reason": record.paused.reason if named else "",
            "by": record.paused.by if named else "",
            "at": time(record.paused.at),
        }
    return {
        "name": record.name,
        "handler": record.handler,
        "concurrency": record.concurrency,
        "paused": paused,
        "removed": record.removed,
        "counts": {state.value: record.counts.get(state, 0) for state in State},
        "oldest_queued_at": time(record.oldest_queued_at),
        "backlog": None,
    }


def watch(record: WatchRecord, status: WatchStatus | None) -> dict[str, Any]:
    counts = {state.value: record.counts.get(state, 0) for state in FileState}
    return {
        "name": record.name,
        "path": shown(record.root),
        "queue": record.queue,
        "status": (status.state if status else WatchState.DEGRADED).value,
        "reason": status.reason if status else "not looked at yet",
        "counts": {
            "seen": sum(counts.values()),
            **counts,
            "missed_by_events": record.missed_by_events,
        },
        "last_scan": time(status.last_scan) if status else None,
    }


def file(entry: LedgerEntry, root: bytes) -> dict[str, Any]:
    relpath = entry.path.removeprefix(root + b"/")
    found: dict[str, Any] = {
        "relpath": shown(relpath),
        "state": entry.state.value,
        "reason": entry.reason,
        "size": entry.seen.size,
        "changed_at": time(entry.changed_at),
        "job": None if entry.job is None else str(entry.job),
    }
    if not is_text(relpath):
        found["relpath_b64"] = base64.b64encode(relpath).decode()
    return found


def event(told: Told, epoch: str) -> dict[str, Any]:
    fact = told.fact
    return {
        "epoch": epoch,
        "seq": told.seq,
        "at": time(told.at),
        "type": fact.type,
        "job": None if fact.job is None else str(fact.job),
        "queue": fact.queue,
        "data": dict(fact.data),
    }


def audit(entry: AuditEntry) -> dict[str, Any]:
    actor = entry.actor
    return {
        "id": str(entry.id),
        "at": time(entry.at),
        "actor": {
            "name": actor.name,
            "role": actor.role,
            "via": actor.via,
            "address": actor.address,
        },
        "action": entry.action,
        "target": entry.target,
        "reason": entry.reason,
        "detail": dict(entry.detail),
    }
