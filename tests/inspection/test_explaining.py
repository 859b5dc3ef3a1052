"""Each reason why a path is not picked up, on real files, in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pq_daemon.config.loading import parse
from pq_daemon.inspection.explaining import explain

if TYPE_CHECKING:
    from pq_daemon.config import Settings

NOBODY = 65534
CONFIG = """
[[watch]]
name = "in"
path = "in"
include = ["*.txt", "sub/*.log"]
exclude = ["secret*"]
min_size = "3B"
settle = "10ms"
on_success = "move:done"
{more}

[queue.in]
command = ["convert", "--password=hush", "{{path}}", "{{job_id}}", "{{output}}"]
output = "out/{{relparent}}/{{stem}}.pdf"
priority = "high"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return configured(tmp_path)


def configured(tmp_path: Path, more: str = "") -> Settings:
    (tmp_path / "in").mkdir()
    return parse(CONFIG.format(more=more), tmp_path / "config.toml")


def asked(path: Path | bytes, settings: Settings) -> dict[str, Any]:
    return explain(path if isinstance(path, bytes) else os.fsencode(path), settings)


def obstacle(path: Path | bytes, settings: Settings) -> tuple[str, str]:
    """The question that ended badly, and its answer; nothing comes after it."""
    seen = asked(path, settings)
    assert not seen["ready"]
    assert [step["good"] for step in seen["steps"]].index(False) == len(seen["steps"]) - 1
    return seen["steps"][-1]["about"], seen["steps"][-1]["words"]


def old(path: Path, content: str = "text\n") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path


def test_a_file_that_nothing_keeps(tmp_path: Path, settings: Settings) -> None:
    path = old(tmp_path / "in/sub/a b.log")
    seen = asked(path, settings)
    assert [step["about"] for step in seen["steps"]] == [
        "watch", "way", "file", "name", "size", "content", "settle",
    ]  # fmt: skip
    assert (seen["watch"], seen["relpath"]) == ("in", "sub/a b.log")
    assert 'matches include "sub/*.log"' in seen["steps"][3]["words"]
    assert seen["would"] == {
        "queue": "in",
        "priority": "high",
        "held": False,
        "runs": [
            "convert",
            "--password=(hidden)",
            str(path),
            "<job id>",
            f"{tmp_path}/out/sub/a b.pdf",
        ],
        "output": f"{tmp_path}/out/sub/a b.pdf",
        "problem": None,
    }


def test_names(tmp_path: Path, settings: Settings) -> None:
    for name, words in (
        (".a.txt", "unfinished files"),
        ("a.txt.part", "unfinished files"),
        ("secret.txt", 'exclude "secret*" matches it'),
        ("a.pdf", "no pattern of include matches it: *.txt, sub/*.log"),
    ):
        about, said = obstacle(old(tmp_path / "in" / name), settings)
        assert about == "name"
        assert words in said
        assert asked(tmp_path / "in" / name, settings)["would"] is None


def test_sizes(tmp_path: Path, settings: Settings) -> None:
    empty, small = old(tmp_path / "in/e.txt", ""), old(tmp_path / "in/s.txt", "x")
    assert "it is empty, and min_size is 3 bytes" in obstacle(empty, settings)[1]
    assert "it has 1 bytes, and min_size is 3 bytes" in obstacle(small, settings)[1]
    assert asked(small, settings)["would"]["queue"] == "in"


def test_what_is_no_file(tmp_path: Path, settings: Settings) -> None:
    inside = tmp_path / "in"
    (inside / "link.txt").symlink_to(old(tmp_path / "real.txt"))
    os.mkfifo(inside / "pipe.txt")
    (inside / "dir.txt").mkdir()
    for name, words in (
        ("link.txt", "links are not followed"),
        ("pipe.txt", "a named pipe"),
        ("dir.txt", "a folder: the files in it"),
        ("none.txt", "there is no such file"),
    ):
        about, said = obstacle(inside / name, settings)
        assert (about, words in said) == ("file", True), said


def test_where_nobody_looks(tmp_path: Path) -> None:
    settings = configured(tmp_path, "recursive = false")
    about, words = obstacle(old(tmp_path / "elsewhere.txt"), settings)
    assert about == "watch"
    assert words == f"no watch looks there; watched are: {tmp_path}/in (in)"
    assert "recursive = false" in obstacle(old(tmp_path / "in/sub/a.txt"), settings)[1]
    assert "the folder of watch" in obstacle(tmp_path / "in", settings)[1]


def test_outside_of_the_watches_nothing_is_looked_at(tmp_path: Path, settings: Settings) -> None:
    there, absent = asked(old(tmp_path / "x"), settings), asked(tmp_path / "y", settings)
    assert [step["words"] for step in there["steps"]] == [s["words"] for s in absent["steps"]]


def test_what_is_left_out(tmp_path: Path, settings: Settings) -> None:
    assert "put away into" in obstacle(old(tmp_path / "in/done/a.txt"), settings)[1]
    assert "half-written" in obstacle(old(tmp_path / "in/.pq-1-1-a.txt"), settings)[1]


def test_a_file_that_is_being_written_names_its_writer(tmp_path: Path, settings: Settings) -> None:
    path = old(tmp_path / "in/a.txt")
    with path.open("a") as file:
        writer = subprocess.Popen(["sleep", "60"], stdout=file)
    with writer:
        about, words = obstacle(path, settings)
        writer.kill()
    assert about == "content"
    assert words == f"it is open for writing by sleep (process {writer.pid})"


def test_a_file_that_has_just_changed(tmp_path: Path) -> None:
    settings = configured(tmp_path)
    slow = settings.watches[0].model_copy(update={"settle": 3600.0})
    settings = settings.model_copy(update={"watches": (slow,)})
    about, words = obstacle(old(tmp_path / "in/a.txt"), settings)
    assert about == "settle"
    assert words.startswith("a file must stay unchanged for 3600 s; this one has for 0.")


def test_a_name_that_is_not_utf_8(tmp_path: Path, settings: Settings) -> None:
    path = os.fsencode(tmp_path / "in") + b"/na\xefve.txt"
    with open(path, "wb") as file:  # noqa: PTH123 - the name is bytes
        file.write(b"text")
    seen = asked(path, settings)
    assert seen["relpath"] == "na\\udcefve.txt"
    assert {"path_b64", "relpath_b64"} <= seen.keys()
    assert seen["would"]["runs"][2].endswith("na\\udcefve.txt")


def test_a_way_through_a_link_is_the_same_place(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "way").symlink_to(tmp_path / "in")
    old(tmp_path / "in/a.txt")
    assert asked(tmp_path / "way/a.txt", settings)["path"] == f"{tmp_path}/in/a.txt"


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to be somebody else")
def test_rights_that_somebody_else_lacks(tmp_path: Path, settings: Settings) -> None:
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    closed = old(tmp_path / "in/a.txt")
    closed.chmod(0o600)
    assert said_to_nobody(closed, settings) == [
        "content",
        "user nobody may not read it: Permission denied (owner root, group root, mode 0600)",
    ]
    (tmp_path / "in/sub").mkdir(mode=0o700)
    assert said_to_nobody(old(tmp_path / "in/sub/b.log"), settings) == [
        "way",
        f"{tmp_path}/in/sub may not be entered by user nobody (owner root, group root, mode 0700)",
    ]


def said_to_nobody(path: Path, settings: Settings) -> list[str]:
    """What a process without rights is told. Its imports come first: ours may be closed to it."""
    script = (
        "import json, os, sys; from pathlib import Path\n"
        "from pq_daemon.config.loading import parse\n"
        "from pq_daemon.inspection.explaining import explain\n"
        "import pwd, grp, encodings.idna\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "settings = parse(sys.argv[1], Path(sys.argv[2]))\n"
        "step = explain(os.fsencode(sys.argv[3]), settings)['steps'][-1]\n"
        "print(json.dumps([step['about'], step['words']]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, settings.text, str(settings.source), str(path)],
        capture_output=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    answer: list[str] = json.loads(done.stdout)
    return answer
