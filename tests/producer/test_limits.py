"""The kernel's limit on watched directories: said at the start, silent while running.

The limit is lowered in a user namespace of the process, so nobody else on the machine feels it.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.producer.folder import on_disk
from tests.producer.test_restarting import a_process, asked, taken_in

if TYPE_CHECKING:
    from pathlib import Path


def within(watches: int) -> list[str]:
    """A command's beginning, under which so many directories may be watched; else skips."""
    lower = f"echo {watches} > /proc/sys/user/max_inotify_watches"
    inside = ["unshare", "--user", "--map-root-user", "sh", "-c", f'{lower}; exec "$@"', "-"]
    try:
        done = subprocess.run([*inside, "true"], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no unshare here: the limit on watches is not tested")
    if done.returncode or done.stderr:
        pytest.skip(f"no user namespaces here: the limit on watches is not tested: {done.stderr}")
    return inside


def grow(root: Path, start: int, end: int) -> None:
    for number in range(start, end):
        (root / f"{number}").mkdir()
        (root / f"{number}" / "file").write_text(f"{number}")


async def test_too_many_directories_at_the_start(tmp_path: Path, root: Path) -> None:
    grow(root, 0, 40)
    state = tmp_path / "state"
    async with a_process(state, root, inside=within(20)) as process:
        status = await asked(process, b"40")
        assert status.startswith("degraded files are found by scanning alone")
        assert "limit reached" in status
        (root / "39" / "another").write_text("another")
        await asked(process, b"41")
        process.kill()
    assert await taken_in(state) == on_disk(root)


async def test_too_many_directories_while_running(tmp_path: Path, root: Path) -> None:
    """No error, no event from the directories beyond; what comes with them is looked for."""
    grow(root, 0, 5)
    state = tmp_path / "state"
    async with a_process(state, root, inside=within(20)) as process:
        assert (await asked(process, b"5")).startswith("ok")
        grow(root, 5, 40)
        await asked(process, b"40")
        (root / "39" / "another").write_text("another")
        await asked(process, b"scan")
        process.kill()
    assert await taken_in(state) == on_disk(root)
