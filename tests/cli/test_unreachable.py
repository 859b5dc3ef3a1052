"""No daemon: exit status 69, and a message that says where it was looked for and what to do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pq_daemon.cli import main
from tests.support.daemon_process import free_port


def ask(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("PQ_SOCKET", str(path))
    return main(["queues"])


def test_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(tmp_path / "pq.sock", monkeypatch) == 69
    err = capsys.readouterr().err
    assert f"no daemon at {tmp_path}/pq.sock" in err
    assert "pq run" in err


def test_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(tmp_path / "not/there/pq.sock", monkeypatch) == 69


def test_a_socket_nobody_listens_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "pq.sock"))
    assert ask(tmp_path / "pq.sock", monkeypatch) == 69
    assert "nobody listens" in capsys.readouterr().err


def test_a_path_longer_than_an_address_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    here = os.open(deep, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"/proc/self/fd/{here}/pq.sock")
    os.close(here)
    assert ask(deep / "pq.sock", monkeypatch) == 69
    assert "nobody listens" in capsys.readouterr().err


def test_an_address_nobody_listens_at(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert main(["--url", url, "queues"]) == 69
    assert url in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_socket_of_somebody_else() -> None:
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)  # noqa: PTH101, S103 - anybody may come this far
        private = Path(place, "state")
        private.mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(str(private / "pq.sock"))
        program = (
            "import os, sys; from pq_daemon.cli import main; "
            "os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(main(['queues']))"
        )
        asked = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PQ_SOCKET": str(private / "pq.sock")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert asked.returncode == 69, asked.stderr
    assert f"{private} belongs to user root, group root (mode 0700)" in asked.stderr
    assert "sudo -u root" in asked.stderr
