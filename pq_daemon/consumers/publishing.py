"""From a handler's temporary output to its final name: whole, durable, once. Nobody sees half.

The order is the promise: the temporary file is synced, the store commits to the rename, the file
is renamed, the directory synced, and then the job's end is recorded. A crash between the commit
and the end leaves a name that tells whether the rename had happened. All of it blocks.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pq_daemon.consumers.handlers.outcome import Ended, failed
from pq_daemon.jobs.versions import Identity
from pq_daemon.runtime.renaming import numbered, rename_new, sync_directory

if TYPE_CHECKING:
    from pq_daemon.store.protocol import Orphan, Publication

NUMBERS: Final = 10_000
"""How many numbered names are tried before giving up."""


def make_parents(target: bytes, umask: int) -> None:
    """Make the target's directory, with the rights the queue's umask leaves."""
    missing = []
    directory = os.path.dirname(target)  # noqa: PTH120 - names are bytes, here and below
    while not os.path.isdir(directory):  # noqa: PTH112
        missing.append(directory)
        directory = os.path.dirname(directory)  # noqa: PTH120
    for directory in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(directory)  # noqa: PTH102
            os.chmod(directory, 0o777 & ~umask)  # noqa: PTH101 - not our own umask


def ready(temporary: bytes, umask: int, *, by_us: bool) -> Identity | Ended:
    """Make what the handler wrote durable; or say why it cannot be published.

    `by_us`: the handler ran in this process, under the daemon's umask instead of the queue's.
    """
    try:
        descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return failed("no output", "the handler succeeded, but did not write {output}")
    except OSError as error:
        return failed("no output", f"{{output}} cannot be read: {error.strerror}")
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return failed("no output", "{output} is not a regular file")
        if by_us:
            os.fchmod(descriptor, 0o666 & ~umask)
        os.fsync(descriptor)
        now = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return Identity(now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)


def choose(target: bytes, on_conflict: str, after: bytes | None = None) -> bytes | None:
    """Return the name to publish under; None when it is taken and must not be replaced.

    `after`: the name that was chosen before, and was taken meanwhile.
    """
    if on_conflict == "replace":
        return target
    if on_conflict == "fail":
        return None if os.path.lexists(target) else target
    directory, name = os.path.split(target)
    begun = after is None
    for number in range(1, NUMBERS):
        candidate = os.path.join(directory, numbered(name, number))  # noqa: PTH118
        if begun and not os.path.lexists(candidate):
            return candidate
        begun = begun or candidate == after
    return None


def place(publication: Publication, *, replace: bool) -> bool:
    """Rename into place and make the name durable; False when it was taken meanwhile."""
    if replace:
        os.replace(publication.temp, publication.target)  # noqa: PTH105
    else:
        try:
            rename_new(publication.temp, publication.target)
        except FileExistsError:
            return False
    sync_directory(os.path.dirname(publication.target))  # noqa: PTH120
    return True


def discard(temporary: bytes) -> None:
    """Remove a temporary output that will not be published."""
    with suppress(OSError):
        os.unlink(temporary)  # noqa: PTH108


def finish_or_remove(orphan: Orphan) -> bool:
    """Tell whether a dead daemon's output had reached its final name; else remove what is left.

    True: the handler had ended well and its output is in place: the job has succeeded.
    """
    publication = orphan.publication
    if publication is None:
        return False
    reached = _is(publication.target, publication.identity)
    if reached:
        sync_directory(os.path.dirname(publication.target))  # noqa: PTH120
    discard(publication.temp)  # also the second name that a link and no unlink leaves
    return reached


def _is(path: bytes, identity: Identity) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return identity.same_file(
        Identity(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    )
