"""kill -9 at random moments: every accepted job ends, once; nothing of a handler survives.

The seed is printed with a failure and can be replayed with PQ_SEED.
"""

from __future__ import annotations

import os
import random
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support import oracle
from tests.support.daemon_process import FILES_WATCH, DaemonProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.daemon, pytest.mark.faults, pytest.mark.timeout(900)]

FEW, MANY = 10, 50


class Dropper(threading.Thread):
    """Drops files all the while: most at once, some written slowly, some renamed into place."""

    def __init__(self, daemon: DaemonProcess, seed: int) -> None:
        super().__init__(name="dropper")
        self._daemon, self._chance = daemon, random.Random(seed)  # noqa: S311 - replayable
        self._enough = threading.Event()
        self.dropped: set[str] = set()

    def run(self) -> None:
        while not self._enough.wait(self._chance.uniform(0.01, 0.08)):
            kind = self._chance.choice(["fast", "fast", "slow"])
            name = f"{kind}-{len(self.dropped):05d}.txt"
            if self._chance.random() < 0.3:
                with (self._daemon.files / name).open("w") as file:
                    for part in range(3):
                        file.write(f"{name} {part}\n")
                        file.flush()
                        self._enough.wait(0.02)
            else:
                self._daemon.drop(name, f"{name}\n")
            self.dropped.add(name)

    def stop(self) -> None:
        self._enough.set()
        self.join()


def everything_ended(daemon: DaemonProcess, names: set[str]) -> bool:
    jobs = daemon.api.jobs()
    if {job["name"] for job in jobs} != names:
        return False
    return all(job["finished_at"] is not None for job in jobs)


def test_every_job_ends_once_through_random_kills(tmp_path: Path, long: bool) -> None:
    seed = int(os.environ.get("PQ_SEED", random.SystemRandom().randrange(10**6)))
    chance = random.Random(seed)  # noqa: S311 - replayable
    recorder = oracle.Recorder(tmp_path)
    kills = MANY if long else FEW
    daemon = DaemonProcess(tmp_path / "d", queues=recorder.queue(), watches=FILES_WATCH, workers=6)
    dropper = Dropper(daemon, seed)
    dropper.start()
    pause = threading.Event()
    try:
        for _ in range(kills):
            if chance.random() < 0.2:
                daemon.launch()  # not waited for: the kill may hit the start itself
            else:
                daemon.start()
            pause.wait(chance.uniform(0.0, 1.5))
            daemon.kill()
        dropper.stop()
        before = recorder.lines()
        daemon.start()
        survivors = [line.pid for line in before if line.pid in daemon.handlers()]
        assert survivors == [], f"seed {seed}"
        wait_for(
            lambda: everything_ended(daemon, dropper.dropped),
            timeout=240,
            what=f"the end of {len(dropper.dropped)} jobs, seed {seed}",
        )
        jobs = daemon.api.jobs()
        assert daemon.stop() == 0
        wait_for(lambda: daemon.handlers() == [], timeout=5, what="no handler left")
    finally:
        dropper.stop()
        daemon.kill()
        daemon.kill_handlers()
    found = oracle.trouble(daemon.state_dir, recorder.lines())
    assert found == [], f"seed {seed}: {found}"
    states = {
        state: sum(job["state"] == state for job in jobs) for state in ("succeeded", "failed")
    }
    quarantined = [job for job in jobs if job["reason"] == "quarantined"]
    assert states["failed"] == len(quarantined), f"seed {seed}"
    lost = oracle.look(daemon.state_dir, "SELECT count(*) FROM attempts WHERE outcome = 'lost'")
    print(f"\nseed {seed}: {kills} kills, {len(jobs)} jobs, {states}, {lost[0][0]} attempts lost")
