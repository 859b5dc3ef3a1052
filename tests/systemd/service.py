"""pq as a service of a test machine: what a test writes for it, does to it and asks of it."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any, Final

from tests.support.daemon_process import BlockingApi
from tests.support.oracle import look
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.systemd.machine import Machine

PQ: Final = "/opt/pq/bin/pq"
CONFIG: Final = "/etc/pq/config.toml"
DROP_INS: Final = "etc/systemd/system/pq.service.d"
DAEMON: Final = '[daemon]\nstate_dir = "/var/lib/pq"\ndrain_timeout = "1s"\n'
HASHING: Final = """
[[watch]]
name = "in"
path = "/srv/in"
settle = "100ms"

[queue.in]
command = ["sha256sum", "--", "{path}"]
"""
WAITING: Final = """
[queue.waiting]
command = ["sh", "-c", "until [ -e /srv/go-$PQ_JOB_ID ]; do sleep 0.02; done"]
kill_grace = "1s"
"""
"""Its jobs run until somebody makes their file."""


class Service:
    """The service of one machine, installed and not started, with nothing left of other tests."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._since = time.time()
        machine.shell(
            f"""
            systemctl stop pq 2>/dev/null || true
            systemctl reset-failed pq 2>/dev/null || true
            rm -rf /{DROP_INS} {CONFIG} /var/lib/pq /srv/*
            [ -e /etc/systemd/system/pq.service ] || {PQ} service install
            install -d -m 2775 -g pq /srv/in
            """
        )
        self.drop_in("test", "RestartSec=100ms")

    @property
    def root(self) -> Path:
        return self.machine.root

    @property
    def state_dir(self) -> Path:
        return self.root / "var/lib/pq"

    @property
    def api(self) -> BlockingApi:
        return BlockingApi(self.state_dir / "pq.sock")

    # --- before it runs ---

    def configure(self, *parts: str) -> None:
        (self.root / CONFIG[1:]).write_text("\n".join([DAEMON, *parts]))

    def drop_in(self, name: str, *lines: str) -> None:
        place = self.root / DROP_INS
        place.mkdir(exist_ok=True)
        (place / f"{name}.conf").write_text("\n".join(["[Service]", *lines, ""]))
        self.machine.run("systemctl", "daemon-reload")

    # --- what people do ---

    def systemctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.machine.run("systemctl", *words, check=check)

    def start(self) -> None:
        self.systemctl("start", "pq")

    def pq(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.machine.run(PQ, "--config", CONFIG, *words, check=check)

    def drop(self, name: str, content: str, *, user: str, into: str = "/srv/in") -> None:
        """Have a user of the machine write a file, readable for its group."""
        self.machine.run(
            "sh", "-c", 'umask 027; cat >"$1"', "sh", f"{into}/{name}", user=user, input=content
        )

    def submit(self, queue: str) -> str:
        answer = self.api.post("/api/v1/jobs", {"queue": queue, "payload": {}})
        assert answer.status == 201, answer.content
        return str(answer.body["id"])

    def let_go(self, job: str) -> None:
        (self.root / f"srv/go-{job}").touch()

    # --- what is to be seen ---

    def shown(self, name: str) -> str:
        """A property, as systemctl show names it."""
        return self.systemctl("show", "--value", "--property", name, "pq").stdout.strip()

    def journal(self) -> str:
        """What the service and systemd said about it since the test began."""
        return self.machine.run(
            "journalctl", "-q", "-o", "cat", "-u", "pq", f"--since=@{self._since:.3f}"
        ).stdout

    def restarted(self) -> bool:
        return (self.shown("NRestarts"), self.shown("ActiveState")) == ("1", "active")

    def in_state(self, job: str, state: str) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            found = self.api.job(job)
            return found if found["state"] == state else None

        found: dict[str, Any] = wait_for(there, what=f"job {job} to be {state}")
        return found

    def finished(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = wait_for(
            lambda: seen if (seen := self.api.job(job))["finished_at"] else None
        )
        return found

    def job_of(self, name: str, state: str = "succeeded") -> dict[str, Any]:
        """Wait for the one job of a file to reach a state."""

        def there() -> dict[str, Any] | None:
            found = [job for job in self.api.jobs() if job["name"] == name]
            return found[0] if found and found[0]["state"] == state else None

        found: dict[str, Any] = wait_for(there, what=f"a job of {name} that has {state}")
        return found

    def outcomes(self, job: str) -> list[str]:
        return sorted(attempt["outcome"] for attempt in self.api.attempts(job))

    def printed(self, job: str) -> str:
        number = len(self.api.attempts(job))
        target = f"/api/v1/jobs/{job}/attempts/{number}/output"
        return self.api.get(target).content.decode()

    def ask_store(self, aside: Path, *questions: str) -> list[list[tuple[Any, ...]]]:
        """Ask the store of a daemon that is down; of a copy, SQLite does not find it in there."""
        shutil.copytree(self.state_dir, aside)
        return [look(aside, sql) for sql in questions]

    def owned(self, path: str, user: str, group: str, mode: int) -> None:
        """Make a directory that belongs to others."""
        place = self.root / path.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        os.chown(place, self._number("passwd", user), self._number("group", group))
        place.chmod(mode)

    def _number(self, table: str, name: str) -> int:
        for line in (self.root / "etc" / table).read_text().splitlines():
            fields = line.split(":")
            if fields[0] == name:
                return int(fields[2])
        raise LookupError(f"no {name} in {table}")
