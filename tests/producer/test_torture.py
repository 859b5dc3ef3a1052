"""Everything at once, with kill -9 in between: no file missing, none twice, none half.

Five seconds and two kills as a rule; `--long` makes it a minute and twelve.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import random
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pq_daemon.store.engines import open_store
from tests.producer.folder import accepted
from tests.producer.test_restarting import a_process, asked

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path


@dataclass
class Dropper:
    """Drops files in every way people do, and remembers each version that was ever whole."""

    root: Path
    beside: Path
    chance: random.Random
    versions: dict[Path, list[bytes]] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def content(self) -> bytes:
        """Never the same twice, of very different lengths."""
        return b"%d;" % next(self.numbers) * self.chance.choice([1, 10, 1000, 100_000])

    def whole(self, path: Path, content: bytes) -> None:
        self.versions.setdefault(path, []).append(content)

    async def drop(self) -> None:
        ways = [self.write, self.rename, self.slowly, self.tree, self.moved_tree, self.rewrite,
                self.change_mode, self.rsync]  # fmt: skip
        await self.chance.choice(ways)()

    def new(self) -> Path:
        place = self.chance.choice(["0", "1", "1/2", "1/2/3", "4"])
        path = self.root / place / f"{next(self.numbers)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    async def write(self) -> None:
        path, content = self.new(), self.content()
        path.write_bytes(content)
        self.whole(path, content)

    async def rename(self) -> None:
        path, content = self.new(), self.content()
        beside = self.beside / path.name
        beside.write_bytes(content)
        beside.rename(path)
        self.whole(path, content)

    async def slowly(self) -> None:
        """Held open, with pauses of several settle times."""
        path, parts = self.new(), [self.content() for _ in range(4)]
        with path.open("wb", buffering=0) as file:
            for part in parts:
                file.write(part)
                await asyncio.sleep(self.chance.uniform(0, 0.3))
        self.whole(path, b"".join(parts))

    async def tree(self) -> None:
        top = self.new()
        self._grow(top, top)

    async def moved_tree(self) -> None:
        top = self.new()
        beside = self.beside / top.name
        self._grow(beside, top)
        beside.rename(top)

    def _grow(self, here: Path, there: Path) -> None:
        for number in range(self.chance.randrange(1, 6)):
            name, content = f"{number}/a/b/{number}", self.content()
            (here / name).parent.mkdir(parents=True)
            (here / name).write_bytes(content)
            self.whole(there / name, content)

    async def rewrite(self) -> None:
        if self.versions:
            path, content = self.chance.choice(list(self.versions)), self.content()
            path.write_bytes(content)
            self.whole(path, content)

    async def change_mode(self) -> None:
        if self.versions:
            path = self.chance.choice(list(self.versions))
            path.chmod(0o600)
            os.utime(path)

    async def rsync(self) -> None:
        if shutil.which("rsync") is None:
            return
        path, content = self.new(), self.content()
        (self.beside / path.name).write_bytes(content)
        option = self.chance.choice(["--inplace", "--times", "--delay-updates"])
        copying = await asyncio.create_subprocess_exec(
            "rsync", option, str(self.beside / path.name), str(path)
        )
        assert await copying.wait() == 0
        self.whole(path, content)


@pytest.mark.faults
@pytest.mark.timeout(240)
@pytest.mark.parametrize("inner", [(), ("1", "1/2")], ids=["one watch", "three nested watches"])
async def test_all_at_once_with_kills(
    tmp_path: Path, root: Path, long: bool, inner: tuple[str, ...]
) -> None:
    asyncio.get_running_loop().slow_callback_duration = 10  # the dropper blocks as it likes
    kills, patience = (12, 5.0) if long else (2, 2.5)
    (tmp_path / "beside").mkdir()
    dropper = Dropper(root, tmp_path / "beside", random.Random(5))  # noqa: S311 - no secret
    state, roots = tmp_path / "state", [root, *(root / name for name in inner)]
    for place in roots:
        place.mkdir(exist_ok=True)
    for _ in range(kills):
        async with a_process(state, *roots) as process:
            await _drop_for(dropper, dropper.chance.uniform(0.5, 1.5) * patience)
            process.kill()
            await _drop_for(dropper, 0.2)
    async with a_process(state, *roots) as process:
        await asked(process, b"scan")
        process.kill()
    async with open_store(state) as store:
        taken = await accepted(store)
    _compare(taken, dropper.versions)


async def _drop_for(dropper: Dropper, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds

    async def keep_dropping() -> None:
        while loop.time() < deadline:
            await dropper.drop()
            await asyncio.sleep(dropper.chance.uniform(0, 0.02))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(6):
            tasks.create_task(keep_dropping())


def _compare(taken: Counter[tuple[bytes, bytes]], versions: dict[Path, list[bytes]]) -> None:
    def version(path: Path, content: bytes) -> tuple[bytes, bytes]:
        return bytes(path), hashlib.sha256(content).digest()

    last = {version(path, contents[-1]) for path, contents in versions.items()}
    whole = {version(path, content) for path, contents in versions.items() for content in contents}
    print(f"\n{len(versions)} files, {len(whole)} versions, {len(taken)} taken")
    assert not last - set(taken), "missing"
    assert not set(taken) - whole, "half"
    assert not {version: times for version, times in taken.items() if times > 1}, "twice"
