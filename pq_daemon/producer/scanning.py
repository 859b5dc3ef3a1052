"""The scan: what is on the disk, in the order of the ledger, and how the two differ.

The walk goes depth first in the bytewise order of whole paths, so it can be laid against the
ledger page by page: a million files need the memory of one page. It never follows a symbolic link
and never enters what the plan leaves out. A directory that could not be read is named, and nothing
below it is taken for gone.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from pq_daemon.producer.plan import below, parent
from pq_daemon.producer.readiness import GONE, identity_of
from pq_daemon.runtime.names import is_text
from pq_daemon.store.protocol import FileState, Sighting

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from pq_daemon.jobs.versions import Identity
    from pq_daemon.producer.plan import Judgement, Plan
    from pq_daemon.store.protocol import LedgerEntry

CHUNK: Final = 2000
DIRECTORIES_MOST: Final = 500
"""Directories read for one chunk, so that a tree without files is walked in pieces too."""


class Seen(NamedTuple):
    path: bytes
    identity: Identity
    regular: bool


@dataclass
class Chunk:
    """A piece of the walk: everything up to `upto` (None: to the end) has been seen."""

    files: list[Seen] = field(default_factory=list)
    unreadable: list[bytes] = field(default_factory=list)
    foreign: bytes | None = None  # a directory whose name is not UTF-8: notifications die of it
    upto: bytes | None = None
    directories: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.files) >= CHUNK or self.directories >= DIRECTORIES_MOST


class Stopped(Exception):
    """We are stopping: the walk is not complete."""


def walk(plan: Plan, root: bytes, top: bytes, stopping: threading.Event) -> Iterator[Chunk]:
    """Walk the files that `root` answers for, from `top` (it or a directory below). Blocking.

    Raises:
        Stopped: before the end.

    """
    chunk = Chunk()
    pending: list[Iterator[bytes]] = [_list(top, chunk)]
    directories = [top]
    ours = [plan.owner(top) == root]
    while pending:
        if stopping.is_set():
            raise Stopped
        name = next(pending[-1], None)
        if name is None:
            pending.pop(), directories.pop(), ours.pop()
            continue
        path = directories[-1] + b"/" + name.rstrip(b"/")
        if name.endswith(b"/"):
            if plan.enters(root, path):
                pending.append(_list(path, chunk))
                directories.append(path)
                ours.append(plan.owner(path) == root)
        elif ours[-1] and not plan.is_left_out(path):
            _look(path, chunk)
        if chunk.is_full:
            chunk.upto = path if not name.endswith(b"/") else path + b"/"
            yield chunk
            chunk = Chunk()
    yield chunk


def _list(directory: bytes, chunk: Chunk) -> Iterator[bytes]:
    """Names in path order: a directory's ends with a slash, as it does inside whole paths."""
    chunk.directories += 1
    if not is_text(directory):
        chunk.foreign = directory
    try:
        with os.scandir(directory) as entries:
            names = [e.name + b"/" if e.is_dir(follow_symlinks=False) else e.name for e in entries]
    except OSError as error:
        if error.errno not in GONE:
            chunk.unreadable.append(directory)
        return iter(())
    names.sort()
    return iter(names)


def _look(path: bytes, chunk: Chunk) -> None:
    try:
        found = os.lstat(path)
    except OSError:  # gone since it was listed, or not ours to look at: the ledger decides
        return
    if not stat.S_ISDIR(found.st_mode):
        chunk.files.append(Seen(path, identity_of(found), stat.S_ISREG(found.st_mode)))


@dataclass
class Difference:
    """What the disk says and the ledger does not, and the other way round."""

    news: list[tuple[Seen, LedgerEntry | None]] = field(default_factory=list)
    absent: list[LedgerEntry] = field(default_factory=list)


def compare(
    files: Sequence[Seen], entries: Sequence[LedgerEntry], *, inodes_count: bool
) -> Difference:
    """Lay a stretch of the walk against the same stretch of the ledger. Pure."""
    ledger = {entry.path: entry for entry in entries}
    difference = Difference()
    for seen in files:
        entry = ledger.pop(seen.path, None)
        if entry is None or not is_settled(entry, seen.identity, inodes_count=inodes_count):
            difference.news.append((seen, entry))
    difference.absent = [e for e in ledger.values() if is_expected(e)]
    return difference


def is_expected(entry: LedgerEntry) -> bool:
    """Whether a file should be at its path: not when it has vanished, or lies at work."""
    at_work = entry.state is FileState.ACCEPTED and entry.gone
    return entry.state is not FileState.VANISHED and not at_work


def is_settled(entry: LedgerEntry, identity: Identity, *, inodes_count: bool) -> bool:
    """Whether this very version was taken before: nothing to do."""
    if entry.gone or entry.accepted is None:
        return False
    return is_same(entry.accepted, identity, inodes_count=inodes_count)


def is_same(one: Identity, other: Identity, *, inodes_count: bool) -> bool:
    return one == other if inodes_count else one[1:] == other[1:]


def confirm_gone(
    plan: Plan, root: bytes, absent: Sequence[LedgerEntry], unreadable: Sequence[bytes]
) -> list[bytes]:
    """Look at each path the walk did not meet; return those that are surely gone. Blocking."""
    return [
        entry.path
        for entry in absent
        if plan.owner(parent(entry.path)) == root
        and not any(below(entry.path, directory) for directory in unreadable)
        and is_gone(entry.path)
    ]


def is_gone(path: bytes) -> bool:
    """Whether no file is there; what cannot be told is not gone."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError as error:
        return error.errno in GONE


@dataclass
class Assessment:
    """What is to be done about a stretch of the walk. `wanted` carries the ledger's row, if any."""

    wanted: list[tuple[Seen, LedgerEntry | None, Judgement]] = field(default_factory=list)
    aside: list[Sighting] = field(default_factory=list)
    absent: list[LedgerEntry] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not self.wanted and not self.aside and not self.absent


def assess(
    plan: Plan,
    root: bytes,
    files: Sequence[Seen],
    entries: Sequence[LedgerEntry],
    *,
    inodes_count: bool,
) -> Assessment:
    """Compare, and judge what differs. Pure. Rows of roots inside this one are their business."""
    difference = compare(files, entries, inodes_count=inodes_count)
    absent = [entry for entry in difference.absent if plan.owner(parent(entry.path)) == root]
    assessment = Assessment(absent=absent)
    for seen, entry in difference.news:
        judged = plan.judge(seen.path, seen.identity.size, regular=seen.regular)
        if judged is None:
            continue
        if judged.reason is None:
            assessment.wanted.append((seen, entry, judged))
        elif not says(entry, seen.identity, judged):
            assessment.aside.append(
                Sighting(
                    judged.watch.name,
                    judged.watch.root,
                    judged.relpath,
                    judged.state,
                    judged.reason,
                    seen.identity,
                )
            )
    return assessment


def says(entry: LedgerEntry | None, identity: Identity, judged: Judgement) -> bool:
    """Whether the ledger's row is already what it would become."""
    return (
        entry is not None
        and entry.state is judged.state
        and entry.reason == judged.reason
        and entry.seen == identity
    )
