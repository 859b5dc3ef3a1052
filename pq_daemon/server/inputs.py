"""Files that somebody names: which are ours to take, and what they are at this moment.

A path is taken when, with every link followed, it lies in a watch or in a submit root and is a
regular file; so no link leads out. Our own state directory is never taken: opening and closing the
database's file would drop the locks SQLite holds on it. All of this blocks: call it in a thread.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pq_daemon.errors import ConflictError, InputGoneError, InvalidRequestError
from pq_daemon.jobs.model import FileVersion, WatchName
from pq_daemon.jobs.versions import Identity
from pq_daemon.runtime.filesystems import WITHOUT_INODES, filesystem
from pq_daemon.runtime.names import shown

if TYPE_CHECKING:
    from pq_daemon.config import Settings
    from pq_daemon.jobs.model import Job


@dataclass(frozen=True, slots=True)
class Root:
    """A directory tree we take files from, its real path."""

    path: bytes
    watch: WatchName | None


def take(path: bytes, settings: Settings) -> FileVersion:
    """Look at a submitted path and hash its file.

    Raises:
        InvalidRequestError: it is not a regular file in one of our roots.
        ConflictError: it changes while we read it.

    """
    real = _real(path)
    root = _root_of(real, settings)
    _refuse_our_own(real, settings)
    identity, sha256 = _hashed(real)
    return FileVersion(
        watch=root.watch,
        root=root.path,
        relpath=real[len(root.path) + 1 :],
        identity=identity,
        inodes_count=filesystem(root.path or b"/") not in WITHOUT_INODES,
        sha256=sha256,
    )


def insist_it_is_there(job: Job) -> None:
    """Refuse to run a job again whose file is gone.

    A root that is missing or not readable says nothing about the file: such a job waits.

    Raises:
        InputGoneError: the root is there and the file is not.

    """
    if job.file is None:
        return
    try:
        os.stat(job.file.root)  # noqa: PTH116 - names are bytes
    except OSError:
        return
    try:
        os.lstat(job.file.path)
    except (FileNotFoundError, NotADirectoryError):
        raise InputGoneError(f"the file of job {job.id} is gone: {shown(job.file.path)}") from None
    except OSError:
        return


def _real(path: bytes) -> bytes:
    if b"\0" in path or not os.path.isabs(path):  # noqa: PTH117 - names are bytes
        raise InvalidRequestError("path: an absolute path is needed")
    try:
        return os.path.realpath(path)
    except OSError:
        raise InvalidRequestError("path: it cannot be followed") from None


def _root_of(real: bytes, settings: Settings) -> Root:
    """Return the deepest root around a path. Says nothing of what is there outside of them."""
    inside = [root for root in _roots(settings) if real.startswith(root.path + b"/")]
    if not inside:
        raise InvalidRequestError(
            f"path: {shown(real)} lies neither in a watch nor in daemon.submit_roots"
        )
    return max(inside, key=lambda root: (len(root.path), root.watch is not None))


def _roots(settings: Settings) -> list[Root]:
    watched = [(watch.path, WatchName(watch.name)) for watch in settings.watches]
    submitted = [(path, None) for path in settings.daemon.submit_roots]
    return [
        Root(os.path.realpath(os.fsencode(path)).rstrip(b"/"), name)
        for path, name in watched + submitted
    ]


def _refuse_our_own(real: bytes, settings: Settings) -> None:
    """Refuse the state directory, and other names (hard links) of what lies in it."""
    state = os.path.realpath(os.fsencode(settings.daemon.state_dir))
    found = _lstat(real)
    linked = False
    if os.lstat(state).st_dev == found.st_dev:
        with os.scandir(state) as entries:
            linked = any(entry.inode() == found.st_ino for entry in entries)
    if linked or real.startswith(state + b"/"):
        raise InvalidRequestError("path: the state directory is not for jobs")
    if not stat.S_ISREG(found.st_mode):
        raise InvalidRequestError(f"path: {shown(real)} is not a regular file")


def _lstat(real: bytes) -> os.stat_result:
    try:
        return os.lstat(real)
    except OSError as error:
        raise InvalidRequestError(f"path: {shown(real)}: {error.strerror}") from None


def _hashed(real: bytes) -> tuple[Identity, bytes]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(real, flags)
    except OSError as error:
        raise InvalidRequestError(f"path: {shown(real)}: {error.strerror}") from None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise InvalidRequestError(f"path: {shown(real)} is not a regular file")
        sha256 = hashlib.file_digest(file, "sha256").digest()
        identity = _identity(before)
        if _identity(os.fstat(descriptor)) != identity:
            raise ConflictError(
                f"{shown(real)} changes while it is read; submit it when it is whole"
            )
    return identity, sha256


def _identity(found: os.stat_result) -> Identity:
    return Identity(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
