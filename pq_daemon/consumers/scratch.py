"""A private, empty directory for every attempt of a command: its cwd and TMPDIR.

Each slot has one, made when it first runs a command. An attempt that left it as it was passes it
on; else it is removed with all that is in it and made anew, so every attempt finds an empty one
that nobody has touched. Beside them lies, for an attempt with an `output`, a link that names the
temporary output: what a dead daemon left is found by it, whatever the configuration says by then.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pq_daemon.jobs.model import JobId


class Scratch:
    """`<state_dir>/scratch`."""

    def __init__(self, state_dir: Path) -> None:
        self.directory = state_dir / "scratch"
        self._prefix = os.fsencode(self.directory) + b"/"
        self._made: dict[int, tuple[int, ...]] = {}

    def path(self, slot: int) -> bytes:
        return self._prefix + b"slot-%d" % slot

    def is_made(self, slot: int) -> bool:
        """Whether the slot was given a directory, and none of its attempts has spoilt it."""
        return slot in self._made

    def is_as_new(self, slot: int) -> bool:
        """Whether nothing was ever made in the slot's directory. A few microseconds.

        It was made with a mtime of 0, and the kernel sets that with every name made or removed.
        """
        try:
            return _marks(self.path(slot)) == self._made.get(slot)
        except OSError:
            return False

    def renew(self, slot: int) -> None:
        """Give the slot an empty directory. Blocking."""
        path = self.path(slot)
        self._made.pop(slot, None)
        with suppress(FileNotFoundError):
            remove_tree(path)
        os.mkdir(path, 0o700)  # noqa: PTH102 - names are bytes, here and below
        os.utime(path, ns=(0, 0))
        self._made[slot] = _marks(path)

    def note_temporary(self, job: JobId, attempt: int, temporary: bytes) -> None:
        os.symlink(temporary, self._note(job, attempt))  # noqa: PTH211

    def forget_temporary(self, job: JobId, attempt: int) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._note(job, attempt))  # noqa: PTH108

    def _note(self, job: JobId, attempt: int) -> bytes:
        return self._prefix + b"%d-%d.output" % (job, attempt)

    def clear(self) -> None:
        """Make the whole as new: nothing that uses it is alive. Temporary outputs go too.

        Blocking.
        """
        self._made.clear()
        if self.directory.exists():
            for link in self.directory.glob("*.output"):
                temporary = os.fsencode(os.readlink(link))  # noqa: PTH115
                if os.path.basename(temporary).startswith(b".pq-"):  # noqa: PTH119
                    with suppress(OSError):
                        os.unlink(temporary)  # noqa: PTH108
            remove_tree(os.fsencode(self.directory))
        self.directory.mkdir(mode=0o700, exist_ok=True)


def _marks(path: bytes) -> tuple[int, ...]:
    found = os.lstat(path)
    who = found.st_mode, found.st_uid, found.st_gid
    return found.st_dev, found.st_ino, *who, found.st_mtime_ns


def remove_tree(path: bytes) -> None:
    """Remove a tree, also where a handler took away our own rights. What resists, stays."""
    shutil.rmtree(path, onerror=_insist)


def _insist(again: Callable[..., Any], path: str | bytes, _: object) -> None:
    with suppress(OSError):
        for place in (os.path.dirname(path), path):  # noqa: PTH120
            if not stat.S_ISLNK(os.lstat(place).st_mode):
                os.chmod(place, 0o700)  # noqa: PTH101
        if again in (os.unlink, os.rmdir):
            again(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
