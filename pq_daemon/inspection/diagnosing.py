"""What a support person asks first, answered by looking. The daemon's part of `pq doctor`.

All of it blocks. Only the probe changes anything: a file with a name the producer never looks at is
written, renamed and removed in each watched folder, which is what moving and publishing need.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pq_daemon import __version__
from pq_daemon.inspection import rights
from pq_daemon.inspection.findings import Finding, Grade
from pq_daemon.inspection.surveying import survey
from pq_daemon.producer.plan import make_plan
from pq_daemon.producer.readiness import Lease, ask_lease
from pq_daemon.runtime.filesystems import NETWORK, filesystem
from pq_daemon.runtime.names import shown
from pq_daemon.store.holding import NAME as LOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pq_daemon.config.settings import Settings, WatchSettings
    from pq_daemon.producer.plan import Plan, Watch
    from pq_daemon.store.protocol import Condition

LIBRARIES: Final = ("aiohttp", "aiosqlite", "argon2-cffi", "jinja2", "pydantic", "watchfiles")
INOTIFY: Final = Path("/proc/sys/fs/inotify")
LEAST_FILES: Final = 1024
LEAST_SPACE: Final = 512 * 2**20
NEARLY: Final = 0.8
CAP_LEASE: Final = 1 << 28
A_DATE_BEFORE_US: Final = 1_735_689_600.0
"""2025-01-01: a machine whose clock says less has not been told the time."""

MEBI: Final = 2**20


def diagnose(settings: Settings, store_now: float | None = None) -> list[Finding]:
    """Look at everything but the database, which only its owner may open.

    Args:
        settings: those in force.
        store_now: what the store's clock says, in seconds since 1970.

    """
    plan = make_plan(settings)
    return [
        *versions(),
        *state(settings),
        *folders(settings, plan),
        *limits(plan),
        lease(settings),
        clock(store_now),
    ]


# --- versions ------------------------------------------------------------------------------------


def versions() -> Iterator[Finding]:
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    yield Finding(Grade.OK, "pq", f"{__version__}, as user {rights.ourselves()}")
    yield Finding(Grade.OK, "python", f"{platform.python_version()}, {libraries}")
    yield Finding(Grade.OK, "kernel", f"{platform.release()} on {platform.machine()}{_system()}")


def _system() -> str:
    try:
        return f", {platform.freedesktop_os_release()['PRETTY_NAME']}"
    except (OSError, KeyError):
        return ""


def database(condition: Condition) -> Iterator[Finding]:
    yield Finding(Grade.OK, "engine", f"{condition.engine}, {condition.remark}")
    size = f"{mebi(condition.size)}, {mebi(condition.free)} of it free"
    if condition.problems:
        yield Finding(Grade.BAD, "database", f"damaged: {'; '.join(condition.problems)}")
    else:
        yield Finding(Grade.OK, "database", f"integrity ok, {size}")


# --- the state directory -------------------------------------------------------------------------


def state(settings: Settings) -> Iterator[Finding]:
    """Look at the state directory. Its database is not opened: that would drop SQLite's locks."""
    path = settings.daemon.state_dir
    if not path.is_dir():
        yield Finding(
            Grade.WARNING, "state", f"{path} does not exist yet; the first start makes it"
        )
        return
    kind = filesystem(path)
    grade = Grade.BAD if kind in NETWORK else Grade.OK
    yield Finding(grade, "state", f"{path} on {kind}, {rights.words(path.stat())}")
    obstacle = rights.obstacle(os.fsencode(path), write=True)
    if obstacle is not None:
        yield Finding(Grade.BAD, "state", obstacle)
        return
    free = shutil.disk_usage(path).free
    grade = Grade.WARNING if free < LEAST_SPACE else Grade.OK
    yield Finding(grade, "space", f"{mebi(free)} free for the state directory")
    yield Finding(Grade.OK, "sizes", ", ".join(_sizes(settings)))
    yield Finding(Grade.OK, "lock", _holder(path))


def _sizes(settings: Settings) -> Iterator[str]:
    path = settings.daemon.state_dir
    yield f"database {mebi(_size(path / 'queue.db'))}"
    yield f"its log {mebi(_size(path / 'queue.db-wal'))}"
    outputs = [_size(each) for each in path.glob("output/*")]
    yield f"{len(outputs)} output files {mebi(sum(outputs))}"
    log = settings.daemon.log_file
    if log is not None:
        yield f"logs {mebi(sum(_size(each) for each in log.parent.glob(f'{log.name}*')))}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _holder(state_dir: Path) -> str:
    try:
        text = (state_dir / LOCK).read_text("ascii").strip()
    except OSError:
        return "nobody has held it yet"
    if text.isdecimal() and Path(f"/proc/{text}").exists():
        ours = " (this daemon)" if int(text) == os.getpid() else ""
        return f"held by process {text}{ours}"
    return "free"


# --- the watched folders -------------------------------------------------------------------------


def folders(settings: Settings, plan: Plan) -> Iterator[Finding]:
    for configured, watch in zip(settings.watches, plan.watches, strict=True):
        where = f"watch.{watch.name}"
        obstacle = rights.obstacle(watch.root)
        if obstacle is not None:
            yield Finding(Grade.BAD, where, f"{configured.path}: {obstacle}")
        else:
            yield _probed(where, configured, watch)


def _probed(where: str, configured: WatchSettings, watch: Watch) -> Finding:
    place = f"{configured.path} on {filesystem(watch.root)}"
    trouble = probe(watch.root)
    if trouble is None:
        return Finding(Grade.OK, where, f"{place}: a probe was written, renamed and removed")
    if configured.on_success == configured.on_failure == "keep":
        return Finding(Grade.OK, where, f"{place}: read only for us ({trouble}), nothing is moved")
    return Finding(Grade.BAD, where, f"{place}: files cannot be put away: {trouble}")


def probe(root: bytes) -> str | None:
    """Write, rename and remove a file; what went wrong, None when nothing did."""
    path = root + b"/.pq-probe-%d" % os.getpid()
    renamed = path + b"-renamed"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.write(descriptor, b"probe\n")
        os.close(descriptor)
        os.rename(path, renamed)  # noqa: PTH104 - names are bytes
        os.unlink(renamed)  # noqa: PTH108
    except OSError as error:
        return f"{shown(path)}: {error.strerror}"
    return None


# --- the kernel ----------------------------------------------------------------------------------


def limits(plan: Plan) -> Iterator[Finding]:
    directories = {
        watch.root: found.directories
        for watch, found in zip(plan.watches, survey(plan).values(), strict=True)
    }
    yield _inotify(sum(directories.values()))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    grade = Grade.WARNING if soft < LEAST_FILES else Grade.OK
    yield Finding(grade, "nofile", f"{soft} open files at once ({hard} at most)")


def _inotify(directories: int) -> Finding:
    try:
        watches, instances = (
            int((INOTIFY / f"max_user_{what}").read_text("ascii"))
            for what in ("watches", "instances")
        )
    except (OSError, ValueError):
        return Finding(Grade.WARNING, "inotify", "its limits cannot be read")
    words = f"{directories} directories watched of {watches} allowed, {instances} instances"
    if directories < NEARLY * watches:
        return Finding(Grade.OK, "inotify", words)
    raised = max(2 * directories, 2 * watches)
    return Finding(
        Grade.WARNING,
        "inotify",
        f"{words}: raise it (sysctl fs.inotify.max_user_watches={raised}); "
        "without, files are found by scanning alone",
    )


def lease(settings: Settings) -> Finding:
    """Say whether the kernel tells us who still writes to a file."""
    directory = settings.daemon.state_dir
    try:
        with tempfile.NamedTemporaryFile(dir=directory if directory.is_dir() else None) as file:
            descriptor = os.open(file.name, os.O_RDONLY | os.O_CLOEXEC)
            file.close()
            try:
                answer = ask_lease(descriptor)
            finally:
                os.close(descriptor)
    except OSError as error:
        return Finding(Grade.WARNING, "lease", f"it could not be tried: {error.strerror}")
    if answer is not Lease.FREE:
        return Finding(Grade.WARNING, "lease", "the kernel gives none: only time tells who writes")
    if os.geteuid() == 0 or _capabilities() & CAP_LEASE:
        return Finding(Grade.OK, "lease", "the kernel tells who writes, also to files of others")
    return Finding(
        Grade.OK, "lease", "the kernel tells who writes to our own files; for others time must"
    )


def _capabilities() -> int:
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def clock(store_now: float | None = None) -> Finding:
    """Compare the wall clock with the store's, which never goes back. Seconds since 1970."""
    now = time.time()
    words = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < A_DATE_BEFORE_US:
        return Finding(Grade.BAD, "clock", f"{words}: nobody has told this machine the time")
    if store_now is not None and store_now - now > 1:
        behind = f"{store_now - now:.0f} s behind what it said before: times stand still until then"
        return Finding(Grade.WARNING, "clock", f"{words}, {behind}")
    return Finding(Grade.OK, "clock", words)


def counts(states: Iterable[tuple[str, int]]) -> Finding:
    known = ", ".join(f"{count} {state}" for state, count in states if count)
    return Finding(Grade.OK, "jobs", known or "none")


def mebi(amount: int) -> str:
    return f"{amount / MEBI:.1f} MiB"
