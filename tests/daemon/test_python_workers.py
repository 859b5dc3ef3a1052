"""Workers of Python functions when their daemon is killed: none is left, and the job runs again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.daemon_process import FILES_WATCH, DaemonProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.daemon

QUEUE = '[queue.files]\npython = "mine:work"\n'
SOURCE = """
import os, pathlib, time
gate = pathlib.Path(__file__).with_name("gate")
def work(job):
    job.log("on")
    while job.path.name == "slow.txt" and not gate.exists():
        time.sleep(0.01)
    return os.getpid()
"""


def test_the_workers_of_a_killed_daemon_end(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SOURCE)
    with DaemonProcess(tmp_path, queues=QUEUE, watches=FILES_WATCH) as daemon:
        daemon.drop("quick.txt")
        [quick] = wait_for(lambda: daemon.api.jobs("&state=succeeded"), what="a quick job")
        idle = int(quick["result"])
        daemon.drop("slow.txt")
        wait_for(lambda: daemon.api.jobs("&state=running"), what="a slow job")
        daemon.drop("quick2.txt")  # so that one is at work and one waits
        wait_for(lambda: len(daemon.api.jobs("&state=succeeded")) == 2, what="another quick one")
        workers = daemon.handlers()
        assert len(workers) == 2
        assert idle in workers
        daemon.kill()
        [busy] = wait_for(lambda: found if len(found := daemon.handlers()) == 1 else None)
        daemon.start()
        assert busy not in daemon.handlers()
        (tmp_path / "gate").touch()
        wait_for(lambda: len(daemon.api.jobs("&state=succeeded")) == 3, what="the slow job's end")
        [slow] = daemon.api.jobs("&search=slow.txt")
        outcomes = [attempt["outcome"] for attempt in daemon.api.attempts(slow["id"])]
        assert sorted(outcomes) == ["lost", "succeeded"]
        assert daemon.stop() == 0
        assert daemon.handlers() == []
