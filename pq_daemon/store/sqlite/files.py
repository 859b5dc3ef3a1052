"""Changes of the ledger: files that wait, are ignored, gone or put away; outputs published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pq_daemon.errors import NotFoundError
from pq_daemon.store.feed import Fact
from pq_daemon.store.protocol import Disposition, FileClaim, FileState
from pq_daemon.store.sqlite import queries, rows
from pq_daemon.store.sqlite.accepting import count_move

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pq_daemon.jobs.model import FileVersion, JobId, WatchName
    from pq_daemon.store.protocol import Epoch, LedgerEntry, Publication, Sighting
    from pq_daemon.store.sqlite.rows import Names
    from pq_daemon.store.sqlite.transaction import Transaction

PUT_AWAY: Final = "done"


def sight(transaction: Transaction, names: Names, sightings: Sequence[Sighting]) -> None:
    for sighting in sightings:
        _sight_one(transaction, names, sighting)


def _sight_one(transaction: Transaction, names: Names, sighting: Sighting) -> None:
    path = sighting.root + b"/" + sighting.relpath
    entry = read_entry(transaction, names, path)
    watch = names.watch_id[sighting.watch]
    version: tuple[int, int, int, int] | tuple[None, None, None, None] = (None,) * 4
    if entry is not None and entry.accepted is not None:
        version = rows.stored(entry.accepted)
    transaction.change(
        queries.PUT_ENTRY,
        (
            path,
            watch,
            sighting.state.value,
            sighting.reason,
            *rows.stored(sighting.identity),
            *version,
            entry.sha256 if entry else None,
            entry.job if entry else None,
            int(entry.gone) if entry else 0,
            transaction.moment,
        ),
    )
    count_move(transaction, names, entry, watch, sighting.state)


def vanish(transaction: Transaction, names: Names, paths: Sequence[bytes]) -> None:
    for path in paths:
        entry = read_entry(transaction, names, path)
        if entry is None or (entry.state is FileState.VANISHED and entry.gone):
            continue
        transaction.change(queries.VANISH, (transaction.moment, path))
        count_move(transaction, names, entry, names.watch_id[entry.watch], FileState.VANISHED)


def read_entry(transaction: Transaction, names: Names, path: bytes) -> LedgerEntry | None:
    found = transaction.rows(queries.ENTRY, (path,))
    return rows.entry_from(found[0], names) if found else None


def missed(transaction: Transaction, watch: WatchName, count: int) -> None:
    if not transaction.change(queries.MISSED, (count, watch)):
        raise NotFoundError(f"no watch {watch!r}")


# --- claims ------------------------------------------------------------------------------------


def claim_file(transaction: Transaction, names: Names, file: FileVersion) -> FileClaim:
    if file.watch is None:
        raise NotFoundError("only a file of a watch can be claimed")
    number = transaction.insert(
        queries.INSERT_CLAIM,
        (names.watch_id[file.watch], file.root, file.relpath, *rows.stored(file.identity),
         transaction.moment),
    )  # fmt: skip
    return FileClaim(number, file.watch, file.root, file.relpath, file.identity)


def file_claims(transaction: Transaction, names: Names) -> list[FileClaim]:
    return [
        FileClaim(number, names.watch[watch], root, relpath, rows.identity(*seen))
        for number, watch, root, relpath, *seen in transaction.rows(queries.CLAIMS)
    ]


def give_up_claim(transaction: Transaction, claim: int) -> None:
    transaction.change(queries.DELETE_CLAIM, (claim,))


# --- after-actions -----------------------------------------------------------------------------


def dispositions(
    transaction: Transaction, names: Names, after: JobId, limit: int
) -> list[Disposition]:
    return [
        Disposition(job, kind, directory, rows.file_from(file, names))
        for job, kind, directory, *file in transaction.rows(queries.DISPOSITIONS, (after, limit))
    ]


def disposed(
    transaction: Transaction, names: Names, job: JobId, result: str, target: bytes | None
) -> None:
    """Record an after-action as done or left alone; a file put away is gone from its place."""
    done = transaction.change(queries.DISPOSED, (transaction.moment, result, target, job))
    if not done:
        return
    [row] = transaction.rows(queries.JOB, (job,))
    found = rows.job_from(row, names)
    if result == PUT_AWAY and found.file is not None:
        entry = read_entry(transaction, names, found.file.origin)
        if entry is not None and entry.job == job:
            vanish(transaction, names, [found.file.origin])
    transaction.tell(Fact("file.disposed", job, found.queue, {"result": result}))


# --- outputs -----------------------------------------------------------------------------------


def publishing(
    transaction: Transaction, epoch: Epoch, job: JobId, attempt: int, publication: Publication
) -> bool:
    if not transaction.rows(queries.OURS_TO_PUBLISH, (job, attempt, epoch.id)):
        return False
    inode, size, mtime_ns, ctime_ns = rows.stored(publication.identity)
    transaction.change(
        queries.PUBLISH,
        (publication.target, inode, size, mtime_ns, ctime_ns, publication.temp,
         publication.exit_code, job, attempt),
    )  # fmt: skip
    return True
