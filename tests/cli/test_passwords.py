"""`pq passwd`: from a terminal without echo, or one line of stdin; never from the command line."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from pq_daemon.config.passwords import verify

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "correct horse battery"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    config = tmp_path / "config.toml"
    config.write_text('# mine\n[queue.a]\ncommand = ["true"]\n')
    return config


def passwd(config: Path, *words: str, stdin: str | bytes) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pq_daemon", "--config", str(config), "passwd", *words],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def users(config: Path) -> list[dict[str, str]]:
    return list(tomllib.loads(config.read_text()).get("user", []))


def test_a_user_is_created_and_changed(config: Path) -> None:
    done = passwd(config, "anna", stdin=f"{SECRET}\nmore\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "pq reload" in done.stdout
    [anna] = users(config)
    assert (anna["name"], anna["role"]) == ("anna", "manager")
    assert verify(anna["password_hash"], SECRET)
    assert SECRET not in config.read_text()
    assert config.read_text().startswith("# mine\n")

    assert passwd(config, "anna", "--role", "viewer", stdin="another good one\r\n").returncode == 0
    [anna] = users(config)
    assert anna["role"] == "viewer"
    assert verify(anna["password_hash"], "another good one")


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        (b"", "no password on stdin"),
        (b"short\n", "at least 12 characters"),
        (b"Annaannaanna\n", "name"),
        (b"\xff\xfe long enough it is\n", "not UTF-8"),
    ],
)
def test_a_weak_password_changes_nothing(config: Path, stdin: bytes, said: str) -> None:
    before = config.read_text()
    done = passwd(config, "annaannaanna", stdin=stdin)
    assert done.returncode == 1
    assert said in done.stderr
    assert config.read_text() == before


def at_a_terminal(config: Path, *answers: str) -> tuple[int, str]:
    """Run passwd on a terminal of its own; return its exit status and what the screen showed."""
    pid, screen = pty.fork()
    if pid == 0:
        words = [sys.executable, "-m", "pq_daemon", "--config", str(config), "passwd", "anna"]
        os.execv(sys.executable, words)  # noqa: S606 - the program under test
    shown = b""
    left = list(answers)
    try:
        while select.select([screen], [], [], 20)[0]:
            shown += os.read(screen, 4096)
            if left and shown.endswith(b": "):
                os.write(screen, left.pop(0).encode() + b"\n")
    except OSError:  # the terminal closed with its last user
        pass
    finally:
        os.close(screen)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_on_a_terminal_it_asks_twice_and_shows_nothing(config: Path) -> None:
    status, shown = at_a_terminal(config, SECRET, SECRET)
    assert status == 0, shown
    assert SECRET not in shown
    assert verify(users(config)[0]["password_hash"], SECRET)


def test_two_different_answers_change_nothing(config: Path) -> None:
    status, shown = at_a_terminal(config, SECRET, SECRET + "x")
    assert status == 1
    assert "not the same" in shown
    assert users(config) == []
