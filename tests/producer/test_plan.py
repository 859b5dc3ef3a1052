"""Which watch takes a file, when several could."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pq_daemon.producer.plan import Plan, below, make_plan, outermost, parent
from pq_daemon.store.protocol import FileState
from tests.producer.folder import a_watch, settings_of

if TYPE_CHECKING:
    from pathlib import Path


def a_plan(top: Path, *watches: dict[str, Any]) -> Plan:
    """A plan of watches given by name and keys; `path` is relative to `top`."""
    built = [a_watch(top / watch.pop("path", ""), **watch) for watch in watches]
    return make_plan(settings_of(top / "state", *built))


def taker(plan: Plan, path: Path, size: int = 1) -> tuple[str, str | None] | None:
    judged = plan.judge(bytes(path), size, regular=True)
    return None if judged is None else (judged.watch.name, judged.reason)


def test_the_deepest_watch_wins_whatever_its_patterns(tmp_path: Path) -> None:
    plan = a_plan(
        tmp_path, {"name": "all"}, {"name": "pdf", "path": "sub/pdf", "include": ("*.pdf",)}
    )
    assert taker(plan, tmp_path / "sub/a.pdf") == ("all", None)
    assert taker(plan, tmp_path / "sub/pdf/x/a.pdf") == ("pdf", None)
    assert taker(plan, tmp_path / "sub/pdf/a.txt") == ("pdf", "not included")
    assert taker(plan, tmp_path / "sub/pdfs/a.txt") == ("all", None)


def test_on_one_directory_the_first_whose_patterns_match(tmp_path: Path) -> None:
    plan = a_plan(
        tmp_path,
        {"name": "pdf", "include": ("*.pdf",)},
        {"name": "rest", "exclude": ("*.doc",)},
        {"name": "never"},
    )
    assert taker(plan, tmp_path / "a.pdf") == ("pdf", None)
    assert taker(plan, tmp_path / "a.txt") == ("rest", None)
    assert taker(plan, tmp_path / "a.doc") == ("never", None)
    assert taker(plan, tmp_path / ".a") == ("pdf", "temporary name")


def test_a_flat_watch_leaves_its_folders_to_the_one_around_it(tmp_path: Path) -> None:
    plan = a_plan(tmp_path, {"name": "all"}, {"name": "flat", "path": "flat", "recursive": False})
    assert taker(plan, tmp_path / "flat/a") == ("flat", None)
    assert taker(plan, tmp_path / "flat/sub/a") == ("all", None)
    assert plan.enters(bytes(tmp_path), bytes(tmp_path / "flat"))
    assert not plan.enters(bytes(tmp_path / "flat"), bytes(tmp_path / "flat/sub"))


def test_a_walk_stops_at_another_watchs_tree(tmp_path: Path) -> None:
    plan = a_plan(tmp_path, {"name": "all"}, {"name": "deep", "path": "deep"})
    assert not plan.enters(bytes(tmp_path), bytes(tmp_path / "deep"))
    assert plan.enters(bytes(tmp_path), bytes(tmp_path / "other"))


def test_nobody_takes_what_lies_outside(tmp_path: Path) -> None:
    plan = a_plan(tmp_path, {"name": "in", "path": "in"})
    assert taker(plan, tmp_path / "a") is None
    assert taker(plan, tmp_path / "inner/a") is None


@pytest.mark.parametrize(
    ("size", "least", "reason"),
    [(0, 1, "empty"), (0, 0, None), (3, 4, "too small"), (4, 4, None)],
)
def test_small_files_wait(tmp_path: Path, size: int, least: int, reason: str | None) -> None:
    plan = a_plan(tmp_path, {"name": "in", "min_size": least})
    judged = plan.judge(bytes(tmp_path / "a"), size, regular=True)
    assert judged is not None
    assert (judged.state, judged.reason) == (FileState.WAITING, reason)


def test_ours_is_left_out_always(tmp_path: Path) -> None:
    plan = a_plan(tmp_path, {"name": "in", "builtin_excludes": False})
    for name in (".pq", ".pq/work/7/a", ".pq-7-out.pdf", "sub/.pq-x"):
        assert plan.lies_left_out(bytes(tmp_path / name)), name
    for name in ("pq", "sub/.pq/a", "a.pq-", ".pqx"):
        assert not plan.lies_left_out(bytes(tmp_path / name)), name


NAMES = st.sampled_from([b"a", b"b", b"a.", b"a-", b"\xff"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: b"/" + b"/".join(names))


@given(st.lists(PATHS, max_size=8))
def test_outermost_covers_all_and_none_twice(paths: list[bytes]) -> None:
    kept = outermost(paths)
    assert all(path in kept or any(below(path, top) for top in kept) for path in paths)
    assert not any(below(one, other) for one in kept for other in kept)


@given(PATHS, NAMES)
def test_below_means_a_whole_name(path: bytes, name: bytes) -> None:
    assert below(path + b"/" + name, path)
    assert not below(path + name, path)
    assert not below(path, path)
    assert parent(path + b"/" + name) == path
