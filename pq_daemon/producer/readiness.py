"""Whether a file is whole: nobody has it open for writing, it stays what it was, its hash is this.

The kernel's read lease is refused while anyone holds the file open for writing, through whatever
name, also by a mapping. It is asked for and given back in one breath: whoever opens the file in
between waits for us. That breach is announced by a signal whose default, SIGIO, would end the
process; F_SETSIG asks for SIGURG instead, which is ignored by default. All functions here block and
run in threads; none of them holds a lease while it does anything else.

Where others write without this kernel's knowledge, and on files that are not ours to lease, the
lease cannot tell: then only time can, and the caller is told how much is still needed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import pwd
import signal
import stat
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from pq_daemon.jobs.versions import Identity
from pq_daemon.producer.roots import LOCAL, Filesystem, Settle, filesystem_of
from pq_daemon.runtime.names import shown

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

F_SETSIG: Final = 10
READ_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
BLOCK: Final = 2**20
GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR})

BUSY: Final = "open for writing"
SETTLES: Final = "settling"


class Lease(Enum):
    FREE = auto()
    BUSY = auto()
    UNTOLD = auto()


class Verdict(Enum):
    READY = auto()
    CHANGED = auto()  # not what it was when the question was asked
    EARLY = auto()  # it must stay unchanged longer: `wait` seconds in all
    BUSY = auto()
    UNMARKED = auto()  # its marker is not there
    UNREADABLE = auto()
    GONE = auto()
    NOT_A_FILE = auto()
    STOPPED = auto()  # we are stopping; nothing is known


@dataclass(frozen=True, slots=True)
class Question:
    """A file to look at, and how long it has been as it is."""

    path: bytes
    identity: Identity
    unchanged: float
    settle: Settle
    marker: bytes = b""  # the ending of a name that must be there, too; b"": none
    hashed: bool = True  # identify = "content"; else the stat alone names the version


@dataclass(frozen=True, slots=True)
class Answer:
    verdict: Verdict
    reason: str = ""
    identity: Identity | None = None
    sha256: bytes | None = None
    wait: float = 0.0
    filesystem: Filesystem = LOCAL


STOPPED: Final = Answer(Verdict.STOPPED)


def identity_of(found: os.stat_result) -> Identity:
    return Identity(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def examine(questions: Iterable[Question], stopping: threading.Event) -> list[Answer]:
    """Look at many files, in order. An answer a question."""
    return [STOPPED if stopping.is_set() else examine_one(one, stopping) for one in questions]


def examine_one(question: Question, stopping: threading.Event) -> Answer:
    """Open, compare, ask for the lease, hash, compare and ask again."""
    try:
        fd = os.open(question.path, READ_FLAGS)
    except OSError as error:
        return _refused(question.path, error)
    try:
        if question.marker and not is_file(question.path + question.marker):
            return Answer(Verdict.UNMARKED, waiting_for(question.path + question.marker))
        return _judge(fd, question, stopping)
    except OSError as error:
        return _refused(question.path, error)
    finally:
        os.close(fd)


def _judge(fd: int, question: Question, stopping: threading.Event) -> Answer:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        return Answer(Verdict.NOT_A_FILE)
    identity = identity_of(found)
    if identity != question.identity:
        return Answer(Verdict.CHANGED, identity=identity)
    filesystem = filesystem_of(fd)
    lease = ask_lease(fd, filesystem)
    if lease is Lease.BUSY:
        return Answer(Verdict.BUSY, BUSY)
    wait = question.settle.seconds(
        filesystem, empty=identity.size == 0, lease_tells=lease is Lease.FREE
    )
    if question.unchanged < wait:
        return Answer(Verdict.EARLY, SETTLES, wait=wait)
    sha256 = digest(fd, stopping) if question.hashed else None
    if question.hashed and sha256 is None:
        return STOPPED
    return _confirm(fd, question, filesystem, sha256)


def is_file(path: bytes) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def waiting_for(marker: bytes) -> str:
    return f"waiting for {shown(marker.rpartition(b'/')[2])}"


def _confirm(fd: int, question: Question, filesystem: Filesystem, sha256: bytes | None) -> Answer:
    """Look again after reading: what was read must be what is still there, under this name."""
    before, after = question.identity, identity_of(os.lstat(question.path))
    if after != before or identity_of(os.fstat(fd)) != before:
        return Answer(Verdict.CHANGED, identity=after)
    if ask_lease(fd, filesystem) is Lease.BUSY:
        return Answer(Verdict.BUSY, BUSY)
    return Answer(Verdict.READY, identity=before, sha256=sha256, filesystem=filesystem)


def ask_lease(fd: int, filesystem: Filesystem = LOCAL) -> Lease:
    """Ask for a read lease and give it back at once."""
    if filesystem.shared:
        return Lease.UNTOLD
    try:
        fcntl.fcntl(fd, F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return Lease.BUSY if error.errno == errno.EAGAIN else Lease.UNTOLD
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return Lease.FREE


def digest(fd: int, stopping: threading.Event) -> bytes | None:
    """Return the sha256 of an open file; None when we were stopped."""
    state = hashlib.sha256()
    while block := os.read(fd, BLOCK):
        if stopping.is_set():
            return None
        state.update(block)
    return state.digest()


def _refused(path: bytes, error: OSError) -> Answer:
    if error.errno in GONE:
        return Answer(Verdict.GONE)
    if error.errno in {errno.ELOOP, errno.ENXIO}:
        return Answer(Verdict.NOT_A_FILE)
    return Answer(Verdict.UNREADABLE, unreadable(path, error))


def unreadable(path: bytes, error: OSError) -> str:
    """Say who could change it."""
    if error.errno not in {errno.EACCES, errno.EPERM}:
        return f"unreadable: {error.strerror or error}"
    try:
        found = os.lstat(path)
    except OSError:
        return "unreadable: permission denied"
    return f"unreadable: owner {_owner(found.st_uid)}, mode {stat.S_IMODE(found.st_mode):04o}"


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
