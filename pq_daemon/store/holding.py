"""One daemon per state directory: a flock on a file of its own, held for the daemon's life.

The lock is the kernel's, so it is gone with the process however that ended. It is never taken on
the database itself, whose locks are SQLite's business.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from pq_daemon.errors import StoreError, StoreHeldError
from pq_daemon.runtime.filesystems import NETWORK, filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME: Final = "lock"


def prepare(state_dir: Path) -> None:
    """Make the state directory, for its owner alone.

    Raises:
        StoreError: it cannot be made, or lies on a network filesystem, where locks and fsync
            do not mean what the promise needs.

    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_dir.chmod(0o700)
    except OSError as error:
        raise StoreError(f"state_dir {state_dir}: cannot be made ({error.strerror})") from error
    kind = filesystem(state_dir)
    if kind in NETWORK:
        raise StoreError(
            f"state_dir {state_dir} lies on {kind}: a local filesystem is needed, "
            "locks and fsync cannot be trusted there"
        )


@contextmanager
def held(state_dir: Path) -> Iterator[None]:
    """Hold the state directory.

    Raises:
        StoreHeldError: another daemon holds it; its pid is named.

    """
    descriptor = os.open(state_dir / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held_by(descriptor, state_dir) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _held_by(descriptor: int, state_dir: Path) -> StoreHeldError:
    text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    pid = int(text) if text.isdigit() else None
    return StoreHeldError(f"another daemon (pid {pid or 'unknown'}) holds {state_dir}", pid=pid)
