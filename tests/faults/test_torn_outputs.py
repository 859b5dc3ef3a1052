"""An output is there whole or not at all, whatever is killed; and it is never an input."""

from __future__ import annotations

import os
import random
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support import oracle
from tests.support.daemon_process import FILES_WATCH, DaemonProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.daemon, pytest.mark.faults, pytest.mark.timeout(1800)]

FEW, MANY = 12, 200
LINES = 40
SLOWLY = f"""
import sys, time
with open(sys.argv[1], "w") as file:
    for number in range({LINES}):
        print("line", number, file=file, flush=True)
        time.sleep(0.01)
    print("whole", file=file)
"""


def whole(path: Path) -> bool:
    lines = path.read_text().splitlines()
    return len(lines) == LINES + 1 and lines[-1] == "whole"


def test_no_partial_output_ever_bears_the_final_name(tmp_path: Path, long: bool) -> None:
    seed = int(os.environ.get("PQ_SEED", random.SystemRandom().randrange(10**6)))
    chance = random.Random(seed)  # noqa: S311 - replayable
    script = tmp_path / "slowly.py"
    script.write_text(SLOWLY)
    command = ", ".join(f"'{word}'" for word in (sys.executable, "-S", "-E", script, "{output}"))
    daemon = DaemonProcess(
        tmp_path / "d",
        queues=f"[queue.files]\ncommand = [{command}]\noutput = 'files/done/{{stem}}.out'\n",
        watches=FILES_WATCH,
        workers=4,
    )
    results, pause = daemon.files / "done", threading.Event()
    kills = MANY if long else FEW
    dropped = 0
    try:
        for _ in range(kills):
            daemon.start()
            for _ in range(2):
                daemon.drop(f"in-{dropped:04d}.txt")
                dropped += 1
            pause.wait(chance.uniform(0.2, 1.2))
            daemon.kill()
            torn = [path.name for path in results.glob("[!.]*") if not whole(path)]
            assert torn == [], f"seed {seed}"
        daemon.start()
        wait_for(
            lambda: all(job["finished_at"] for job in daemon.api.jobs()), timeout=120,
            what=f"the end of all jobs, seed {seed}",
        )  # fmt: skip
        daemon.api.post("/api/v1/watches/files/rescan")
        jobs = daemon.api.jobs()
        assert daemon.stop() == 0
    finally:
        daemon.kill()
        daemon.kill_handlers()
    assert {job["name"] for job in jobs} == {f"in-{n:04d}.txt" for n in range(dropped)}
    done = {job["name"] for job in jobs if job["state"] == "succeeded"}
    assert {path.stem + ".txt" for path in results.glob("[!.]*.out")} == done
    assert all(whole(path) for path in results.glob("[!.]*"))
    assert list(results.glob(".*")) == [], "no temporary file stays"
    assert oracle.trouble(daemon.state_dir, []) == []
    print(f"\nseed {seed}: {kills} kills, {len(jobs)} jobs, {len(done)} outputs, none torn")
