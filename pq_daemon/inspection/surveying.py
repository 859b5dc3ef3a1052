"""What lies in the watched folders now, and what the producer would make of it.

The producer's own plan and walk are used, so what is counted here is what a scan would find.
Blocking, within a time.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pq_daemon.inspection import rights
from pq_daemon.producer.scanning import Stopped, walk
from pq_daemon.runtime.names import shown
from pq_daemon.store.protocol import FileState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pq_daemon.jobs.model import WatchName
    from pq_daemon.producer.plan import Judgement, Plan
    from pq_daemon.producer.scanning import Chunk

WALK_LIMIT: Final = 10.0
"""Seconds for looking through all folders."""

TAKEN: Final = "pass the filters"
CLOSED: Final = "may not be read"


@dataclass
class Survey:
    """What a watch would make of its files, counted in words. Directories are of its whole root."""

    files: Counter[str] = field(default_factory=Counter)
    directories: int = 0
    closed: list[str] = field(default_factory=list)
    is_whole: bool = True

    @property
    def words(self) -> str:
        taken = self.files[TAKEN]
        others = [f"{count} {what}" for what, count in self.files.most_common() if what != TAKEN]
        counts = (
            ", ".join([f"{taken or 'no files'} {TAKEN}", *others]) if self.files else "no files"
        )
        return (
            f"{counts} now" if self.is_whole else f"at least {counts} now (more than we looked at)"
        )


Surveys = dict["WatchName", Survey]


def survey(plan: Plan, limit: float = WALK_LIMIT) -> Surveys:
    """Walk every folder of a plan, `limit` seconds at most."""
    found: Surveys = {watch.name: Survey() for watch in plan.watches}
    with _alarm(limit) as stopping:
        for root in plan.roots:
            of_root = [found[watch.name] for watch in plan.on(root)]
            is_whole = rights.obstacle(root) is not None or _walked(plan, root, found, stopping)
            for each in of_root:
                each.is_whole = is_whole
    return found


@contextmanager
def _alarm(seconds: float) -> Iterator[threading.Event]:
    stopping = threading.Event()
    timer = threading.Timer(seconds, stopping.set)
    timer.start()
    if seconds <= 0:
        stopping.set()
    try:
        yield stopping
    finally:
        timer.cancel()
        timer.join()


def _walked(plan: Plan, root: bytes, found: Surveys, stopping: threading.Event) -> bool:
    """Count what a root holds; whether the walk came to its end."""
    try:
        for chunk in walk(plan, root, root, stopping):
            _count(plan, root, chunk, found)
    except Stopped:
        return False
    return True


def _count(plan: Plan, root: bytes, chunk: Chunk, found: Mapping[WatchName, Survey]) -> None:
    for watch in plan.on(root):
        found[watch.name].directories += chunk.directories
        found[watch.name].closed += map(shown, chunk.unreadable)
    for seen in chunk.files:
        judged = plan.judge(seen.path, seen.identity.size, regular=seen.regular)
        if judged is not None:
            found[judged.watch.name].files[_words(seen.path, judged)] += 1


def _words(path: bytes, judged: Judgement) -> str:
    if judged.reason is None:
        return TAKEN if os.access(path, os.R_OK, effective_ids=True) else CLOSED
    verb = "left alone" if judged.state is FileState.IGNORED else "waiting"
    return f"{verb} ({judged.reason})"
