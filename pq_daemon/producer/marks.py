"""Which directory stood at a root's path, and since when: remembered over restarts.

The ledger's rows are about the files of one directory. If another one stands there (an unmounted
disk leaves an empty directory behind), the files of the first are not gone, they are elsewhere. So
each row belongs to the mark that was in force when it was written, and can only vanish under it.
Kept as a small file in the state directory, replaced whole; when it is lost, the directory that
stands there now is taken for the one that always did.
"""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from pq_daemon.jobs.order import Moment

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

FILE: Final = "roots.json"


class Stood(NamedTuple):
    since: Moment
    mark: str


class Marks:
    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE
        self._history: dict[str, list[Stood]] = {}

    def load(self) -> None:
        """Read what was remembered. Blocking. An unreadable memory is an empty one."""
        try:
            stored = json.loads(self._path.read_text("ascii"))
            self._history = {
                root: [Stood(Moment(int(since)), str(mark)) for since, mark in history]
                for root, history in stored.items()
            }
        except FileNotFoundError:
            self._history = {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("memory of the roots is unreadable", extra={"error": str(error)})
            self._history = {}

    def save(self) -> None:
        """Replace the file. Blocking. A failure is logged: the next change tries again."""
        temporary = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with temporary.open("w", encoding="ascii") as file:
                json.dump(self._history, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            log.warning("memory of the roots is not saved", extra={"error": str(error)})

    def stands(self, root: bytes, mark: str, now: Moment) -> bool:
        """Note what stands there now; whether that is a change to be saved."""
        history = self._history.setdefault(os.fsdecode(root), [])
        if history and history[-1].mark == mark:
            return False
        history.append(Stood(now, mark))
        return True

    def stood(self, root: bytes, at: Moment) -> str | None:
        """Return the mark that was in force at a moment; the oldest known for what is older."""
        history = self._history.get(os.fsdecode(root), [])
        before = [stood.mark for stood in history if stood.since <= at]
        if before:
            return before[-1]
        return history[0].mark if history else None
