"""A machine for tests: a real systemd, booted beside the host's, on a throw-away copy of its files.

    with Machine(tmp_path, {venv: "/opt/pq"}) as machine:
        machine.run("systemctl", "start", "pq")
        (machine.root / "srv/in/a.txt").write_text("a")

It promises that nothing of it outlives the block (nor the tests, should they be killed), and that
the host's services, cgroups, sysctls and files are not touched. The script `boot` has the how.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

BOOT: Final = Path(__file__).with_name("boot")
BOOT_LIMIT: Final = 20.0
POWER_OFF: Final = signal.SIGRTMIN + 4
"""What systemd understands as: stop everything in order, then end (systemd(1))."""

POWER_OFF_LIMIT: Final = 15.0
ENVIRONMENT: Final = (
    "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "SYSTEMD_PAGER=",
    "SYSTEMD_COLORS=0",
)  # fmt: skip
TOOLS: Final = ("unshare", "nsenter", "setpriv", "findmnt")


def why_not() -> str | None:
    """Return what this host lacks to boot a machine, None when it can."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in TOOLS:
        if shutil.which(tool) is None:
            return f"needs {tool} (the package util-linux)"
    if not Path("/usr/lib/systemd/systemd").exists():
        return "needs systemd"
    if not Path("/usr/bin/python3").exists():
        return "needs /usr/bin/python3"
    if subprocess.run(
        ["unshare", "-p", "-m", "--fork", "true"], check=False, capture_output=True
    ).returncode:
        return "may not make namespaces"
    return None if _cgroups() else "needs cgroup2"


def _cgroups() -> Path | None:
    """Where the unified hierarchy is mounted, on this host."""
    found = subprocess.run(
        ["findmnt", "-rn", "-t", "cgroup2", "-o", "TARGET"],
        check=False,
        capture_output=True,
        text=True,
    ).stdout.split()
    return Path(found[0]) if found else None


class Machine:
    """One boot. `seen` are directories of the host that it sees, and where."""

    def __init__(self, directory: Path, seen: Mapping[Path, str]) -> None:
        self._directory = directory
        self._seen = [f"{source}:{target}" for source, target in seen.items()]
        self._log = directory / "boot.log"
        self._outer: subprocess.Popen[bytes] | None = None
        self._cgroup = Path()
        self.first = 0
        """Its process 1, as the host counts."""

    def __repr__(self) -> str:
        return f"<Machine {self.first or 'off'}>"

    @property
    def root(self) -> Path:
        """Its files, as the host reaches them: `root / "etc/passwd"`."""
        return Path(f"/proc/{self.first}/root")

    # --- life ---

    def __enter__(self) -> Self:
        try:
            self._boot()
        except BaseException:
            self.power_off()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.power_off()

    def _boot(self) -> None:
        hierarchy = _cgroups()
        assert hierarchy is not None, "no cgroup2"
        name = hashlib.sha256(bytes(self._directory)).hexdigest()[:8]
        self._cgroup = hierarchy / f"pq-machine-{name}"
        self._is_empty()  # tests that were killed could not remove theirs
        self._cgroup.mkdir()
        place = self._directory / "machine"
        place.mkdir()
        with self._log.open("wb") as log:
            self._outer = subprocess.Popen(
                ["bash", BOOT, self._cgroup, place, *self._seen],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for(self._is_up, timeout=BOOT_LIMIT, what="the machine to boot")

    def _is_up(self) -> bool:
        assert self._outer is not None
        assert self._outer.poll() is None, f"it ended: {self._log.read_text()}"
        outer = self._outer.pid
        children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        if not children:
            return False
        self.first = int(children[0])
        # the socket is inside: while /proc still shows the host's files there is another one
        if Path(f"/proc/{self.first}/comm").read_text().strip() != "systemd":
            return False
        if not (self.root / "run/systemd/private").exists():
            return False
        # degraded: a unit of the host's that cannot work here
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in {
            "running",
            "degraded",
        }

    def power_off(self) -> None:
        """Stop its services in order, then everything. Safe to repeat."""
        if self._outer is not None:
            with suppress(ProcessLookupError):
                if self.first:
                    os.kill(self.first, POWER_OFF)
            with suppress(subprocess.TimeoutExpired):
                self._outer.wait(POWER_OFF_LIMIT if self.first else 0)
            self._outer.kill()  # and with it process 1, and with that all others
            self._outer.wait()
            self._outer = None
        self.first = 0
        if self._cgroup.name:
            wait_for(self._is_empty, what=f"{self._cgroup} to be empty")

    def _is_empty(self) -> bool:
        """Remove its cgroup; whether that could be done. Dying processes hold on for a moment."""
        for directory, _, _ in os.walk(self._cgroup, topdown=False):
            with suppress(OSError):
                Path(directory).rmdir()
        return not self._cgroup.exists()

    # --- commands ---

    def command(self, *words: object, user: str | None = None) -> list[str]:
        """Return what runs a command inside, as root or as a user with all its groups."""
        inside = ["nsenter", "-t", str(self.first), "--all", "--root", "--wd", *ENVIRONMENT]
        if user is not None:
            inside += ["setpriv", "--reuid", user, "--regid", user, "--init-groups"]
        return [*inside, *map(str, words)]

    def run(
        self, *words: object, user: str | None = None, check: bool = True, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside. With `check` it must succeed."""
        done = subprocess.run(
            self.command(*words, user=user),
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            **more,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def shell(self, script: str, *, user: str | None = None) -> str:
        """Run a script of sh that must succeed; return what it printed."""
        return self.run("sh", "-euc", script, user=user).stdout
