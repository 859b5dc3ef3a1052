"""Groups, tokens, adoption: what the kernel tells of processes, asked with real ones."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pq_daemon.runtime import processes
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"


@contextmanager
def a_process(*command: str, token: str = "") -> Iterator[int]:
    environment = {"PATH": os.environ["PATH"]} | ({"PQ_TOKEN": token} if token else {})
    pid = os.posix_spawnp(command[0], command, environment, setsid=True)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_the_boot_has_a_name() -> None:
    assert len(processes.kernel_boot_id()) == 36
    assert processes.kernel_boot_id() == processes.kernel_boot_id()


async def test_a_group_is_empty_when_its_last_process_is_gone() -> None:
    with a_process("sh", "-c", "sleep 60 & sleep 60 & wait") as pid:
        assert processes.group_is_empty(pid) is False
        assert processes.signal_group(pid, signal.SIGKILL) is True
        await wait_until(lambda: processes.group_is_empty(pid), what="an empty group")
        assert processes.signal_group(pid, signal.SIGKILL) is False


def test_where_a_process_stands() -> None:
    with a_process("sleep", "60") as pid:
        standing = processes.standing(pid)
        assert standing is not None
        assert (standing.parent, standing.group, standing.session) == (os.getpid(), pid, pid)
        assert not standing.is_zombie
        assert pid in processes.children()
    assert processes.standing(pid) is None


def test_a_name_with_brackets_does_not_confuse(tmp_path: Path) -> None:
    program = tmp_path / ") Z 1 2 3 ("
    program.symlink_to("/bin/sleep")
    with a_process(str(program), "60") as pid:
        standing = processes.standing(pid)
        assert standing is not None
        assert standing.parent == os.getpid()


async def test_tokens_are_found_by_their_beginning() -> None:
    with (
        a_process("sleep", "60", token="aa11.1.1") as one,
        a_process("sleep", "60", token="aa11.12.1") as two,
    ):
        await wait_until(lambda: processes.token_of(one) and processes.token_of(two))
        assert set(processes.find_by_token("aa11.")) == {one, two}
        assert processes.find_by_token("aa11.1.") == [one]
        assert processes.find_by_token("bb22.") == []
        assert processes.token_of(os.getpid()) is None


async def test_survivors_are_ended_by_their_token() -> None:
    with (
        a_process("sleep", "60", token="cc33.1.1") as meek,
        a_process(sys.executable, "-c", DEAF, token="cc33.2.1") as deaf,
        a_process("sleep", "60", token="dd44.1.1") as other,
    ):
        await wait_until(lambda: len(processes.find_by_token("cc33.")) == 2)
        assert await processes.end_by_token("cc33.", 0.2) == 2
        assert processes.standing(meek) is None
        assert processes.standing(deaf) is None
        assert processes.standing(other) is not None
        assert await processes.end_by_token("cc33.", 0.2) == 0


async def test_what_forks_while_it_dies_is_ended_too() -> None:
    script = "trap 'setsid sleep 61 & exit' TERM; while :; do sleep 0.05; done"
    with a_process("sh", "-c", script, token="ee55.1.1"):
        await wait_until(lambda: processes.find_by_token("ee55."))
        assert await processes.end_by_token("ee55.", 1.0) >= 1
        assert processes.find_by_token("ee55.") == []


async def test_term_comes_before_kill(tmp_path: Path) -> None:
    script = (
        f"trap 'echo TERM > {tmp_path}/proof; exit' TERM; touch {tmp_path}/on; "
        "while :; do sleep 0.02; done"
    )
    with a_process("sh", "-c", script) as pid:
        await wait_until((tmp_path / "on").exists)
        assert await processes.end_all([pid, 2**22 - 1], 5.0) == []
        assert processes.standing(pid) is None
    assert (tmp_path / "proof").read_text() == "TERM\n"


async def test_a_pidfd_tells_the_end() -> None:
    with a_process("sh", "-c", "exit 7") as pid:
        descriptor = os.pidfd_open(pid)
        try:
            async with asyncio.timeout(10):
                await processes.ended(descriptor)
            assert processes.has_ended(descriptor)
            assert processes.exit_of(descriptor) == 7
        finally:
            os.close(descriptor)


async def test_orphans_are_adopted_while_the_block_runs() -> None:
    with (
        processes.adopting_orphans(),
        a_process("sh", "-c", "setsid sleep 60 & exit", token="ff.1.1") as pid,
    ):
        await wait_until(lambda: not _lives(pid), what="the parent's end")

        def adopted() -> list[int]:
            return [p for p in processes.children() if processes.token_of(p) == "ff.1.1"]

        [orphan] = await wait_until(adopted, what="an adopted orphan")
        assert processes.signal_one(orphan, signal.SIGKILL)
        await wait_until(lambda: processes.has_gone(orphan), what="its end")
        assert processes.standing(orphan) is None


def _lives(pid: int) -> bool:
    standing = processes.standing(pid)
    return standing is not None and not standing.is_zombie


def test_ignored_sigchld_is_put_right() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with processes.adopting_orphans(), a_process("sh", "-c", "exit 5") as pid:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_the_slow_way_finds_the_same_children() -> None:
    with a_process("sleep", "60") as pid:
        slow = [
            p for p in processes._pids() if (s := processes.standing(p)) and s.parent == os.getpid()
        ]
        assert pid in slow
        assert set(slow) == set(processes.children())
        assert Path(f"/proc/{pid}").exists()
