"""The walk in the ledger's order, and what the two say of each other."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pq_daemon.jobs.model import WatchName
from pq_daemon.jobs.order import Moment
from pq_daemon.jobs.versions import Identity
from pq_daemon.producer import scanning
from pq_daemon.producer.plan import Plan, make_plan
from pq_daemon.producer.scanning import Chunk, Seen, Stopped, assess, compare, confirm_gone, walk
from pq_daemon.store.protocol import FileState, LedgerEntry
from tests.producer.folder import a_watch, settings_of

NAMES = st.sampled_from(["a", "b", "a.", "a-", "a0", "A", "ab", ".x", "\udcff", "é", "a b"])
TREES = st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=25)


def a_plan(root: Path, **changes: object) -> Plan:
    return make_plan(settings_of(root / "state", a_watch(root, **changes)))


def walked(plan: Plan, root: Path, top: Path | None = None) -> list[Chunk]:
    return list(walk(plan, bytes(root), bytes(top or root), threading.Event()))


def paths(chunks: list[Chunk]) -> list[bytes]:
    return [seen.path for chunk in chunks for seen in chunk.files]


def grow(root: Path, tree: list[list[str]]) -> set[bytes]:
    """Make files at the paths, as far as no file is in the way of a directory."""
    files = set()
    for names in tree:
        path = root.joinpath(*names)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
        except OSError:
            continue
        files.add(bytes(path))
    return files


@given(TREES)
@settings(max_examples=60, deadline=None)
def test_every_file_once_in_the_order_of_whole_paths(tree: list[list[str]]) -> None:
    with TemporaryDirectory() as name:
        root = Path(name)
        files = grow(root, tree)
        assert paths(walked(a_plan(root), root)) == sorted(files)


@given(TREES, st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_the_pieces_fit_together(tree: list[list[str]], size: int) -> None:
    """Each piece holds exactly what lies between the end of the one before and its own."""
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "CHUNK", size)
        patch.setattr(scanning, "DIRECTORIES_MOST", size)
        root = Path(name)
        files = grow(root, tree)
        after = b""
        for chunk in walked(a_plan(root), root):
            upto = chunk.upto or b"\xff" * 10
            assert [seen.path for seen in chunk.files] == sorted(
                path for path in files if after < path <= upto
            )
            after = upto


def test_links_are_not_followed_and_what_is_ours_is_left_out(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for name in ("sub", "done", ".pq/work", "sub/.pq"):
        (root / name).mkdir(parents=True)
        (root / name / "file").write_text("x")
    (root / ".pq-7.pdf").write_text("x")
    (root / "loop").symlink_to(root)
    found = paths(walked(a_plan(root, on_success="move:done"), root))
    assert found == [bytes(root / name) for name in ("loop", "sub/.pq/file", "sub/file")]


def test_a_flat_watch_is_not_walked_deeper(tmp_path: Path) -> None:
    grow(tmp_path, [["a"], ["sub", "b"]])
    assert paths(walked(a_plan(tmp_path, recursive=False), tmp_path)) == [bytes(tmp_path / "a")]


def test_part_of_a_tree(tmp_path: Path) -> None:
    grow(tmp_path, [["a"], ["sub", "b"], ["sub", "c", "d"], ["sub0"]])
    found = paths(walked(a_plan(tmp_path), tmp_path, tmp_path / "sub"))
    assert found == [bytes(tmp_path / "sub/b"), bytes(tmp_path / "sub/c/d")]


def test_a_directory_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    grow(tmp_path, [["a"]])
    top = bytes(tmp_path)
    deep = top + b"/d" * 2100  # longer than a path can be, so not even root can read it
    chunk = Chunk()
    assert list(scanning._list(deep, chunk)) == []
    assert chunk.unreadable == [deep]
    assert scanning.is_gone(deep) is False


def test_a_directory_whose_name_is_not_utf8_is_named(tmp_path: Path) -> None:
    grow(tmp_path, [["\udcff", "a"]])
    [chunk] = walked(a_plan(tmp_path), tmp_path)
    assert chunk.foreign == bytes(tmp_path) + b"/\xff"


def test_a_walk_stops_when_we_do(tmp_path: Path) -> None:
    grow(tmp_path, [["a"]])
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(Stopped):
        list(walk(a_plan(tmp_path), bytes(tmp_path), bytes(tmp_path), stopping))


# --- against the ledger --------------------------------------------------------------------------

ONE, TWO = Identity(1, 10, 100, 100), Identity(1, 10, 100, 200)


def row(
    path: bytes = b"/in/a",
    state: FileState = FileState.ACCEPTED,
    *,
    accepted: Identity | None = ONE,
    seen: Identity = ONE,
    gone: bool = False,
    reason: str | None = None,
) -> LedgerEntry:
    return LedgerEntry(
        path, WatchName("files"), state, reason, seen, accepted, b"", None, gone, Moment(0)
    )


@pytest.mark.parametrize(
    ("entry", "is_news"),
    [
        (None, True),
        (row(), False),
        (row(accepted=TWO), True),
        (row(gone=True, state=FileState.VANISHED), True),
        (row(state=FileState.WAITING, accepted=None), True),
        (row(state=FileState.IGNORED, reason="existing"), False),
    ],
)
def test_what_is_news(entry: LedgerEntry | None, is_news: bool) -> None:
    entries = [] if entry is None else [entry]
    difference = compare([Seen(b"/in/a", ONE, regular=True)], entries, inodes_count=True)
    assert bool(difference.news) is is_news


def test_inode_numbers_that_mean_nothing_are_left_out() -> None:
    other = ONE._replace(inode=2)
    files = [Seen(b"/in/a", other, regular=True)]
    assert compare(files, [row()], inodes_count=True).news
    assert not compare(files, [row()], inodes_count=False).news


def test_who_is_absent() -> None:
    rows = [row(b"/in/a"), row(b"/in/b"), row(b"/in/c", FileState.VANISHED, gone=True)]
    difference = compare([Seen(b"/in/a", ONE, regular=True)], rows, inodes_count=True)
    assert [entry.path for entry in difference.absent] == [b"/in/b"]


def test_only_what_is_surely_gone_vanishes(tmp_path: Path) -> None:
    root = bytes(tmp_path)
    (tmp_path / "there").write_text("x")
    (tmp_path / "now a directory").mkdir()
    names = [b"there", b"now a directory", b"gone", b"there/below a file", b"locked/x"]
    rows = [row(root + b"/" + name) for name in names] + [row(b"/elsewhere/x")]
    gone = confirm_gone(a_plan(tmp_path), root, rows, unreadable=[root + b"/locked"])
    assert [os.path.relpath(path, root) for path in gone] == [
        b"now a directory",
        b"gone",
        b"there/below a file",
    ]


def test_a_row_that_says_it_already_is_not_written_again(tmp_path: Path) -> None:
    path = bytes(tmp_path) + b"/a.tmp"
    files, plan = [Seen(path, ONE, regular=True)], a_plan(tmp_path)
    [sighting] = assess(plan, bytes(tmp_path), files, [], inodes_count=True).aside
    assert (sighting.state, sighting.reason) == (FileState.IGNORED, "temporary name")
    said = row(path, FileState.IGNORED, accepted=None, reason="temporary name")
    assert not assess(plan, bytes(tmp_path), files, [said], inodes_count=True).aside
