# ruff: noqa: PTH103, PTH104, PTH106, PTH108, PTH112, PTH116, PTH118, PTH120, PTH122, PTH123 - paths are bytes
"""Moving and deleting a file without ever harming another one. Blocking; runs in threads.

A rename that would overwrite is refused by the kernel (renameat2), where that is not known by a
hard link, and where there are none by a placeholder that is ours. Across file systems, and across
bind mounts of one, a copy is made under a temporary name, synced, named, and only then the source
goes. Every step can be repeated after a crash.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pq_daemon.jobs.versions import Identity
from pq_daemon.producer.filters import OWN_PREFIX
from pq_daemon.producer.readiness import GONE, READ_FLAGS, Lease, ask_lease, identity_of, is_file
from pq_daemon.producer.roots import filesystem_of, libc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pq_daemon.jobs.model import FileVersion
    from pq_daemon.store.protocol import Disposition

DONE: Final = "done"
SUPERSEDED: Final = "superseded"
GONE_AWAY: Final = "gone"

AT_FDCWD: Final = -100
RENAME_NOREPLACE: Final = 1
CANNOT: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK})
NAME_MOST: Final = 255
NUMBERS_MOST: Final = 10_000
BLOCK: Final = 2**20


@dataclass(frozen=True, slots=True)
class Done:
    """How it went. `result` None: not yet, for this reason; to be tried again."""

    result: str | None
    target: bytes | None = None
    reason: str = ""


def dispose(wanted: Disposition, root_is_there: bool, marker: bytes = b"") -> Done:
    """Do an after-action, or find that it is done. Never raises an OSError.

    `marker` is the ending of the marker's name; b"" when files need none.
    """
    act = _delete if wanted.kind == "delete" else _move
    try:
        done = act(wanted, root_is_there)
        if marker:
            _dispose_of_marker(wanted, done, marker)
        if wanted.file.place is not None and done.result in {DONE, GONE_AWAY}:
            with suppress(OSError):
                os.rmdir(os.path.dirname(wanted.file.place))
    except OSError as error:
        return Done(None, reason=error.strerror or str(error))
    return done


def _dispose_of_marker(wanted: Disposition, done: Done, marker: bytes) -> None:
    """Where its file went, the marker goes; but when a file is here again, it is that one's.

    After the file, so that a crash between the two leaves what the next try finds: a file that has
    been put away, and its marker.
    """
    source = wanted.file.path + marker
    if os.path.lexists(wanted.file.path) or not is_file(source):
        return
    if wanted.kind == "delete" and done.result in {DONE, GONE_AWAY}:
        os.unlink(source)
    elif wanted.kind == "move" and done.target is not None:
        _take(source, done.target + marker, wanted)
    sync(os.path.dirname(source))


def _take(source: bytes, target: bytes, wanted: Disposition) -> None:
    """Move a small file by its name alone, to wherever."""
    try:
        place(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, temporary := _temporary(target, wanted))
        place(temporary, target)
        os.unlink(source)


def _delete(wanted: Disposition, root_is_there: bool) -> Done:
    standing = _standing(wanted.file)
    if standing is None:
        return _gone(wanted.file, root_is_there)
    if isinstance(standing, Done):
        return standing
    os.unlink(wanted.file.path)
    sync(os.path.dirname(wanted.file.path))
    return Done(DONE)


def _move(wanted: Disposition, root_is_there: bool) -> Done:
    source = wanted.file.path
    target = os.path.normpath(wanted.directory + b"/" + wanted.file.relpath)
    standing = _standing(wanted.file)
    if standing is None:
        found = _arrived(wanted.file, target)
        return _gone(wanted.file, root_is_there) if found is None else Done(DONE, found)
    if not _is_untouched(wanted.file, standing) and (found := _arrived(wanted.file, target)):
        return Done(DONE, found)  # ours was moved and not recorded: this is the next one
    if isinstance(standing, Done):
        return standing
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        reached = place(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        reached = _carry(source, target, wanted)
    moved = identity_of(os.lstat(reached))
    if moved.inode == standing.inode and not standing.same_file(moved):  # changed in that instant
        rename_noreplace(reached, source)
        return Done(SUPERSEDED)
    sync(os.path.dirname(target))
    sync(os.path.dirname(source))
    return Done(DONE, reached)


def _gone(file: FileVersion, root_is_there: bool) -> Done:
    """Its absence counts only while its folder is there."""
    if root_is_there and os.path.isdir(file.root):
        return Done(GONE_AWAY)
    return Done(None, reason="its folder is missing")


def _standing(  # noqa: PLR0911 - one return an answer
    file: FileVersion,
) -> Identity | Done | None:
    """Return the identity of the job's file where it was; a Done when it must be left alone.

    The content decides where the identity differs: an uploader that sets the time late has not
    made a new version.
    """
    try:
        fd = os.open(file.path, READ_FLAGS)
    except OSError as error:
        if error.errno in GONE:
            return None
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            return Done(SUPERSEDED)
        return _standing_unopened(file)
    try:
        found = os.fstat(fd)
        identity = identity_of(found)
        if not stat.S_ISREG(found.st_mode) or identity.size != file.identity.size:
            return Done(SUPERSEDED)
        if ask_lease(fd, filesystem_of(fd)) is Lease.BUSY:
            return Done(None, reason="open for writing")
        if _is_same(file, identity, fd):
            return identity
        return Done(SUPERSEDED)
    finally:
        os.close(fd)


def _is_untouched(file: FileVersion, standing: Identity | Done) -> bool:
    return isinstance(standing, Identity) and file.identity.same_file(
        standing, inodes_count=file.inodes_count
    )


def _standing_unopened(file: FileVersion) -> Identity | Done:
    """A file that may not be read can still be moved; then its identity alone must do."""
    identity = identity_of(os.lstat(file.path))
    same = file.identity.same_file(identity, inodes_count=file.inodes_count)
    return identity if same else Done(SUPERSEDED)


def _is_same(file: FileVersion, identity: Identity, fd: int) -> bool:
    if file.identity.same_file(identity, inodes_count=file.inodes_count):
        return True
    return file.sha256 is not None and _digest(fd) == file.sha256


def _digest(fd: int) -> bytes:
    state = hashlib.sha256()
    os.lseek(fd, 0, os.SEEK_SET)
    while block := os.read(fd, BLOCK):
        state.update(block)
    return state.digest()


# --- names that are free -------------------------------------------------------------------------


def place(source: bytes, target: bytes) -> bytes:
    """Rename to the first free name; return it."""
    for name in names_for(target):
        try:
            rename_noreplace(source, name)
        except FileExistsError:
            continue
        return name
    raise OSError(errno.EEXIST, f"{NUMBERS_MOST} files of that name are there already")


def names_for(target: bytes) -> Iterator[bytes]:
    """A name, then with -2, -3 and so on before its suffix, cut where it would be too long."""
    directory, name = os.path.split(target)
    stem, suffix = os.path.splitext(name)
    yield target
    for number in range(2, NUMBERS_MOST):
        ending = b"-%d" % number + suffix[: NAME_MOST - 8]
        yield os.path.join(directory, stem[: NAME_MOST - len(ending)] + ending)


def rename_noreplace(source: bytes, target: bytes) -> None:
    """Rename, unless the target is there.

    Raises:
        FileExistsError: it is.
        OSError: EXDEV to another file system, or whatever the kernel says.

    """
    if libc.renameat2(AT_FDCWD, source, AT_FDCWD, target, RENAME_NOREPLACE) == 0:
        return
    number = ctypes.get_errno()
    if number not in CANNOT:
        raise OSError(number, os.strerror(number), source, None, target)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in CANNOT:
            raise
        _take_over_placeholder(source, target)
    else:
        os.unlink(source)


def _take_over_placeholder(source: bytes, target: bytes) -> None:
    """No links here: claim the name with an empty file of ours, and rename over that."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        os.rename(source, target)
    except OSError:
        os.unlink(target)
        raise


# --- another file system -------------------------------------------------------------------------


def _carry(source: bytes, target: bytes, wanted: Disposition) -> bytes:
    """Copy, sync, name, then remove the source; or go on where a crash stopped us."""
    reached = _arrived(wanted.file, target)
    if reached is None:
        _copy(source, temporary := _temporary(target, wanted))
        reached = place(temporary, target)
        sync(os.path.dirname(target))
    os.unlink(source)
    return reached


def _temporary(target: bytes, wanted: Disposition) -> bytes:
    return os.path.join(os.path.dirname(target), OWN_PREFIX + b"moving-%d" % wanted.job)


def _copy(source: bytes, temporary: bytes) -> None:
    with suppress(FileNotFoundError):
        os.unlink(temporary)  # of a try that was cut off
    try:
        with open(source, "rb") as read, open(temporary, "xb") as written:
            shutil.copyfileobj(read, written, BLOCK)
            written.flush()  # before the times are set, or it sets them anew
            _dress(source, written.fileno())
            os.fsync(written.fileno())
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _dress(source: bytes, fd: int) -> None:
    """Give the copy mode, owner (where we may) and times of the source."""
    found = os.stat(source)
    with suppress(PermissionError):
        os.fchown(fd, found.st_uid, found.st_gid)
    os.fchmod(fd, stat.S_IMODE(found.st_mode))
    os.utime(fd, ns=(found.st_atime_ns, found.st_mtime_ns))


def _arrived(file: FileVersion, target: bytes) -> bytes | None:
    """Find our file at its target, from a move that was not recorded."""
    for name in names_for(target):
        try:
            fd = os.open(name, READ_FLAGS)
        except OSError:
            return None
        try:
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode) and _is_ours(file, identity_of(found), fd):
                return name
        finally:
            os.close(fd)
    return None


def _is_ours(file: FileVersion, found: Identity, fd: int) -> bool:
    was = file.identity
    if found.size != was.size or found.mtime_ns != was.mtime_ns:
        return False
    if file.inodes_count and found.inode == was.inode:
        return True
    return file.sha256 is not None and _digest(fd) == file.sha256


def sync(directory: bytes) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
