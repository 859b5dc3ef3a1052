"""Directories that would feed the daemon its own files are refused, wherever links lead."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pq_daemon.config import directories
from pq_daemon.config.directories import is_within, kind_of
from pq_daemon.runtime.filesystems import filesystem
from tests.config.texts import QUEUE, only, refused

if TYPE_CHECKING:
    from pq_daemon.config.loading import Problem


def configured(
    home: Path, *, state: str = "state", log: str = "", watches: tuple[str, ...] = ("in",)
) -> list[Problem]:
    text = f'[daemon]\nstate_dir = "{state}"\nlog_file = "{log}"\n'
    for number, path in enumerate(watches):
        text += f'[[watch]]\nname = "w{number}"\npath = "{path}"\nqueue = "files"\n'
    return refused(text + QUEUE, home / "config.toml")


def test_directories_apart(tmp_path: Path) -> None:
    assert configured(tmp_path, log="log/pq.log", watches=("in", "in2", "sub/in", "in.old")) == []


@pytest.mark.parametrize(
    ("state", "watch", "relation"),
    [
        ("in/state", "in", "it holds"),
        ("in", "in", "it holds"),
        ("data", "data/in", "it lies in"),
        ("in/../in/./state", "in", "it holds"),
        ("state", ".", "it holds"),
        ("state", "/", "it holds"),
    ],
)
def test_state_and_watches_are_apart(tmp_path: Path, state: str, watch: str, relation: str) -> None:
    problem = only(configured(tmp_path, state=state, watches=(watch,)))
    assert (problem.key, problem.line) == ("watch.w0.path", 6)
    assert problem.allowed == "a directory apart from daemon.state_dir"
    assert problem.hint.startswith(relation)


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real/state").mkdir(parents=True)
    (tmp_path / "in").symlink_to("real")
    assert only(configured(tmp_path, state="real/state")).key == "watch.w0.path"
    (tmp_path / "elsewhere").symlink_to("real/state")
    assert only(configured(tmp_path, state="elsewhere", watches=("real",))).key == "watch.w0.path"
    (tmp_path / "loop").symlink_to("loop")
    assert configured(tmp_path, watches=("loop",)) == []


def test_the_default_state_directory_is_looked_at_too(tmp_path: Path) -> None:
    text = f'[[watch]]\nname = "files"\npath = "data"\n{QUEUE}'
    assert only(refused(text, tmp_path / "config.toml")).key == "watch.files.path"


@pytest.mark.parametrize("second", ["in", "in/a", ".", "link"])
def test_watches_may_share_and_nest(tmp_path: Path, second: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("in")
    assert configured(tmp_path, state="/srv/state", watches=("in", second)) == []


def test_the_log_lies_outside_every_watch(tmp_path: Path) -> None:
    problem = only(configured(tmp_path, log="in/logs/pq.log"))
    assert (problem.key, problem.line) == ("daemon.log_file", 3)
    assert "each line would make a job" in problem.hint


def test_a_refused_path_is_not_compared(tmp_path: Path) -> None:
    assert [p.key for p in configured(tmp_path, watches=("~/in", "in"))] == ["watch.w0.path"]
    assert [p.key for p in configured(tmp_path, state="", watches=("in",))] == ["daemon.state_dir"]


def test_the_filesystem_of_what_is_not_there_yet_is_that_around_it(tmp_path: Path) -> None:
    assert kind_of(tmp_path / "not/yet/there") == filesystem(tmp_path)
    assert kind_of(Path("/proc/1/status")) == filesystem(Path("/proc"))


def test_a_state_directory_on_a_network_filesystem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = filesystem(tmp_path)
    monkeypatch.setattr(directories, "NETWORK", frozenset({kind}))
    problem = only(configured(tmp_path))
    assert (problem.key, problem.found) == ("daemon.state_dir", '"state"')
    assert problem.hint == f"it is on a filesystem of kind {kind}"


def test_within_is_by_whole_names() -> None:
    assert is_within(Path("/a/b"), Path("/a"))
    assert is_within(Path("/a"), Path("/a"))
    assert not is_within(Path("/ab"), Path("/a"))
