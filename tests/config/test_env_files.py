"""Files of secrets: who may read them, what they may say, and that nobody is told a value."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pq_daemon.config.env_files import EnvFileError, read_env_file
from pq_daemon.config.masking import masked
from tests.config.texts import only, read, refused

if TYPE_CHECKING:
    from pathlib import Path

QUEUE = '[queue.files]\ncommand = ["true"]\nenv_file = "secrets"\n'


def secrets(tmp_path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = tmp_path / "secrets"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def test_its_lines(tmp_path: Path) -> None:
    text = "# of the partner\n\nTOKEN=a=b c \nexport QUOTED=\"x 'y'\"\nEMPTY=\nONE='1'\n"
    assert read_env_file(secrets(tmp_path, text)) == {
        "TOKEN": "a=b c",
        "QUOTED": "x 'y'",
        "EMPTY": "",
        "ONE": "1",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A=1\nhunter2\n", "line 2 is not KEY=VALUE"),
        ("A B=hunter2\n", "line 1 is not KEY=VALUE"),
        ("A=hunter2\0\n", "line 1 is not KEY=VALUE"),
        (b"A=hunter2\xff\n", "is not UTF-8"),
        (b"#" * (2**20 + 1), "is larger than 1 MiB"),
    ],
)
def test_what_is_no_list_of_variables(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(EnvFileError) as caught:
        read_env_file(secrets(tmp_path, text))
    assert str(caught.value) == said


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o602, 0o601])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(EnvFileError, match=f"has mode {mode:04o}"):
        read_env_file(secrets(tmp_path, "A=1", mode))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_whose_it_may_be(tmp_path: Path) -> None:
    path = secrets(tmp_path, "A=1", 0o640)
    assert read_env_file(path) == {"A": "1"}  # root's, readable by the service's group
    os.chown(path, 12345, -1)
    with pytest.raises(EnvFileError, match="belongs to user 12345"):
        read_env_file(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, said in {"fifo": "not a regular", "none": "No such", ".": "Is a directory"}.items():
        with pytest.raises(EnvFileError, match=said):
            read_env_file(tmp_path / name)


def test_it_is_checked_with_the_configuration(tmp_path: Path) -> None:
    source = tmp_path / "config.toml"
    problem = only(refused(QUEUE, source))
    assert (problem.key, problem.line, problem.found) == ("queue.files.env_file", 3, '"secrets"')
    assert problem.hint == f"{tmp_path}/secrets cannot be read: No such file or directory"
    secrets(tmp_path, "KEY=hunter2\nPQ_PATH=hunter2\n")
    problem = only(refused(QUEUE, source))
    assert (problem.found, problem.hint) == ("PQ_PATH", "the daemon sets this one itself")
    secrets(tmp_path, "hunter2\n")
    assert "hunter2" not in only(refused(QUEUE, source)).sentence


def test_its_values_are_no_part_of_the_settings(tmp_path: Path) -> None:
    secrets(tmp_path, "KEY=hunter2\n")
    settings = read(QUEUE, tmp_path / "config.toml")
    assert settings.queues["files"].env_file == tmp_path / "secrets"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in repr(masked(settings))
