"""`pq init`: four questions on a terminal, options elsewhere; a configuration that works."""

from __future__ import annotations

import os
import pty
import select
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pq_daemon.cli import init as command
from pq_daemon.cli import main, recipes
from pq_daemon.config.loading import load
from pq_daemon.config.passwords import verify

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = str(Path(__file__).resolve().parents[2])
SECRET = "correct horse battery"


def init(directory: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pq_daemon", "init", *words],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": REPOSITORY},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def asked(directory: Path, answers: Sequence[tuple[str, str]], *words: str) -> tuple[int, str]:
    """Answer on a terminal: each answer when its question stands there."""
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            os.chdir(directory)
            os.environ["PYTHONPATH"] = REPOSITORY
            os.execv(sys.executable, [sys.executable, "-m", "pq_daemon", "init", *words])  # noqa: S606
        finally:
            os._exit(127)
    try:
        text = ""
        for question, answer in answers:
            text += heard(terminal, question)
            os.write(terminal, answer.encode() + b"\n")
        text += heard(terminal, None)
    finally:
        os.close(terminal)
        status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status), text.replace("\r", "")


def heard(terminal: int, until: str | None) -> str:
    text = ""
    while until is None or until not in text:
        assert select.select([terminal], [], [], 20)[0], f"{until!r} did not come: {text!r}"
        try:
            data = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            data = b""
        if not data:
            assert until is None, f"it ended before {until!r}: {text!r}"
            break
        text += data.decode()
    return text


def test_four_questions_make_a_configuration_that_passes_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = asked(
        tmp_path,
        [
            ("[in] > ", "scans"),
            ("[1] > ", "7"),
            ("from 1 to 5", ""),
            ("What about files", "2"),
            ("New password for admin", "short"),
            ("The same again", "short"),
            ("New password for admin", SECRET),
            ("The same again", SECRET),
        ],
    )
    assert status == 0, text
    assert SECRET not in text
    assert text.splitlines()[-4:] == [
        "Next:",
        "  pq check",
        "  pq run",
        "  cp SOME-FILE scans/    (in another terminal)",
    ]
    config = tmp_path / "config.toml"
    assert config.stat().st_mode & 0o777 == 0o600
    settings = load(config)
    [watch] = settings.watches
    assert (watch.name, watch.path, watch.existing) == ("scans", tmp_path / "scans", "skip")
    assert settings.queues["scans"].command == ("sha256sum", "--", "{path}")
    [user] = settings.users
    assert (user.name, user.role, verify(user.password_hash, SECRET)) == ("admin", "manager", True)
    assert main(["--config", str(config), "check"]) == 0
    assert "missing" not in capsys.readouterr().out


def test_a_command_that_needs_a_shell_is_asked_for_again(tmp_path: Path) -> None:
    status, text = asked(
        tmp_path,
        [
            ("[in] > ", ""),
            ("[1] > ", "command"),
            ("Which command?", "ls {path} | wc"),
            ("Which command?", "wc -l"),
            ("What about files", ""),
            ("New password", SECRET),
            ("again", SECRET),
        ],
    )
    assert status == 0, text
    assert "no shell reads the command, so | would mean nothing" in text
    assert load(tmp_path / "config.toml").queues["in"].command == ("wc", "-l", "{path}")


def test_leaving_early_writes_nothing(tmp_path: Path) -> None:
    status, text = asked(tmp_path, [("[in] > ", "scans"), ("[1] > ", "\x04")])
    assert status == 1
    assert "nothing was written" in text
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_the_options_say_it_all(tmp_path: Path) -> None:
    words = ("sub", "--folder", "post box", "--do", "hash", "--existing", "hold")
    done = init(tmp_path, *words, "--password-stdin", stdin=f"{SECRET}\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "pq --config sub/config.toml check" in done.stdout
    settings = load(tmp_path / "sub/config.toml")
    assert settings.watches[0].path == tmp_path / "sub/post box"
    assert settings.watches[0].name == "post-box"
    assert settings.watches[0].existing == "hold"
    assert settings.users


def test_with_nothing_said_it_takes_the_defaults_and_says_what_is_missing(tmp_path: Path) -> None:
    done = init(tmp_path)
    assert done.returncode == 0
    assert "nobody can log in yet: pq passwd admin --role manager" in done.stdout
    assert load(tmp_path / "config.toml").watches[0].path == tmp_path / "in"


def test_it_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("# mine\n")
    (tmp_path / "new").mkdir()
    (tmp_path / "new/handlers.py").write_text("mine = True\n")
    done = init(tmp_path)
    assert done.returncode == 1
    assert "is there already; init never overwrites" in done.stderr
    assert (tmp_path / "config.toml").read_text() == "# mine\n"
    assert init(tmp_path, "new", "--do", "python").returncode == 0
    assert (tmp_path / "new/handlers.py").read_text() == "mine = True\n"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--do", "command"), 1, "needs --command"),
        (("--command", "cat {path} > x"), 1, "no shell"),
        (("--command", "cat '{path}"), 1, "this is no command"),
        (("--command", "cat {file}"), 78, "{file}"),
        (("--do", "hash", "--command", "cat"), 1, "--command is for --do command"),
        (("--folder", "."), 78, "state_dir"),
        (("--password-stdin",), 1, "no password on stdin"),
        (("--do", "magic"), 2, "invalid choice"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(
    tmp_path: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    done = init(tmp_path, *words)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["hash", "ocr", "thumbnails", "python"])
def test_every_recipe_is_valid(tmp_path: Path, kind: str) -> None:
    done = init(tmp_path, "--do", kind)
    assert done.returncode == 0, done.stderr
    assert "in" in load(tmp_path / "config.toml").queues
    missing = recipes.recipe(kind).missing
    assert (missing is not None) == ("is not installed" in done.stdout)


def test_a_port_in_use_is_left_alone(tmp_path: Path) -> None:
    with socket.socket() as door:
        with suppress(OSError):  # somebody else has it: as good
            door.bind(("127.0.0.1", command.PORTS.start))
        assert init(tmp_path).returncode == 0
        listen: Any = load(tmp_path / "config.toml").server.listen
    assert listen != f"127.0.0.1:{command.PORTS.start}"
