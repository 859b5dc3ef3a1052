"""Processes and their offspring: groups, adoption, the token hunt, ends that are verified.

A handler's processes are found three ways. Its process group is signalled and asked whether it is
empty. What left the group (setsid) becomes our child when its parents die, because we adopt
orphans. And what outlived a killed daemon carries a token in its environment. Nothing here waits
for a child it was not told about: others may have children in this process too.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
import signal
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VARIABLE: Final = "PQ_TOKEN"
_ENTRY: Final = f"{VARIABLE}=".encode()
_PROC: Final = Path("/proc")
_SUBREAPER: Final = 36  # PR_SET_CHILD_SUBREAPER, linux/prctl.h
_PIDS_READ: Final = 65536
_HUNTS: Final = 20  # how often a hunt starts again, when its prey forks faster than it dies

_libc = ctypes.CDLL(None, use_errno=True)


def kernel_boot_id() -> str:
    """Return the kernel's name for this boot."""
    return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()


# --- groups --------------------------------------------------------------------------------------


def signal_group(group: int, number: signal.Signals) -> bool:
    """Signal every process of a group; False when there is none (or none we may signal)."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def signal_one(pid: int, number: signal.Signals) -> bool:
    """Signal one child of ours; False when there is none (or we may not)."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def group_is_empty(group: int) -> bool:
    """Whether no process of the group is left; those that died as our children are reaped."""
    if not _is_a_group(group):
        return True
    _reap_all(group)
    return not _is_a_group(group)


def _is_a_group(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # something lives there that we may not touch
    return True


def has_gone(pid: int) -> bool:
    """Whether a child of ours is no more; it is reaped when it has ended."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _reap_all(group: int) -> None:
    try:
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


# --- adoption ------------------------------------------------------------------------------------


@contextmanager
def adopting_orphans() -> Iterator[None]:
    """Be the parent of descendants whose own parents die, instead of init (prctl(2)).

    Also sees to it that children can be waited for: with SIGCHLD ignored, as some parents leave
    it, the kernel would throw their exit codes away.

    Raises:
        OSError: the kernel refuses.

    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _be_subreaper(1)
    try:
        yield
    finally:
        _be_subreaper(0)


def _be_subreaper(on: int) -> None:
    if _libc.prctl(_SUBREAPER, on, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "PR_SET_CHILD_SUBREAPER")


class Children:
    """The children of this process, adopted ones among them. Keeps one descriptor open."""

    def __init__(self) -> None:
        self._me = os.getpid()
        self._list = -1
        with suppress(FileNotFoundError):  # a kernel without CONFIG_PROC_CHILDREN: the slow way
            path = f"/proc/{self._me}/task/{self._me}/children"
            self._list = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def pids(self) -> list[int]:
        """Return them. The kernel may leave one out while others end: look again."""
        if self._list < 0:
            return [pid for pid in _pids() if (look := standing(pid)) and look.parent == self._me]
        raw = at_end = os.pread(self._list, _PIDS_READ, 0)
        while len(at_end) == _PIDS_READ:
            at_end = os.pread(self._list, _PIDS_READ, len(raw))
            raw += at_end
        return [int(pid) for pid in raw.split()]

    def close(self) -> None:
        if self._list >= 0:
            os.close(self._list)
            self._list = -1


def children() -> list[int]:
    """Return our children, once."""
    look = Children()
    try:
        return look.pids()
    finally:
        look.close()


class Standing(NamedTuple):
    """Where a process stands, from /proc/PID/stat (proc(5)). Also of a zombie."""

    state: str
    parent: int
    group: int
    session: int

    @property
    def is_zombie(self) -> bool:
        return self.state in "ZX"


def standing(pid: int) -> Standing | None:
    """Return where a process stands, None when there is none."""
    try:
        stat = _read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent, group, session = stat[stat.rindex(b")") + 2 :].split(maxsplit=4)[:4]
    return Standing(state.decode(), int(parent), int(group), int(session))


# --- tokens --------------------------------------------------------------------------------------


def token_of(pid: int) -> str | None:
    """Return the token in a process's environment; None when it has none, or hides it."""
    try:
        environment = _read(f"/proc/{pid}/environ")
    except OSError:
        return None
    for entry in environment.split(b"\0"):
        if entry.startswith(_ENTRY):
            return entry[len(_ENTRY) :].decode("ascii", "replace")
    return None


def find_by_token(prefix: str) -> list[int]:
    """Return the processes whose token starts with `prefix`. Blocking: 3-7 ms, call in a thread."""
    return [pid for pid in _pids() if (token_of(pid) or "").startswith(prefix)]


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - asked after every attempt
        return file.read()


def _pids() -> Iterator[int]:
    with os.scandir(_PROC) as entries:
        for entry in entries:
            if entry.name.isdecimal():
                yield int(entry.name)


# --- ends ----------------------------------------------------------------------------------------


async def end_by_token(prefix: str, grace: float) -> int:
    """End every process whose token starts with `prefix`; return how many there were.

    TERM, `grace` seconds later KILL, and again until a look finds none: what a dying process
    forked meanwhile is found too. No timer decides that they are gone.
    """
    ended = 0
    for _ in range(_HUNTS):
        found = await asyncio.to_thread(find_by_token, prefix)
        if not found:
            return ended
        ended += len(found)
        await end_all(found, grace if ended == len(found) else 0.0)
    return ended


async def end_all(pids: Iterable[int], grace: float) -> list[int]:
    """TERM, `grace` seconds later KILL; return those that even KILL has not ended in 5 seconds."""
    with _held(pids) as processes:
        _tell(processes, signal.SIGTERM, signal.SIGCONT)
        left = await _outlast(processes, grace)
        _tell(left, signal.SIGKILL)
        left = await _outlast(left, 5.0)
    for pid in processes.keys() - left.keys():
        has_gone(pid)
    return list(left)


@contextmanager
def _held(pids: Iterable[int]) -> Iterator[dict[int, int]]:
    """Hold the processes by descriptors, so that their numbers cannot come to mean others."""
    held: dict[int, int] = {}
    try:
        for pid in pids:
            try:
                held[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
        yield held
    finally:
        for descriptor in held.values():
            os.close(descriptor)


def _tell(processes: dict[int, int], *numbers: signal.Signals) -> None:
    for descriptor in processes.values():
        for number in numbers:
            try:
                signal.pidfd_send_signal(descriptor, number)
            except (ProcessLookupError, PermissionError):
                break


async def _outlast(processes: dict[int, int], limit: float) -> dict[int, int]:
    """Wait until the processes have ended, at most `limit` seconds; return those that have not."""
    left = dict(processes)
    try:
        async with asyncio.timeout(limit):
            for pid, descriptor in processes.items():
                await ended(descriptor)
                del left[pid]
    except TimeoutError:
        return {pid: descriptor for pid, descriptor in left.items() if not has_ended(descriptor)}
    return left


async def ended(descriptor: int) -> None:
    """Wait until the process behind a pidfd has ended. It may still be a zombie then."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()

    def note() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(descriptor, note)
    try:
        await readable
    finally:
        loop.remove_reader(descriptor)


def has_ended(descriptor: int) -> bool:
    """Whether the process behind a pidfd has ended, now."""
    look = select.poll()
    look.register(descriptor, select.POLLIN)
    return bool(look.poll(0))


def exit_of(descriptor: int) -> int | None:
    """Reap the child behind a pidfd: its exit status, minus the signal that killed it, or None.

    Raises:
        ChildProcessError: somebody else has reaped it; its status is lost.

    """
    result = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
