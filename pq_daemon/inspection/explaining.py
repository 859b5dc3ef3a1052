"""Why a path becomes a job, or does not: the producer's own questions, asked in order, in words.

The first question that ends badly is the answer. Blocking; the file is opened for reading and its
lease asked for, as the producer does. Outside of the watched folders nothing is looked at.
"""

from __future__ import annotations

import base64
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.inspection import rights
from pq_daemon.inspection.supposing import would
from pq_daemon.jobs.model import FileVersion
from pq_daemon.producer import filters
from pq_daemon.producer.plan import EMPTY, TOO_SMALL, below, make_plan, parent
from pq_daemon.producer.readiness import READ_FLAGS, Lease, ask_lease, identity_of
from pq_daemon.producer.roots import LOCAL, filesystem_of
from pq_daemon.runtime.names import is_text, shown
from pq_daemon.store.protocol import FileState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pq_daemon.config import Settings
    from pq_daemon.producer.plan import Judgement, Plan, Watch
    from pq_daemon.producer.roots import Filesystem

KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link: links are not followed, put the file itself there"),
    (stat.S_ISDIR, "a folder: the files in it become jobs, not the folder"),
    (stat.S_ISFIFO, "a named pipe, not a regular file"),
    (stat.S_ISSOCK, "a socket, not a regular file"),
)
WRITERS_MOST: Final = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One question and its answer. `good`: a job may still come of it."""

    about: str
    good: bool
    words: str


class Case:
    """What is known so far."""

    def __init__(self, path: bytes, settings: Settings) -> None:
        self.path = path
        self.settings = settings
        self.plan: Plan = make_plan(settings)
        self.root = self.plan.owner(parent(path))
        self.found: os.stat_result | None = None
        self.judged: Judgement | None = None
        self.filesystem: Filesystem = LOCAL
        self.lease = Lease.UNTOLD

    @property
    def relpath(self) -> bytes:
        return self.path[len(self.root or b"") + 1 :]

    @property
    def size(self) -> int:
        return self.found.st_size if self.found else 0

    @property
    def watches(self) -> list[Watch]:
        """Those that look at this path, in file order."""
        directory = parent(self.path)
        return [w for w in self.plan.watches if w.root == self.root and w.reaches(directory)]

    @property
    def watch(self) -> Watch | None:
        return self.judged.watch if self.judged else next(iter(self.watches), None)


def explain(path: bytes, settings: Settings) -> dict[str, Any]:
    """Return what there is to say about an absolute path, as the API shows it."""
    case = Case(resolved(path), settings)
    steps = list(_answers(case))
    watch = case.watch
    return {
        **_named(case.path),
        "watch": watch.name if watch else None,
        "root": shown(case.root) if case.root else None,
        **_below(case),
        "user": rights.ourselves(),
        "steps": [{"about": s.about, "good": s.good, "words": s.words} for s in steps],
        "ready": all(step.good for step in steps),
        "would": _would(case),
    }


def resolved(path: bytes) -> bytes:
    """Follow the links in a path, but not the last name: links in a watch are not followed."""
    directory, name = os.path.split(os.path.abspath(path))  # noqa: PTH100 - names are bytes
    return os.path.join(os.path.realpath(directory), name)  # noqa: PTH118


def _below(case: Case) -> dict[str, str | None]:
    """The path as its watch knows it."""
    if case.root is None:
        return {"relpath": None}
    named: dict[str, str | None] = {"relpath": shown(case.relpath)}
    if not is_text(case.relpath):
        named["relpath_b64"] = base64.b64encode(case.relpath).decode("ascii")
    return named


def _named(path: bytes) -> dict[str, str]:
    named = {"path": shown(path)}
    if not is_text(path):
        named["path_b64"] = base64.b64encode(path).decode("ascii")
    return named


def _answers(case: Case) -> Iterator[Step]:
    for question in QUESTIONS:
        step = question(case)
        yield step
        if not step.good:
            return


# --- the questions -------------------------------------------------------------------------------


def _folder(case: Case) -> Step:
    """Ask whether a watch looks there at all."""
    if case.root is None:
        return Step("watch", False, _nobody(case))
    if case.plan.lies_left_out(case.path):
        return Step("watch", False, _left_out(case))
    names = " and ".join(f'"{watch.name}"' for watch in case.watches)
    return Step("watch", True, f"{names} looks into {shown(case.root)}")


def _nobody(case: Case) -> str:
    for watch in case.plan.watches:
        if below(case.path, watch.root):
            return (
                f'watch "{watch.name}" does not look into subfolders of {shown(watch.root)}: '
                "recursive = false"
            )
        if case.path == watch.root:
            return f'it is the folder of watch "{watch.name}" itself; ask about a file in it'
    folders = ", ".join(f"{shown(watch.root)} ({watch.name})" for watch in case.plan.watches)
    return f"no watch looks there; watched are: {folders or 'no folders at all'}"


def _left_out(case: Case) -> str:
    if any(part.startswith(filters.OWN_PREFIX) for part in case.relpath.split(b"/")):
        return "names that begin with .pq- are the daemon's own half-written files"
    for target in case.plan.left_out:
        if case.path == target or below(case.path, target):
            return f"files are put away into {shown(target)} (move:DIR): it is not looked at again"
    return "it lies in the daemon's own directory .pq"


def _way(case: Case) -> Step:
    """Ask whether we may go there."""
    obstacle = rights.obstacle(parent(case.path))
    return Step("way", obstacle is None, obstacle or f"user {rights.ourselves()} may list it")


def _kind(case: Case) -> Step:
    """Ask whether there is a regular file."""
    try:
        case.found = os.lstat(case.path)
    except (FileNotFoundError, NotADirectoryError):
        return Step("file", False, "there is no such file")
    except OSError as error:
        return Step("file", False, f"it cannot be looked at: {error.strerror}")
    mode = case.found.st_mode
    if stat.S_ISREG(mode):
        return Step(
            "file", True, f"a regular file of {case.size} bytes, {rights.words(case.found)}"
        )
    words = next((said for test, said in KINDS if test(mode)), "not a regular file")
    return Step("file", False, words)


def _name(case: Case) -> Step:
    """Ask whether the filters let its name through."""
    case.judged = judged = case.plan.judge(case.path, case.size, regular=True)
    if judged is None or judged.state is not FileState.IGNORED:
        return Step("name", True, _let_through(case))
    objections = [f'"{watch.name}": {_objection(case, watch)}' for watch in case.watches]
    return Step("name", False, f"left alone by {'; by '.join(objections)}")


def _let_through(case: Case) -> str:
    watch = case.watch
    include = watch.filter.include if watch else ()
    decided = deciding(include, case.relpath) or "*"
    return f'taken by "{watch.name if watch else ""}": it matches include "{decided}"'


def _objection(case: Case, watch: Watch) -> str:
    """Say which filter decides."""
    reason = watch.filter.objection(case.relpath)
    if reason == filters.TEMPORARY:
        return (
            "its name is one that programs give to unfinished files "
            "(builtin_excludes; rename it when it is whole)"
        )
    if reason == filters.EXCLUDED:
        return f'exclude "{deciding(watch.filter.exclude, case.relpath)}" matches it'
    return f"no pattern of include matches it: {', '.join(watch.filter.include)}"


def deciding(patterns: Iterable[str], relpath: bytes) -> str | None:
    """Return the first pattern that matches."""
    text = os.fsdecode(relpath)
    return next((each for each in patterns if filters.matches_any((each,), text)), None)


def _size(case: Case) -> Step:
    """Ask whether there is enough of it, and nothing else keeps it waiting."""
    judged = case.judged
    if judged is None or judged.reason is None:
        return Step("size", True, f"{case.size} bytes are enough")
    least = f"min_size is {judged.watch.min_size} bytes"
    words = {
        EMPTY: f"it is empty, and {least}: it waits for content",
        TOO_SMALL: f"it has {case.size} bytes, and {least}: it waits for more",
    }
    return Step("size", False, words.get(judged.reason, f"it waits: {judged.reason}"))


def _content(case: Case) -> Step:
    """Ask whether we may read it, and nobody writes."""
    try:
        descriptor = os.open(case.path, READ_FLAGS)
    except OSError as error:
        return Step("content", False, _closed(case, error))
    try:
        case.filesystem = filesystem_of(descriptor)
        case.lease = ask_lease(descriptor, case.filesystem)
    finally:
        os.close(descriptor)
    if case.lease is Lease.BUSY:
        return Step("content", False, f"it is open for writing{_writers(case)}")
    if case.lease is Lease.FREE:
        return Step("content", True, "it can be read, and nobody has it open for writing")
    why = f"on {case.filesystem.name}" if case.filesystem.shared else "for a file of somebody else"
    return Step("content", True, f"it can be read; the kernel does not tell {why} who writes")


def _closed(case: Case, error: OSError) -> str:
    owned = f" ({rights.words(case.found)})" if case.found else ""
    return f"user {rights.ourselves()} may not read it: {error.strerror}{owned}"


def _writers(case: Case) -> str:
    """Name the processes that have the file open, as far as we may see them."""
    found = case.found
    if found is None:
        return ""
    pids = [pid for pid in _pids() if _has_open(pid, found)][:WRITERS_MOST]
    named = [f"{_program(pid)} (process {pid})" for pid in pids if pid != os.getpid()]
    return f" by {', '.join(named)}" if named else ""


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def _has_open(pid: int, wanted: os.stat_result) -> bool:
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            return any(_is(entry.path, wanted) for entry in entries)
    except OSError:
        return False


def _is(link: str, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(link), wanted)  # noqa: PTH116
    except OSError:
        return False


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "?"


def _quiet(case: Case) -> Step:
    """Ask whether it has been left alone long enough."""
    watch, found = case.watch, case.found
    if watch is None or found is None:
        return Step("settle", False, "it is gone again")
    wait = watch.settle.seconds(
        case.filesystem, empty=found.st_size == 0, lease_tells=case.lease is Lease.FREE
    )
    unchanged = time.time() - max(found.st_mtime, found.st_ctime)
    words = f"a file must stay unchanged for {wait:g} s; this one has for {_rough(unchanged)}"
    return Step("settle", unchanged >= wait, words)


def _rough(seconds: float) -> str:
    if seconds < 0:
        return "no time: its time stamp lies in the future"
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


QUESTIONS: Final[tuple[Callable[[Case], Step], ...]] = (
    _folder, _way, _kind, _name, _size, _content, _quiet,
)  # fmt: skip


# --- what would be run ---------------------------------------------------------------------------


def _would(case: Case) -> dict[str, Any] | None:
    """What a job of this file would be; None when none can come of it as it is named."""
    judged, found = case.judged, case.found
    if judged is None or found is None or judged.state is FileState.IGNORED:
        return None
    watch = judged.watch
    file = FileVersion(watch.name, watch.root, judged.relpath, identity_of(found), True, None)
    return would(file, case.settings.queues[watch.queue], watch.priority, case.settings)
