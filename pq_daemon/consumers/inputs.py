"""Is a job's file still the version that was accepted? Asked before each attempt and after exit 0.

Blocking, and it may hang on a dead mount: call it in a thread. Size, mtime and inode that agree
are enough; a mtime that an uploader set late, or a touch, is not a new version: then the content
decides, as it did at acceptance. A root that is missing, unreadable or not the directory it was
says nothing about its files: their jobs wait.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from pq_daemon.jobs.versions import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pq_daemon.jobs.model import FileVersion
    from pq_daemon.jobs.order import Moment

GONE: Final = (FileNotFoundError, NotADirectoryError)
WAIT_LEAST: Final = 30.0
WAIT_MOST: Final = 300.0


class Look(Enum):
    SAME = auto()
    GONE = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Nothing can be said of the file now: why, and after how many seconds to ask again."""

    reason: str
    wait: float


def within_reach(_root: bytes, _at: Moment) -> str:
    """Nobody knows better: what is missing is gone."""
    return ""


class Roots:
    """The watched directories as they were when the configuration was applied.

    `out_of_reach(root, at)` is asked before a file is called gone: why that cannot be said, because
    another directory stands there now than at that moment; empty when it can.
    """

    def __init__(self, out_of_reach: Callable[[bytes, Moment], str] = within_reach) -> None:
        self.out_of_reach = out_of_reach
        self._known: dict[bytes, tuple[int, int]] = {}
        self._lost_since: dict[bytes, float] = {}

    def remember(self, paths: Iterable[os.PathLike[str]]) -> None:
        """Look at the roots. One that is missing now is only asked whether it is there."""
        known = {}
        for path in paths:
            root = os.path.realpath(os.fsencode(path))
            try:
                found = os.stat(root)  # noqa: PTH116 - names are bytes
            except OSError:
                continue
            known[root] = (found.st_dev, found.st_ino)
        self._known = known

    def trouble(self, root: bytes) -> str | None:
        """Return what is wrong with a root, None when its files can be believed to be gone."""
        try:
            found = os.stat(root)  # noqa: PTH116 - names are bytes
            with os.scandir(root):
                pass
        except GONE:
            return "watch root missing"
        except OSError as error:
            return f"watch root unreadable: {error.strerror}"
        if self._known.get(root, (found.st_dev, found.st_ino)) != (found.st_dev, found.st_ino):
            return "watch root replaced"
        return None

    def wait(self, root: bytes) -> float:
        """Seconds to wait for a root: the longer, the longer it has been away."""
        since = self._lost_since.setdefault(root, time.monotonic())
        return min(WAIT_MOST, max(WAIT_LEAST, time.monotonic() - since))

    def found(self, root: bytes) -> None:
        if self._lost_since:
            self._lost_since.pop(root, None)


def look(file: FileVersion, accepted_at: Moment, roots: Roots) -> Look | Unreachable:
    """Compare what is there with what was accepted."""
    try:
        now = os.lstat(file.path)
    except GONE:
        trouble = roots.trouble(file.root) or roots.out_of_reach(file.root, accepted_at)
        if not trouble:
            return Look.GONE
        return Unreachable(trouble, roots.wait(file.root))
    except OSError as error:
        return Unreachable(f"input unreadable: {error.strerror}", roots.wait(file.root))
    roots.found(file.root)
    if not stat.S_ISREG(now.st_mode):
        return Look.OTHER
    identity = Identity(now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    if file.identity.same_file(identity, inodes_count=file.inodes_count):
        return Look.SAME
    return _by_content(file, identity)


def _by_content(file: FileVersion, found: Identity) -> Look | Unreachable:
    if file.sha256 is None or file.identity.size != found.size:
        return Look.OTHER
    try:
        return Look.SAME if sha256(file.path) == file.sha256 else Look.OTHER
    except GONE:
        return Look.OTHER
    except OSError as error:
        return Unreachable(f"input unreadable: {error.strerror}", WAIT_LEAST)


def sha256(path: bytes) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, opened with care
        return hashlib.file_digest(file, "sha256").digest()
