"""Which watch a path belongs to, and what is to become of it: the configuration, made answerable.

Watches may share a directory or lie inside each other. Each directory has one root that answers
for the files directly in it: the deepest that reaches it. Of the watches on that root, the first in
file order whose patterns let a file through takes it; when none does, the first one shows why.

Left out always: the targets of `move:DIR`, our own `.pq` directory in a root, and our own
half-written files. A target that is itself a watched directory is that watch's input, not left out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from pq_daemon.jobs.model import QueueName, WatchName
from pq_daemon.producer.filters import OWN_PREFIX, Filter
from pq_daemon.producer.roots import Settle
from pq_daemon.store.protocol import FileState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pq_daemon.config import Settings, WatchSettings
    from pq_daemon.jobs.order import Priority

OWN_DIRECTORY: Final = b".pq"
WORK: Final = OWN_DIRECTORY + b"/work"
EMPTY: Final = "empty"
TOO_SMALL: Final = "too small"
NOT_A_FILE: Final = "not a regular file"
MARKER: Final = "marker"


@dataclass(frozen=True, slots=True)
class Watch:
    """One [[watch]], resolved. `configured` is the path as written, `root` the real one."""

    name: WatchName
    configured: bytes
    root: bytes
    recursive: bool
    queue: QueueName
    priority: Priority
    max_attempts: int
    filter: Filter
    marker: bytes  # what a file's name and this is, is the sign that it is whole; b"": none
    settle: Settle
    min_size: int
    existing: Literal["run", "skip", "hold"]
    hashed: bool  # identify = "content"
    unique: bool  # duplicates = "skip"
    moves: bool  # claim = "move"
    hold_new: bool
    rescan: float
    targets: tuple[bytes, ...]

    def reaches(self, directory: bytes) -> bool:
        return directory == self.root or (self.recursive and below(directory, self.root))

    def is_marker(self, relpath: bytes) -> bool:
        """Whether a name is that of a marker, of a file that the watch would take."""
        marked = marked_by(relpath, self.marker)
        return marked is not None and self.filter.objection(marked) is None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a look at a file says. `reason` is None for one that is to become a job."""

    watch: Watch
    relpath: bytes
    state: FileState
    reason: str | None


@dataclass(frozen=True)
class Plan:
    """All watches in file order."""

    watches: tuple[Watch, ...]
    roots: tuple[bytes, ...] = field(init=False)
    left_out: frozenset[bytes] = field(init=False)

    def __post_init__(self) -> None:
        roots = tuple(dict.fromkeys(watch.root for watch in self.watches))
        targets = {target for watch in self.watches for target in watch.targets}
        object.__setattr__(self, "roots", roots)
        object.__setattr__(self, "left_out", frozenset(targets - set(roots)))

    def on(self, root: bytes) -> tuple[Watch, ...]:
        return tuple(watch for watch in self.watches if watch.root == root)

    def is_recursive(self, root: bytes) -> bool:
        return any(watch.recursive for watch in self.on(root))

    def owner(self, directory: bytes) -> bytes | None:
        """Return the root that answers for the files directly in a directory."""
        reaching = [watch.root for watch in self.watches if watch.reaches(directory)]
        return max(reaching, key=len, default=None)

    def enters(self, root: bytes, directory: bytes) -> bool:
        """Whether a walk of `root` goes into a directory below it."""
        if not self.is_recursive(root) or self.is_left_out(directory):
            return False
        return not any(watch.recursive and watch.root == directory for watch in self.watches)

    def is_left_out(self, path: bytes) -> bool:
        """Whether a path is one of ours, or a target of after-actions: never looked at."""
        directory, _, name = path.rpartition(b"/")
        return (
            name.startswith(OWN_PREFIX)
            or path in self.left_out
            or (name == OWN_DIRECTORY and directory in self.roots)
            or path.endswith(b"/" + WORK)  # also of a root that is none any more
        )

    def lies_left_out(self, path: bytes) -> bool:
        """Whether a path or a directory above it is left out."""
        root = self.owner(parent(path))
        while root is not None and path != root and below(path, root):
            if self.is_left_out(path):
                return True
            path = parent(path)
        return False

    def marker(self, name: WatchName | None) -> bytes:
        """Return the ending of a watch's markers; empty when its files need none."""
        return next((watch.marker for watch in self.watches if watch.name == name), b"")

    def judge(self, path: bytes, size: int, *, regular: bool) -> Judgement | None:
        """Decide about a file that was seen; None when no watch reaches it."""
        directory = parent(path)
        root = self.owner(directory)
        reaching = [w for w in self.watches if w.root == root and w.reaches(directory)]
        if root is None or not reaching:
            return None
        relpath = path[len(root) + 1 :]
        if not regular:
            return Judgement(reaching[0], relpath, FileState.IGNORED, NOT_A_FILE)
        for watch in reaching:
            if watch.is_marker(relpath):
                return Judgement(watch, relpath, FileState.IGNORED, MARKER)
            if watch.filter.objection(relpath) is None:
                return Judgement(watch, relpath, FileState.WAITING, too_small(size, watch.min_size))
        objection = reaching[0].filter.objection(relpath)
        return Judgement(reaching[0], relpath, FileState.IGNORED, objection)

    def marked(self, path: bytes) -> list[bytes]:
        """Return the files that wait for a path as their marker."""
        root = self.owner(parent(path))
        found = [marked_by(path, watch.marker) for watch in self.watches if watch.root == root]
        return [file for file in found if file is not None]


def too_small(size: int, least: int) -> str | None:
    if size >= least:
        return None
    return EMPTY if size == 0 else TOO_SMALL


def marked_by(path: bytes, marker: bytes) -> bytes | None:
    """Return the file whose marker a path would be."""
    name = path.rpartition(b"/")[2]
    is_one = bool(marker) and name.endswith(marker) and name != marker
    return path[: -len(marker)] if is_one else None


def parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0] or b"/"


def below(path: bytes, directory: bytes) -> bool:
    """Whether a path lies inside a directory, at any depth."""
    return path.startswith(directory + b"/")


def outermost(directories: Iterable[bytes]) -> list[bytes]:
    """Drop those that lie inside another one."""
    kept: list[bytes] = []
    for directory in sorted(set(directories)):
        if not any(below(directory, other) for other in kept):
            kept.append(directory)
    return kept


def make_plan(settings: Settings, resolve: Callable[[bytes], bytes] = os.path.realpath) -> Plan:
    """Resolve the configured paths. Blocking: it asks the file system."""
    return Plan(tuple(_resolved(watch, settings, resolve) for watch in settings.watches))


def _resolved(watch: WatchSettings, settings: Settings, resolve: Callable[[bytes], bytes]) -> Watch:
    name = watch.queue or watch.name
    queue = settings.queues[name]
    configured = os.fsencode(watch.path)
    root = resolve(configured)
    return Watch(
        name=WatchName(watch.name),
        configured=configured,
        root=root,
        recursive=watch.recursive,
        queue=QueueName(name),
        priority=watch.priority or queue.priority,
        max_attempts=queue.max_attempts,
        filter=Filter(watch.include, watch.exclude, watch.builtin_excludes),
        marker=os.fsencode(watch.marker),
        settle=Settle(None if watch.settle == "auto" else watch.settle),
        min_size=watch.min_size,
        existing=watch.existing,
        hashed=watch.identify == "content",
        unique=watch.duplicates == "skip",
        moves=watch.claim == "move",
        hold_new=queue.hold_new,
        rescan=watch.rescan,
        targets=tuple(
            target
            for action in (watch.on_success, watch.on_failure)
            for target in _targets(root, action, resolve)
        ),
    )


def _targets(root: bytes, action: str, resolve: Callable[[bytes], bytes]) -> list[bytes]:
    """Return the directory of `move:DIR`, as written and as it really is."""
    kind, _, directory = action.partition(":")
    if kind != "move":
        return []
    written = os.path.normpath(root + b"/" + os.fsencode(directory))
    return list(dict.fromkeys((written, resolve(written))))
