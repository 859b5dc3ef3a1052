"""A real daemon for tests: its own process, its own directory, a free port on loopback.

    with DaemonProcess(tmp_path, queues=..., watches=...) as daemon:
        daemon.api.get("/api/v1/jobs")

It promises that nothing outlives the block: neither the daemon nor what its handlers started. The
state directory stays, so `start` after `kill` or `stop` is a restart on the same store. It speaks
plain blocking HTTP, so that a test can be a plain function.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

START_LIMIT: Final = 20.0
STOP_LIMIT: Final = 60.0
REPOSITORY: Final = Path(__file__).resolve().parents[2]
HASH_QUEUE: Final = '[queue.files]\ncommand = ["sha256sum", "--", "{path}"]\n'
FILES_WATCH: Final = '[[watch]]\nname = "files"\npath = "files"\nsettle = "100ms"\n'


def free_port() -> int:
    """Return a port of the loopback that nobody listens on at this moment."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Response:
    """An answer of the daemon."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.content)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the control socket."""

    def __init__(self, path: Path, *, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        # through the directory's descriptor: the whole path may be too long for an address
        directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            door.settimeout(self.timeout)
            door.connect(f"/proc/self/fd/{directory}/{self._path.name}")
        except OSError:
            door.close()
            raise
        finally:
            os.close(directory)
        self.sock = door


class BlockingApi:
    """The API over the control socket; each call is a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Response:
        connection = UnixConnection(self._path, timeout=timeout)
        content = None if body is None else json.dumps(body)
        kind = {} if body is None else {"Content-Type": "application/json"}
        try:
            connection.request(method, target, content, {**kind, **(headers or {})})
            answer = connection.getresponse()
            return Response(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def get(self, target: str, **more: Any) -> Response:
        return self.ask("GET", target, **more)

    def post(self, target: str, body: object = None, **more: Any) -> Response:
        return self.ask("POST", target, {} if body is None else body, **more)

    def jobs(self, query: str = "") -> list[dict[str, Any]]:
        """Every job that matches, newest first, over all pages."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.get(f"/api/v1/jobs?limit=200{query}{cursor}").body
            found += page["items"]
            if page["next"] is None:
                return found
            cursor = f"&cursor={page['next']}"

    def job(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/api/v1/jobs/{job}").body
        return found

    def attempts(self, job: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"/api/v1/jobs/{job}/attempts").body["items"]
        return found


class DaemonProcess:
    """One daemon. Its directory holds config.toml, files/, state/ and what the daemon printed.

    `queues`, `watches` and `more` are pieces of TOML; `server` and `daemon` are lines for those
    two tables. Paths in them are relative to the directory.
    """

    def __init__(
        self,
        directory: Path,
        *,
        queues: str = HASH_QUEUE,
        watches: str = FILES_WATCH,
        more: str = "",
        workers: int = 4,
        drain: str = "10s",
        server: str = "",
        daemon: str = "",
        state_dir: Path | None = None,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = ("run",),
    ) -> None:
        self.directory = directory
        self.state_dir = state_dir or directory / "state"
        self.files = directory / "files"
        self.config = directory / "config.toml"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.socket = self.state_dir / "pq.sock"
        self.api = BlockingApi(self.socket)
        self.pid = 0
        self._workers, self._drain = workers, drain
        self._server, self._daemon = server, daemon
        self._environment = dict(environment or {})
        self._arguments = tuple(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._printed: IO[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self.files.mkdir(exist_ok=True)
        self.configure(queues=queues, watches=watches, more=more)

    def __repr__(self) -> str:
        return f"<DaemonProcess {self.pid} {self.url} in {self.directory}>"

    def configure(self, *, queues: str, watches: str, more: str = "") -> None:
        """Write config.toml anew; a running daemon learns of it by SIGHUP or reload."""
        self.config.write_text(
            f"[daemon]\nstate_dir = {json.dumps(str(self.state_dir))}\n"
            f'workers = {self._workers}\ndrain_timeout = "{self._drain}"\n{self._daemon}\n'
            f'[server]\nlisten = "127.0.0.1:{self.port}"\n{self._server}\n'
            f"{watches}\n{queues}\n{more}\n",
            encoding="utf-8",
        )

    # its life

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    @property
    def command(self) -> list[str]:
        """What starts it."""
        return [sys.executable, "-m", "pq_daemon", "--config", str(self.config), *self._arguments]

    def launch(self) -> Self:
        """Start the process and return at once; `start` also waits until it is ready."""
        assert not self.is_running(), "it runs already"
        self._printed = (self.directory / "printed.log").open("ab")
        self._process = subprocess.Popen(
            self.command,
            cwd=self.directory,
            env=self._environ(),
            stdin=subprocess.DEVNULL,
            stdout=self._printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.pid = self._process.pid
        return self

    def start(self, *, probe: str = "/readyz", within: float = START_LIMIT) -> Self:
        self.launch()
        try:
            wait_for(lambda: self._answers(probe), timeout=within, what=f"{probe} of {self!r}")
        except BaseException:
            self.kill()
            raise
        return self

    def _answers(self, probe: str) -> bool:
        if not self.is_running():
            raise AssertionError(f"the daemon ended with {self.wait(1)}:\n{self.log()}")
        try:
            return self.api.get(probe, timeout=5).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def _environ(self) -> dict[str, str]:
        ours = {key: value for key, value in os.environ.items() if not key.startswith("PQ_")}
        path = os.pathsep.join(filter(None, (str(REPOSITORY), ours.get("PYTHONPATH"))))
        return {**ours, "PYTHONPATH": path, **self._environment}

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, within: float = STOP_LIMIT) -> int:
        """Wait for the end of the process and return its exit status."""
        assert self._process is not None
        status = self._process.wait(within)
        self._close()
        return status

    def stop(self, within: float = STOP_LIMIT) -> int:
        self.send(signal.SIGTERM)
        return self.wait(within)

    def end(self) -> None:
        """Leave nothing running: ask once, ask again (which ends handlers at once), kill."""
        try:
            for patience in (1.0, STOP_LIMIT / 3):
                if self.is_running():
                    self.send(signal.SIGTERM)
                    with suppress(subprocess.TimeoutExpired):
                        self.wait(patience)
        finally:
            self.kill()
            self.kill_handlers()

    def kill(self) -> None:
        """Kill -9: no goodbye. Handlers may survive it; the next start hunts them."""
        if self.is_running():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            assert self._process is not None
            self._process.wait(10)
        self._close()

    def _close(self) -> None:
        if self._printed is not None:
            self._printed.close()
            self._printed = None

    # what it leaves and says

    def log(self) -> str:
        """All that the process wrote to its terminal so far, over all its starts."""
        printed = self.directory / "printed.log"
        return printed.read_text(encoding="utf-8", errors="replace") if printed.exists() else ""

    def handlers(self) -> list[int]:
        """The living processes of this daemon's handlers, found by their HOME."""
        mark = b"HOME=" + os.fsencode(self.state_dir)
        return [pid for pid in _processes() if mark in _environment_of(pid)]

    def kill_handlers(self) -> None:
        for pid in self.handlers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def drop(self, name: str, content: bytes | str = b"sample\n") -> Path:
        """Put a whole file into files/ at once, as a careful producer does."""
        target = self.files / name
        hidden = self.files / f".{target.name}.part"
        hidden.write_bytes(content.encode() if isinstance(content, str) else content)
        return hidden.rename(target)

    def pq(
        self, *arguments: str, stdin: str = "", timeout: float = 30.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a pq command against this daemon's configuration."""
        return subprocess.run(
            [sys.executable, "-m", "pq_daemon", "--config", str(self.config), *arguments],
            cwd=self.directory,
            env=self._environ(),
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=timeout,
            check=False,
        )


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _environment_of(pid: int) -> list[bytes]:
    """The environment a process was started with; empty for zombies and strangers."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
