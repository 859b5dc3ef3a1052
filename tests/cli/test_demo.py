"""The demo: what it adds, what it drops, and what it never touches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pq_daemon.cli import demo, demo_handler
from pq_daemon.config.loading import parse
from pq_daemon.config.problems import ConfigurationError
from pq_daemon.errors import InvalidRequestError

OURS = (
    '[[watch]]\nname = "files"\npath = "data/files"\n'
    '[[watch]]\nname = "disk"\npath = "/mnt/absent"\nqueue = "files"\n'
    '[queue.files]\ncommand = ["sha256sum", "--", "{path}"]\n'
)


def test_it_adds_queues_and_watches_and_leaves_the_rest(tmp_path: Path) -> None:
    settings = parse(OURS, tmp_path / "config.toml")
    shown = demo.with_samples(settings)
    assert shown.watches[:2] == settings.watches
    assert shown.queues["files"] == settings.queues["files"]
    assert list(shown.queues) == ["files", "demo-slow", "demo-failing", "demo-flaky"]
    assert [watch.queue for watch in shown.watches[2:]] == list(shown.queues)[1:]
    assert demo.with_samples(shown) == shown


def test_it_makes_its_own_folders_and_no_others(tmp_path: Path) -> None:
    demo.make_folders(demo.with_samples(parse(OURS, tmp_path / "config.toml")))
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    kinds = {f"data/demo/{kind}" for kind in ("slow", "failing", "flaky")}
    assert made == {"data", "data/files", "data/demo", *kinds}
    assert not Path("/mnt/absent").exists()


@pytest.mark.parametrize("path", ["data", "data/demo", "data/demo/slow/deeper", "."])
def test_a_watch_over_its_folder_is_refused(tmp_path: Path, path: str) -> None:
    disk = OURS.replace('"data/files"', '"/mnt/elsewhere"').replace("/mnt/absent", path)
    text = '[daemon]\nstate_dir = "/var/lib/pq"\n' + disk
    settings = parse(text, tmp_path / "config.toml")
    with pytest.raises(ConfigurationError, match="watch disk and the demo would share"):
        demo.with_samples(settings)


def test_folders_that_cannot_be_made_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the way")
    settings = demo.with_samples(parse(OURS, tmp_path / "config.toml"))
    with pytest.raises(InvalidRequestError, match=r"data/files: .*"):
        demo.make_folders(settings)


def test_quick_samples_only_go_to_a_folder_that_is_watched(tmp_path: Path) -> None:
    bare = parse('[queue.a]\ncommand = ["true"]\n', tmp_path / "config.toml")
    assert list(demo.places(demo.with_samples(bare))) == ["slow", "failing", "flaky"]


def test_samples_are_whole_and_old_ones_go_away(tmp_path: Path) -> None:
    own = tmp_path / "letter.txt"
    own.write_text("mine")
    for number in range(40):
        dropped = demo.drop(tmp_path, f"sample-quick-{number:03}.txt", "quick")
        os.utime(dropped, ns=(number, number))
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == demo.KEPT + 1
    assert left[-1] == "sample-quick-039.txt"
    assert own.read_text() == "mine"


def test_no_two_samples_have_the_same_content(tmp_path: Path) -> None:
    texts = {demo.drop(tmp_path, f"sample-{n}.txt", "quick").read_text() for n in range(10)}
    assert len(texts) == 10


@pytest.mark.parametrize(
    ("counts", "busy"),
    [
        ({"queued": 9, "succeeded": 5000}, False),
        ({"queued": 9, "running": 1}, True),
        ({"held": 10}, True),
        ({}, False),
    ],
)
def test_a_queue_that_is_behind_gets_no_more(counts: dict[str, int], busy: bool) -> None:
    assert demo.is_busy(counts) is busy


def handler(kind: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the demo's handler as the daemon does."""
    return subprocess.run(
        [sys.executable, "-I", demo_handler.__file__, kind],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_slow_kind_tells_its_progress_and_a_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_handler, "STEP", 0.0)
    assert demo_handler.slow("a.txt") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("::progress ")]) == demo_handler.STEPS
    assert lines[-2].startswith("::progress 100 ")
    assert json.loads(lines[-1].removeprefix("::result ")) == {"name": "a.txt", "steps": 8}


def test_the_flaky_kind_succeeds_at_the_third_attempt() -> None:
    ends = [handler("flaky", PQ_NAME="a.txt", PQ_ATTEMPT=str(n)).returncode for n in (1, 2, 3)]
    assert ends == [1, 1, 0]


def test_the_failing_kind_fails_and_says_why() -> None:
    failed = handler("failing", PQ_NAME="a.txt")
    assert failed.returncode == 1
    assert "a.txt: line 1: this sample is broken on purpose" in failed.stderr
